"""Decisions of the past, as /spend/v1/ gives them to applications."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.app.local_api import past_decisions
from sidecar.core.governance.tenancy import Subject, parse_path
from sidecar.ledger.views import EntryView, ExplainView
from sidecar.proxy.expectations import Expectations
from sidecar.proxy.local_api_usage import Past
from sidecar.proxy.recent import RecentDecisions

SUBJECT = {"customer": "acme", "path": "acme/department:a/team:data", "user": "ada", "agent": "bot"}


async def found() -> Past:
    """A settled call that the book knows."""
    entry = EntryView("acme", 7, "usage", "", "sidecar:s", 1, 1, (), {}, "ab")
    view = ExplainView("req_1", "settled", "acme", SUBJECT, "openai", "gpt", None, None, None, None, entry=entry)

    async def explain(_request_id: str, _customer: str = "", **_more: bool) -> ExplainView:
        return view

    async def settle_up() -> None:
        """Nothing waits."""

    past = await past_decisions(RecentDecisions(), {}, explain, settle_up, Expectations())("req_1")
    assert past is not None
    return past


async def test_an_application_does_not_see_what_others_booked_beside_its_call() -> None:
    """S-31: the entry of a call is of its whole batch."""
    view: Any = (await found()).view
    assert view.entry is None
    assert view.request_id == "req_1"


@pytest.mark.parametrize(
    ("holder", "is_its"),
    [
        (Subject("acme"), True),
        (Subject("acme", parse_path("department:a")), True),
        (Subject("acme", parse_path("department:a/team:data"), user="ada", agent="bot"), True),
        (Subject("acme", user="ada"), True),
        (Subject("acme", user="ad"), False),
        (Subject("acme", user="bob"), False),
        (Subject("acme", parse_path("team:dat")), False),
        (Subject("acme", parse_path("team:ops"), user="ada"), False),
        (Subject("acme", user="ada", agent="other"), False),
        (Subject("acme", session="s"), False),
        (Subject("acm"), False),
    ],
)
async def test_a_call_is_told_to_whom_a_virtual_key_names(holder: Subject, is_its: bool) -> None:
    """S-31: another user's or team's call is not the holder's of a key that names one."""
    assert (await found()).is_of(holder) is is_its
