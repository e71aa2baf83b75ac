"""Which budgets calls from a place must fit into, and what the tightest leaves them."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.cli.applying import is_met, verdicts
from sidecar.ledger.views import BudgetChildView, BudgetView, Money, money
from tests.support.administration import NOTHING, USD
from tests.unit.cli.conftest import Shell

HOME = frozenset({"department:analytics", "team:data", "user:ada"})


def usd(amount: int, code: str = "usd") -> Money:
    return Money(code, amount * 10**9, 9, str(amount)) if code != "usd" else money(amount * 10**9, USD)


def budget(path: str, limit: int, remaining: int | None = None, **more: Any) -> BudgetView:
    """A hard monthly one, of which something is left where it was used."""
    fields: dict[str, Any] = {"match": {}, "each": "", "hard": True} | more
    children = () if remaining is None else (BudgetChildView("", NOTHING, NOTHING, usd(remaining), "2026-11", None),)
    return BudgetView("acme", "b", path, usd(limit), "month", version=1, children=children, **fields)


@pytest.mark.parametrize(
    ("path", "match", "met"),
    [
        ("acme", {}, True),
        ("acme/department:analytics", {}, True),
        ("acme/department:analytics/team:data", {}, True),
        ("acme/user:ada", {}, True),
        ("acme/user:bo", {}, False),
        ("acme/team:sales", {}, False),
        ("acme", {"agent": "pipe*"}, True),
        ("acme", {"agent": "other"}, False),
        ("acme", {"model": "gpt-*"}, True),  # may be such a call
    ],
)
def test_a_budget_is_met_on_the_way_up_and_where_it_matches(path: str, match: dict[str, str], met: bool) -> None:
    """L30: what is not said of a call may be anything."""
    assert is_met(budget(path, 1, match=match), HOME, {"agent": "pipeline"}) is met
    assert is_met(budget("acme/team:sales", 1), None, {})


def test_the_tightest_is_told() -> None:
    """By what is left, not by its limit; soft ones and those that may not apply say nothing."""
    budgets = [
        budget("acme", 100, 3),
        budget("acme/team:data", 50, 4),
        budget("acme/team:data", 2, each="user"),
        budget("acme", 1, hard=False),
        budget("acme", 1, match={"model": "gpt-*"}),
        budget("acme", 9, match={"agent": "pipeline"}, each="session"),
        budget("acme", 8, match={"agent": "*"}, each="session"),
    ]
    assert list(verdicts(budgets, HOME, {"agent": "pipeline"})) == [
        "Left now: 3.00 usd, by the budget of acme per month.",
        "One session at most: 8.00 usd, by the budget of acme for agent=* per month.",
        "One user at most: 2.00 usd, by the budget of acme/team:data per month.",
    ]
    assert list(verdicts(budgets[1:3], None, {})) == []  # from anywhere: perhaps not from there
    assert list(verdicts([budget("acme", 7)], None, {})) == ["Left now: 7.00 usd, by the budget of acme per month."]


def test_a_place_is_looked_up_in_the_tree(acme: Shell) -> None:
    """Nodes above what is named are on the way, for programs too; one that does not exist is told."""
    acme.run("nodes", "add", "acme/department:analytics/team:data")
    acme.run("nodes", "add", "acme/department:sales")
    for path, limit in (("acme", "3"), ("acme/department:analytics", "2"), ("acme/department:sales", "1")):
        acme.run("budgets", "set", path, "--limit", limit, "--per", "month")
    assert [row["limit"]["text"] for row in acme.json("budgets", "list", "acme/team:data")] == ["3.00", "2.00"]
    assert len(acme.json("budgets", "list", "acme")) == 3
    assert "Left now: 2.00 usd" in acme.run("budgets", "list", "acme/team:data").stdout
    assert "Left now" not in acme.run("budgets", "list", "acme").stdout
    assert "spend nodes list acme" in acme.run("budgets", "list", "acme/team:none", code=1).stderr
