"""Why the doors turn a request away, before or beside any decision about money.

Reasons are words; only `proxy.deny` turns them into a status and a body, in the protocol that the
caller speaks. Nothing of the request is repeated in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

Header = tuple[bytes, bytes]
"""One header line: name as it is to be written, value; both without CR, LF or NUL."""

Reply = tuple[int, Sequence[Header], bytes]
"""A whole answer of our own: status, headers (without framing ones), body."""


class RefusalReason(StrEnum):
    """What stands in the way; in the comment, the status that HTTP has for it."""

    # the caller's framing and head
    MALFORMED = "malformed_request"  # 400
    VERSION = "http_version_not_supported"  # 505
    TRANSFER_CODING = "transfer_coding_not_supported"  # 501
    UPGRADE = "upgrade_not_supported"  # 501
    EXPECTATION = "expectation_failed"  # 417
    HEAD_TOO_LARGE = "head_too_large"  # 431
    HEAD_TOO_SLOW = "head_timeout"  # 408
    HOST = "host_not_allowed"  # 421
    BROWSER = "browser_refused"  # 403: a web page must not be a client of the sidecar
    REPEATED_HEADER = "header_repeated"  # 400
    SUBJECT_CONFLICT = "subject_conflict"  # 400: an identity header given twice
    # the caller's body
    BODY_TOO_LARGE = "body_too_large"  # 413
    BODY_TOO_SLOW = "body_timeout"  # 408
    MEDIA_TYPE = "media_type_not_supported"  # 415: nor what is said not to be JSON
    CHARSET = "charset_not_supported"  # 415: nor what another would read differently
    BODY_CODING = "content_encoding_not_supported"  # 415: what cannot be read cannot be priced
    # ourselves
    OVERLOADED = "sidecar_overloaded"  # 503; draining too
    INTERNAL = "internal_error"  # 500
    # the provider, before the caller saw a byte of its answer
    UPSTREAM_UNREACHABLE = "upstream_unreachable"  # 502; nothing was sent: safe to repeat
    UPSTREAM_BROKEN = "upstream_broken"  # 502; sent, and may be billed: not to be repeated
    UPSTREAM_TIMEOUT = "upstream_timeout"  # 504; sent, and may be billed: not to be repeated


class Refusal(msgspec.Struct, frozen=True):
    """One refusal: `message` is for a person; `closes` says that the connection cannot go on after it."""

    reason: RefusalReason
    message: str
    closes: bool = False


class Refused(Exception):
    """Raised by a door that turns a request away; carries the `refusal`."""

    def __init__(self, reason: RefusalReason, message: str, *, closes: bool = False) -> None:
        super().__init__(message)
        self.refusal = Refusal(reason, message, closes)


RefusalShape = Callable[[str, Refusal], Reply]
"""Gives a refusal the shape of the caller's protocol, told by the raw request target (`` when there was none)."""
