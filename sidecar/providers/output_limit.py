"""Writing another output limit into a request: some bytes are replaced or put in, the rest stay as they are."""

from __future__ import annotations

from sidecar.providers.request_json import Members


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
