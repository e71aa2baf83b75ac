"""Writing another output limit into a request: some bytes are replaced or put in, the rest stay as they are."""

from __future__ import annotations

from sidecar.providers.request_json import Members, read_object


def splice_whole(body: bytes, members: Members, name: str, value: int) -> bytes:
    """The body with the top-level member `name` a whole number: in place of what it has, or put in first.

    Args:
        body: a JSON object.
        members: as `read_object` gave them for this very body.
        name: plain ASCII.
        value: what to write.
    """
    written = b"%d" % value
    member = members.get(name)
    if member is not None:
        return body[: member.start] + written + body[member.end :]
    at = body.index(b"{") + 1
    return b'%b"%b":%b%b%b' % (body[:at], name.encode("ascii"), written, b"," if members else b"", body[at:])


def splice_within(body: bytes, members: Members, path: tuple[str, str], value: int) -> bytes:
    """The same for a member of the object that the top-level member `path[0]` is; made where it is absent or null.

    Raises:
        BadRequest: it is there and is no object.
    """
    outer, name = path
    member = members.get(outer)
    if member is None:
        at = body.index(b"{") + 1
        written = b'"%b":{"%b":%d}' % (outer.encode("ascii"), name.encode("ascii"), value)
        return body[:at] + written + (b"," if members else b"") + body[at:]
    if member.raw == b"null":
        written = b'{"%b":%d}' % (name.encode("ascii"), value)
    else:
        written = splice_whole(member.raw, read_object(member.raw, param=outer), name, value)
    return body[: member.start] + written + body[member.end :]
