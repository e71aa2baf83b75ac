"""Cursors: only the book makes and reads them, for one list and one token."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from sidecar.core.governance.rights import Scope, read_scope
from sidecar.ledger.http_cursors import Cursors
from sidecar.ledger.http_problems import RequestRefused

PLACES = ["acme/team:ops/project:secret", "1700000000000:12:3:acme", "é" * 200, "x"]
MANAGER = read_scope("acme/team:data")


def cursors(scope: Scope = MANAGER, **changes: Any) -> Cursors:
    """Of a list of acme's nodes."""
    about: dict[str, Any] = {"pattern": "/v1/nodes", "parts": {"customer": "acme"}, "query": {"limit": "1"}}
    return Cursors(b"s" * 32, **{**about, **changes}, scope=scope)


@pytest.mark.parametrize("place", PLACES)
def test_a_cursor_leads_back_and_tells_nothing(place: str) -> None:
    """S-31: a page may end at a row that its reader must not see, and the cursor does not name it."""
    cursor = cursors().seal(place)
    assert cursors(query={"limit": "9"}).open(cursor) == place
    plain = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for part in place.split("/"):
        assert len(part) < 2 or part.encode() not in plain


@pytest.mark.parametrize(
    "other",
    [
        cursors(pattern="/v1/usage"),
        cursors(parts={"customer": "other"}),
        cursors(query={"kind": "usage"}),
        cursors(scope=read_scope("acme")),
        cursors(scope=read_scope("acme/team:data2")),
    ],
)
def test_a_cursor_is_of_one_list_and_one_reach(other: Cursors) -> None:
    """B-A14: carried elsewhere it is none."""
    with pytest.raises(RequestRefused):
        other.open(cursors().seal(PLACES[0]))


def test_a_changed_cursor_is_none() -> None:
    """B-A14: whichever byte is another one, cut off or added."""
    cursor = cursors().seal(PLACES[0])
    sealed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    changed = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for wrong in (*changed, sealed[:-1], sealed + b"0", sealed[:15], b"0"):
        with pytest.raises(RequestRefused):
            cursors().open(base64.urlsafe_b64encode(wrong).decode().rstrip("="))
