"""Which budgets apply to a request."""

from __future__ import annotations

from sidecar.core.governance.budgets import Budget, Each, applies, budget_account
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.periods import Calendar, period_at
from sidecar.core.governance.tenancy import Node, Subject

SUBJECT = Subject(
    customer="acme",
    path=(Node("department", "analytics"), Node("team", "data")),
    user="ada",
    agent="pipeline",
    session="job-7",
)


def budget(**fields: object) -> Budget:
    """A monthly budget of the customer, but for the fields given."""
    base: dict[str, object] = {"budget_id": "b", "currency": "usd", "limit_atoms": 1, "cadence": Cadence.MONTH}
    return Budget(**(base | fields))  # type: ignore[arg-type]


def is_asked(rule: Budget, subject: Subject = SUBJECT, model: str = "gpt-4o-mini") -> bool:
    """Whether the rule applies to a call of the subject."""
    return applies(rule, subject, model=model, provider="openai")


def test_every_node_on_the_path_is_asked() -> None:
    """L30: the customer, each path node and the user; no other."""
    on_path = [None, Node("department", "analytics"), Node("team", "data"), Node("user", "ada")]
    assert all(is_asked(budget(node=node)) for node in on_path)
    off_path = [Node("department", "sales"), Node("team", "analytics"), Node("user", "bob")]
    assert not any(is_asked(budget(node=node)) for node in off_path)


def test_a_match_must_cover_every_dimension_it_names() -> None:
    """L30: "$500 in one job of the pipeline agent" = customer, match agent=pipeline, each session."""
    rule = budget(match={"agent": "pipeline", "model": "gpt-4o*"}, each=Each.SESSION)
    assert is_asked(rule)
    assert rule.child_of(SUBJECT) == "job-7"
    assert not is_asked(rule, model="o3")
    assert not is_asked(rule, Subject(customer="acme", agent="other"))
    assert not is_asked(rule, Subject(customer="acme"))


def test_who_names_no_session_shares_one_account() -> None:
    """L33: leaving the session out is no way around a budget for each session."""
    rule = budget(each=Each.SESSION)
    assert rule.child_of(Subject(customer="acme")) == ""
    assert is_asked(rule, Subject(customer="acme"))


def test_an_account_names_budget_period_and_child() -> None:
    """L37: another period is another account, so that a reset is no operation."""
    october, november = (period_at(Calendar(Cadence.MONTH), at) for at in (1_793_000_000_000, 1_795_500_000_000))
    assert budget_account("b", "job-7", october) == "budget:b:2026-10:job-7"
    assert budget_account("b", "job-7", november) == "budget:b:2026-11:job-7"
