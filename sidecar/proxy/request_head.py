"""The head of a request, checked before anything is read out of it.

Two parties that understand one head differently are how requests are smuggled and identities
forged, so whatever could be read in two ways is refused: a header that must be single given
twice, an underscore for a hyphen, bytes beyond ASCII, a path that some server would normalise
into another one. Routes are matched on the raw target only; nothing here decodes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from sidecar.core.governance.virtual_keys import KEY_PREFIX
from sidecar.providers.registry import dialect_for
from sidecar.proxy.refusals import Header, RefusalReason, Refused
from sidecar.proxy.subject_fields import meant_by

GOOD_HOSTS_MAX: Final = 64
"""Of a caller's own spellings of our names."""

KNOWN_NAMES_MAX: Final = 1024
"""How many spellings of header names are remembered with their lower-case form."""

KNOWN_NAME_BYTES_MAX: Final = 64
"""A longer name is looked at anew each time."""

GOOD_TARGET_CHARS_MAX: Final = 512
"""A longer target is checked anew each time."""

GOOD_TARGETS_MAX: Final = 1024
"""How many targets are remembered as well formed."""

LOOPBACK_HOSTS: Final = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})

CREDENTIAL_HEADERS: Final = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})

VIRTUAL_KEY_MARK: Final = KEY_PREFIX.encode()
"""By which a virtual key is told from a provider's, wherever it stands."""

SPEND_KEY: Final = b"spend-key"
"""Where a virtual key may stand beside a provider's."""

_KEY_HEADERS: Final = (SPEND_KEY, *sorted(CREDENTIAL_HEADERS))

PLAIN_CONNECTIONS: Final = frozenset({None, b"keep-alive", b"close", b"Keep-Alive"})
"""What a Connection header says that names no lines; None: there is none."""

_SINGLE: Final = CREDENTIAL_HEADERS | {
    b"host",
    b"content-type",
    b"content-encoding",
    b"expect",
    b"idempotency-key",
    b"origin",
    b"transfer-encoding",
}
_PLAIN_TYPES: Final = frozenset({None, b"application/json"})
_MAY_BE_JSON: Final = re.compile(
    rb"|[a-z]+/(?:[a-z0-9.-]+\+|x-)?json"
    rb"|text/plain|application/octet-stream"  # of those who do not say what they mean
    rb"|multipart/.*"  # its delimiters make it no JSON, so it is refused as none, by its size first
)
_FORM: Final = b"application/x-www-form-urlencoded"
_ANY_TYPE: Final = frozenset({"ollama.chat", "ollama.embed"})
"""Dialects whose servers look at no type, and whose manual calls them by curl, which then says that it sends a form.

Source: ollama/ollama docs/api.md, server/routes.go (`ShouldBindJSON`), checked 2026-11.
"""

_UTF_8: Final = frozenset({b"utf-8", b"utf8", b"us-ascii"})
_BLANKS: Final = b" \t"
_OWN_SITES: Final = frozenset({b"same-origin", b"none"})
PORT_MAX: Final = 65_535

_BODILESS: Final = frozenset({"GET", "HEAD", "CONNECT"})
_UNUSUAL: Final = frozenset(
    {
        b"transfer-encoding",
        b"content-encoding",
        b"expect",
        b"idempotency-key",
        b"upgrade",
        b"origin",
        b"access-control-request-method",
        b"sec-fetch-site",
    }
)
_VERSIONS: Final = frozenset({(1, 1), (1, 0)})
_VISIBLE: Final = re.compile(r"[!-~]+")
_PATH_TRICKS: Final = re.compile(
    r"//|/\.\.?(?:/|$)|\\"  # empty and dot segments, a slash the other way
    r"|%(?![0-9A-Fa-f]{2})"  # half an escape
    # escaped control characters and separators, and escapes of what needs none: a provider that decodes
    # `/v1/%63hat` would serve what was never metered here
    r"|%(?:[01][0-9A-Fa-f]|2[D-Fd-f]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[CFcf]|7[EFef])"
)
_ARN: Final = re.compile(
    r"(?<=/model/)arn(?:(?:%3A|:)[a-z0-9-]*){4}(?:%3A|:)[a-z-]+%2F[a-z0-9](?:[a-z0-9._-]|%3A|:)*(?=/)", re.I | re.A
)
"""Amazon's name for one of its own in the place of a model's name: the only escaped slash that a path may have.

Source: docs.aws.amazon.com "Amazon Resource Names", boto/botocore's serializer, which escapes it; checked 2026-11.
"""

_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
_ORIGIN: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#@\s]+)")

_IDEMPOTENCY_KEY: Final = re.compile(rb"[!-~]{1,255}")

_lower_names: dict[bytes, bytes] = {}
_misspelt: dict[bytes, str] = {}
_good_targets: set[str] = set()
_good_hosts: dict[bytes, frozenset[bytes]] = {}
"""Written with a port, and by which names they were found good."""


def lower_name(name: bytes) -> bytes:
    """The name in lower case; spellings seen before cost one lookup."""
    lower = _lower_names.get(name)
    if lower is None:
        lower = name.lower()
        if len(name) > KNOWN_NAME_BYTES_MAX:
            return lower
        if lower.startswith(b"spend-") and len(_misspelt) < KNOWN_NAMES_MAX:
            said = lower.removeprefix(b"spend-").decode("latin-1")
            meant = meant_by(said)
            if meant and meant != said:
                _misspelt[lower] = meant
        if len(_lower_names) < KNOWN_NAMES_MAX:
            _lower_names[name] = lower
    return lower


class RequestHead:
    """A checked head.

    Attributes:
        method: as sent, upper case.
        target: the raw request target, as sent: path and query, visible ASCII, beginning with one `/`.
        headers: the raw header lines, as sent and in order.
        fields: the same by lower-case name; several lines of one name are joined by `, ` (those that
            must be single are refused before).
        http_1_0: the caller speaks HTTP/1.0: it knows no chunks and no keep-alive here.
        key: the virtual key that came with it; None for none, b"" for several that differ.
        has_own_key: a credential came that is no virtual key.
        sent: what went out for it last, to be written again (`request_filter`).
        written: how it is written, so that it is known again by its bytes (`known_heads`); None: not known.
    """

    __slots__ = ("fields", "has_own_key", "headers", "http_1_0", "key", "method", "sent", "target", "written")

    def __init__(
        self, method: str, target: str, headers: Sequence[Header], fields: dict[bytes, bytes], *, http_1_0: bool
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.fields = fields
        self.http_1_0 = http_1_0
        self.key, self.has_own_key = _keys(fields)
        self.sent: tuple[object, bytes] | None = None
        self.written: tuple[bytes, bytes] | None = None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def get(self, name: bytes) -> bytes | None:
        """The value of the header with this lower-case name; None if it was not sent."""
        return self.fields.get(name)


def _keys(fields: dict[bytes, bytes]) -> tuple[bytes | None, bool]:
    """See `RequestHead.key`, `RequestHead.has_own_key`."""
    found: bytes | None = None
    has_own = False
    for name in _KEY_HEADERS:
        value = fields.get(name)
        if value is None:
            continue
        if name != SPEND_KEY and VIRTUAL_KEY_MARK not in value:
            has_own = True
            continue
        scheme, _, rest = value.partition(b" ")
        key = rest.strip() if name == b"authorization" and scheme.lower() == b"bearer" else value
        found = key if found is None or found == key else b""
    return found, has_own


def read_head(
    method: str, target: str, version: tuple[int, int], headers: Sequence[Header], *, hosts: frozenset[bytes]
) -> RequestHead:
    """Check a head that a parser has taken apart.

    Args:
        method: the method.
        target: the raw target.
        version: (major, minor) of HTTP.
        headers: raw lines in order; names are tokens, values without CR, LF and NUL (the parser's work).
        hosts: names, lower case and without port, under which we may be called.

    Raises:
        Refused: what is wrong first; nothing of the head is repeated in it.
    """
    if version not in _VERSIONS:
        raise Refused(RefusalReason.VERSION, "this port speaks HTTP/1.1 and HTTP/1.0", closes=True)
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        lower = _lower_names.get(name) or lower_name(name)
        if not value.isascii():
            raise Refused(RefusalReason.MALFORMED, "a header's value has bytes beyond ASCII", closes=True)
        if lower in fields:
            fields[lower] = _join_repeated(lower, fields[lower], value)
        else:
            fields[lower] = value
            if b"_" in lower:
                _refuse_twin(lower)
    if _misspelt and not _misspelt.keys().isdisjoint(fields):
        _refuse_misspelt(fields)
    if target not in _good_targets:
        _check_target(target)
    host = fields.get(b"host")
    if host is not None and host not in hosts and _good_hosts.get(host) is not hosts:
        _check_host(host, hosts)
    if fields.get(b"content-type") not in _PLAIN_TYPES:
        _check_type(target, fields[b"content-type"])
    head = RequestHead(method, target, headers, fields, http_1_0=version[1] == 0)
    if method in _BODILESS or not _UNUSUAL.isdisjoint(fields):
        _check_unusual(head, hosts)
    return head


def _join_repeated(lower: bytes, first: bytes, second: bytes) -> bytes:
    if lower.startswith(b"spend-"):
        raise Refused(RefusalReason.SUBJECT_CONFLICT, f"the header {_shown(lower)} is given twice")
    if lower in _SINGLE:
        raise Refused(RefusalReason.REPEATED_HEADER, f"the header {lower.decode()} is given twice", closes=True)
    return first + b", " + second


def _shown(lower: bytes) -> str:
    """A header's name, fit for a message whatever it is."""
    return lower[:64].decode("ascii", "replace")


def _refuse_twin(lower: bytes) -> None:
    """Some servers read `_` as `-`: a twin of a header that identifies would say another thing to them than to us."""
    twin = lower.replace(b"_", b"-")
    if twin.startswith(b"spend-") or twin in _SINGLE or twin in {b"baggage", b"content-length"}:
        raise Refused(RefusalReason.MALFORMED, f"write {_shown(twin)} with hyphens", closes=True)


def _refuse_misspelt(fields: dict[bytes, bytes]) -> None:
    """Passed over, it would be a limit that does not apply, and nobody would hear of it."""
    meant = next(_misspelt[name] for name in fields if name in _misspelt)
    raise Refused(RefusalReason.MALFORMED, f"a header Spend-* is misspelt; did you mean Spend-{meant.title()}?")


def _check_target(target: str) -> None:
    if not target.startswith("/") or not _VISIBLE.fullmatch(target) or "#" in target:
        raise Refused(RefusalReason.MALFORMED, "the request target must be a path, in visible ASCII", closes=True)
    if _PATH_TRICKS.search(without_arn(target.partition("?")[0])):
        raise Refused(RefusalReason.MALFORMED, "the path has empty, dotted or disguised segments", closes=True)
    if KEY_PREFIX in target or ("%" in target and KEY_PREFIX in unquote(target)):
        message = "a virtual key must not stand in the path or the query, which others log: send it in a header"
        raise Refused(RefusalReason.MALFORMED, message, closes=True)
    if len(target) <= GOOD_TARGET_CHARS_MAX and len(_good_targets) < GOOD_TARGETS_MAX:
        _good_targets.add(target)


def _check_host(host: bytes, hosts: frozenset[bytes]) -> None:
    """Called under another name than ours, we may be the target of a web page whose DNS was rebound."""
    match = _HOST.fullmatch(host)
    if match is None:
        raise Refused(RefusalReason.MALFORMED, "the Host header is not a host", closes=True)
    if int(match[2] or 0) > PORT_MAX:
        raise Refused(RefusalReason.MALFORMED, "the Host header is not a host", closes=True)
    if match[1].lower() not in hosts:
        raise Refused(RefusalReason.HOST, "this sidecar does not go by that name", closes=True)
    if len(_good_hosts) < GOOD_HOSTS_MAX:
        _good_hosts[host] = hosts


def is_signed(fields: Mapping[bytes, bytes]) -> bool:
    """Whether a request is signed as Amazon has it, over its address among others.

    Source: docs.aws.amazon.com "Signature Version 4 signing process", boto/botocore `auth.py`; checked 2026-11.
    """
    return fields.get(b"authorization", b"").lower().startswith(b"aws4-")


def without_arn(path: str) -> str:
    """The path with `arn` for an ARN in a model's place."""
    return _ARN.sub("arn", path, count=1) if "/model/arn" in path else path


def _check_type(target: str, content_type: bytes) -> None:
    """A metered body is JSON, in UTF-8. A server that believes another type or charset reads other things out of it.

    In UTF-7 a quote is written with letters (`+ACI-`), in Shift_JIS a backslash may be half a character: what we read
    as one text would be a text and further fields there. And what is JSON with `&max_tokens=9999&` in a text is a
    form with that field.
    """
    dialect = dialect_for(target.partition("?")[0])
    if dialect is None:
        return
    media, *parameters = content_type.lower().split(b";")
    media = media.strip(_BLANKS)
    if not _MAY_BE_JSON.fullmatch(media) and (media != _FORM or dialect.name not in _ANY_TYPE):
        raise Refused(RefusalReason.MEDIA_TYPE, "send the body as application/json", closes=True)
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip(_BLANKS) == b"charset" and value.strip(_BLANKS).strip(b'"') not in _UTF_8:
            raise Refused(RefusalReason.CHARSET, "send the body in UTF-8, and say no other charset", closes=True)


def _check_unusual(head: RequestHead, hosts: frozenset[bytes]) -> None:
    fields = head.fields
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if head.http_1_0:
            raise Refused(RefusalReason.MALFORMED, "HTTP/1.0 has no transfer codings", closes=True)
        if coding.lower() != b"chunked":
            raise Refused(RefusalReason.TRANSFER_CODING, "the only transfer coding taken is chunked", closes=True)
    if head.method in _BODILESS and (coding is not None or fields.get(b"content-length", b"0") != b"0"):
        raise Refused(RefusalReason.MALFORMED, f"{head.method} takes no body here", closes=True)
    if fields.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refused(RefusalReason.BODY_CODING, "send the body without content-encoding", closes=True)
    if fields.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise Refused(RefusalReason.EXPECTATION, "the only expectation known is 100-continue", closes=True)
    if not _IDEMPOTENCY_KEY.fullmatch(fields.get(b"idempotency-key", b"-")):
        raise Refused(RefusalReason.MALFORMED, "an idempotency key is 1 to 255 characters of visible ASCII")
    if b"upgrade" in fields or head.method == "CONNECT":
        raise Refused(RefusalReason.UPGRADE, "this port upgrades to nothing and tunnels nowhere", closes=True)
    if (
        b"access-control-request-method" in fields
        or not _own_origin(fields.get(b"origin"), hosts)
        or fields.get(b"sec-fetch-site", b"none") not in _OWN_SITES  # browsers send it also where they send no Origin
    ):
        raise Refused(RefusalReason.BROWSER, "web pages may not call this sidecar")


def _own_origin(origin: bytes | None, hosts: frozenset[bytes]) -> bool:
    if origin is None:
        return True
    match = _ORIGIN.fullmatch(origin)
    host = None if match is None else _HOST.fullmatch(match[1])
    return host is not None and host[1].lower() in hosts
