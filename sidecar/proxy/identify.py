"""Who is spending: read from the request's head, with the configuration's defaults for the rest.

Sources fill each other's gaps: the virtual key, `Spend-*` headers, the `spend.*` members of W3C
`baggage`, then the defaults. A field that two sources of the request give different values is
refused: whoever chose between them would be choosing who pays. A `Spend-*` header that is given twice
never comes this far (`request_head`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from sidecar.core.governance.decisions import Denied, Reason
from sidecar.core.governance.tenancy import Subject, format_path, is_id, parse_path
from sidecar.proxy.request_head import VIRTUAL_KEY_MARK
from sidecar.proxy.subject_fields import FIELDS, meant_by
from sidecar.proxy.unfit import Unfit, UnfitReason

REMEMBERED_SUBJECTS: Final = 8192
"""Sets of identity headers whose subject is remembered; the set used longest ago goes first."""

REMEMBERED_BYTES_MAX: Final = 1024
"""A longer set of identity headers is read anew each time: with those remembered, some 10 MiB at most are kept."""

_HEADERS: Final = tuple(f"spend-{field}".encode() for field in FIELDS)
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")

_Raw = tuple[bytes | None, ...]  # one value per field of FIELDS, then the baggage
_MARK: Final = VIRTUAL_KEY_MARK.decode()


class _TooLongToRemember(Exception):
    """Says so to a cache, which keeps what is returned and not what is raised."""


class Identifier:
    """Reads subjects. The same headers give the same subject, so a set seen before costs one lookup."""

    def __init__(self, defaults: Mapping[str, str] | None = None) -> None:
        """Make one; `defaults` maps names of FIELDS to values that fill what a request does not say.

        Raises:
            ValueError: a default that no request could send.
        """
        self._defaults = dict(defaults or {})
        unknown = sorted(set(self._defaults) - set(FIELDS))
        if unknown:
            raise ValueError(f"expected some of {', '.join(FIELDS)}, got {', '.join(unknown)}")
        checked = _subject({"customer": "any", **self._defaults})
        if not isinstance(checked, Subject):
            raise ValueError(f"{checked.param}: {checked.message}")
        self._remembered = lru_cache(maxsize=REMEMBERED_SUBJECTS)(self._read_to_remember)

    def identify(self, fields: Mapping[bytes, bytes], holder: Subject | None = None) -> Subject | Denied | Unfit:
        """The subject of a request with these header fields (lower-case names).

        `holder` is whom its virtual key names, and cannot be overruled; None: it has none.

        Returns:
            The subject; Denied where the customer is missing or two sources differ; Unfit where a
            value is not an id or a path.
        """
        baggage = fields.get(b"baggage")
        if baggage is not None and b"spend." not in baggage.lower():
            baggage = None  # a trace's own members differ per request and say nothing here
        raw = (*map(fields.get, _HEADERS), baggage)
        try:
            return self._remembered(raw, holder)
        except _TooLongToRemember:
            return self._read(raw, holder)

    def _read_to_remember(self, raw: _Raw, holder: Subject | None) -> Subject | Denied | Unfit:
        if sum(len(value) for value in raw if value is not None) > REMEMBERED_BYTES_MAX:
            raise _TooLongToRemember
        return self._read(raw, holder)

    def _read(self, raw: _Raw, holder: Subject | None) -> Subject | Denied | Unfit:
        said: dict[str, str] = {}
        for field, value in zip(FIELDS, raw, strict=False):
            if value is not None:
                said[field] = value.decode("latin-1")
        for field, text in _members(raw[-1] or b""):
            if field not in FIELDS:
                message = f"baggage: a member spend.* is misspelt; did you mean spend.{meant_by(field)}?"
                return Unfit(UnfitReason.INVALID_SUBJECT, message, param="baggage")
            if said.setdefault(field, text) != text:
                detail = f"{field} is given two different values by the request's headers and its baggage; send one"
                return Denied(Reason.SUBJECT_CONFLICT, detail)
        named = {} if holder is None else _named(holder)
        for field, text in named.items():
            if said.get(field, text) != text:
                detail = f"{field} is not the one that the virtual key names; leave it out, or send that one"
                return Denied(Reason.SUBJECT_CONFLICT, detail)
        merged = self._defaults | said | named
        if "customer" not in merged:
            detail = (
                "nobody is named who pays: send the header Spend-Customer (or the baggage member spend.customer), "
                "or set a default customer in the configuration"
            )
            return Denied(Reason.CUSTOMER_REQUIRED, detail)
        return _subject(merged)


def _named(holder: Subject) -> dict[str, str]:
    """What a virtual key's subject says of each field; what it leaves open is left out."""
    texts = {field: format_path(holder.path) if field == "path" else getattr(holder, field) for field in FIELDS}
    return {field: text for field, text in texts.items() if text}


def _members(baggage: bytes) -> list[tuple[str, str]]:
    """The fields that a `baggage` header gives, or nearly gives, in order.

    An undecodable value comes as text that is no id, a misspelt field under the name it has.

    Source: W3C Baggage, section 3.2.1 (members split by `,`, properties after `;`, values
    percent-encoded), checked 2026-11. Keys are compared without regard to case, as they are when
    our members are taken out of what goes on to the provider.
    """
    found: list[tuple[str, str]] = []
    for member in baggage.split(b","):
        key, equals, value = member.partition(b";")[0].partition(b"=")
        name = key.strip().lower().removeprefix(b"spend.").decode("latin-1")
        if equals and key.strip().lower().startswith(b"spend.") and meant_by(name):
            raw = value.strip()
            decoded = raw if _BAD_ESCAPE.search(raw) else unquote_to_bytes(raw)
            found.append((name, decoded.decode("latin-1")))
    return found


def _subject(fields: Mapping[str, str]) -> Subject | Unfit:
    """Check every value and make the subject."""
    for field, text in fields.items():
        if _MARK in text:
            message = f"{field}: a virtual key stands where a name is wanted; it would be kept with every call"
            return Unfit(UnfitReason.INVALID_SUBJECT, message, param=f"Spend-{field.title()}")
        if field != "path" and not is_id(text):
            message = f"{field}: expected 1 to 128 of A-Z a-z 0-9 . _ : @ -"
            return Unfit(UnfitReason.INVALID_SUBJECT, message, param=f"Spend-{field.title()}")
    try:
        path = parse_path(fields.get("path", ""))
    except ValueError:
        message = "path: expected kind:id parts from the outermost inwards, such as department:analytics/team:data"
        return Unfit(UnfitReason.INVALID_SUBJECT, message, param="Spend-Path")
    if any(node.kind == "user" for node in path):
        message = "path: a user is no part of the path; name them in Spend-User"
        return Unfit(UnfitReason.INVALID_SUBJECT, message, param="Spend-Path")
    return Subject(
        customer=fields["customer"],
        path=path,
        user=fields.get("user", ""),
        agent=fields.get("agent", ""),
        session=fields.get("session", ""),
        feature=fields.get("feature", ""),
        product=fields.get("product", ""),
    )
