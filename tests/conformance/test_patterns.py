"""What a budget's match covers is the same where it is lent from, where calls are counted, and counted later."""

from __future__ import annotations

import re

import pytest

from sidecar.core.governance.tenancy import Subject
from sidecar.errors import Rejected
from tests.conformance.test_ledger_port import budget
from tests.support.ledger import Desk

AGENTS = ("", "pipeline", "pipeline-1", "pipeline-nightly", "my-pipeline-1", "Pipeline-1", "other")
MODELS = ("gpt-4", "gpt-4o", "gpt-4o-mini", "gpt-5", "azure/gpt-4o")
MATCHES: tuple[dict[str, str], ...] = (
    {"agent": "pipeline-*"},
    {"model": "gpt-4*"},
    {"agent": "pipeline-*", "model": "gpt-4*"},
    {"agent": "*"},
    {"agent": "*-*"},
    {"model": "*gpt-4o"},
    {"model": "gpt-*o*i"},
    {"agent": "pipeline", "model": "gpt-4o"},
)


def is_meant(match: dict[str, str], agent: str, model: str) -> bool:
    """The grammar in other words: `*` is any run of characters, the rest itself, from the first to the last."""
    said = {"agent": agent, "model": model}
    return all(
        re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), said[dimension])
        for dimension, pattern in match.items()
    )


@pytest.mark.timeout(180)
async def test_a_match_is_the_same_everywhere(desk: Desk) -> None:
    """L30, L31: each pattern against each call: lent from, booked on a lease, counted without one, counted later."""
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_budget(budget(10**9, per="lifetime"), desk.act())
    hard = [await desk.service.set_budget(budget(10**6, match=match), desk.act()) for match in MATCHES]
    for match in MATCHES:
        await desk.service.set_budget(budget(10**6, match=match, per="day", hard=False), desk.act())
    expected = [0] * len(MATCHES)
    events = []
    for number, (agent, model) in enumerate((agent, model) for agent in AGENTS for model in MODELS):
        subject, charge = Subject("acme", agent=agent), number + 1
        reply = await desk.borrow(subject, 1, model=model)
        asked = {lease.lease_id.split(":")[1] for lease in reply.leases}
        meant = [is_meant(match, agent, model) for match in MATCHES]
        assert [view.budget_id in asked for view in hard] == meant, (agent, model)
        expected = [sum_ + charge * one for sum_, one in zip(expected, meant, strict=True)]
        leases = tuple(lease.lease_id for lease in reply.leases)
        events.append(desk.event(f"r{number}", subject, charge, leases=leases, model=model))
    assert (await desk.sync(*events)).parts[0].error == ""
    for match in MATCHES:
        await desk.service.set_budget(budget(10**6, match=match, per="hour"), desk.act())
    used: dict[str, list[int]] = {}
    for view in (await desk.service.budgets("acme"))[1:]:
        used.setdefault(view.per, []).append(sum(child.used.atoms for child in view.children))
    assert used == {"month": expected, "day": expected, "hour": expected}
    assert await desk.problems() == ()


@pytest.mark.parametrize(
    "match", [{"agent": ""}, {"agent": "a b"}, {"agent": "a?"}, {"agent": "x" * 129}, {"team": "a"}]
)
async def test_what_is_no_match(desk: Desk, match: dict[str, str]) -> None:
    """Told by its field, before anything is done."""
    await desk.service.add_customer("acme", "none", desk.act())
    with pytest.raises(Rejected) as refused:
        await desk.service.set_budget(budget(1, match=match), desk.act())
    assert list(refused.value.problems) == ["match"]
