"""What of an answer its asker gets to see."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sidecar.core.governance.decisions import Consulted, Decision, Source
from sidecar.core.governance.rights import Role, read_scope
from sidecar.errors import NotFound
from sidecar.ledger.http_scopes import ABOVE, within
from sidecar.ledger.views import ExplainView, Leg

OWNERS = {
    "b0": "acme",
    "b1": "acme/department:a",
    "b2": "acme/team:data",
    "b3": "acme/project:x",
    "b4": "acme/user:ada",
}
CONSULTED = (
    *(Consulted("budget", name, owner, "usd", 9, 1) for name, owner in OWNERS.items()),
    Consulted("grant", "g", "acme", "usd", 9, 1),
)
CALL = ExplainView(
    "req_1",
    "settled",
    "acme",
    {"customer": "acme", "path": "acme/department:a/team:data/project:x", "user": "ada"},
    "openai",
    "gpt",
    *(None, None, None),
    Decision(Source.LEASE, 1, 0, 0, "", "", "", consulted=CONSULTED),
    consulted=CONSULTED,
    legs=tuple(
        Leg(account, "consumed", "usd", 1)
        for account in ("grant:g", "debt:usd", *(f"budget:{name}:2026-11:" for name in OWNERS), "budget:b22:x:")
    ),
)


@pytest.mark.parametrize(
    ("path", "role", "seen"),
    [
        ("", Role.PLATFORM_ADMIN, [*OWNERS, "g"]),
        ("acme", Role.ORG_OWNER, [*OWNERS, "g"]),
        ("acme/department:a", Role.TEAM_MANAGER, ["b1", "b2", "b3", "b4"]),
        ("acme/team:data", Role.TEAM_MANAGER, ["b2", "b3", "b4"]),
        ("acme/user:ada", Role.MEMBER, ["b4"]),
    ],
)
def test_a_call_shows_nothing_above_its_askers_node(path: str, role: Role, seen: list[str]) -> None:
    """S-31: what the budgets above have used, and the customer's credit, are told by no call either."""
    view: Any = within(CALL, read_scope(path), role)
    assert [one.id for one in view.consulted] == seen
    assert [one.id for one in view.decision.consulted] == seen
    budgets = [leg.account.split(":")[1] for leg in view.legs if leg.account.startswith("budget:")]
    assert [one for one in budgets if one in OWNERS] == [one for one in seen if one in OWNERS]
    assert (("grant:g" in {leg.account for leg in view.legs}) or ("b22" in budgets)) == ("g" in seen)


def test_a_call_without_a_decision_is_trimmed_as_well() -> None:
    """A denial has what it consulted, and nothing else."""
    denied = msgspec.structs.replace(CALL, decision=None, legs=())
    view: Any = within(denied, read_scope("acme/team:data"), Role.MEMBER)
    assert [one.id for one in view.consulted] == ["b2", "b3", "b4"]


@pytest.mark.parametrize(("path", "told"), [("acme", True), ("acme/department:a", False), ("acme/team:data", False)])
def test_a_denial_does_not_name_a_limit_above(path: str, told: bool) -> None:
    """S-31: the sentence of a denial has the name and the figures of the budget that said no, whoever's it is."""
    words = "Budget acme: 0.0000599 of 0.0005 usd is left this day"
    denied = msgspec.structs.replace(CALL, decision=None, legs=(), reason="budget_exceeded", detail=words)
    view: Any = within(denied, read_scope(path), Role.ORG_OWNER if path == "acme" else Role.TEAM_MANAGER)
    assert view.detail == (words if told else ABOVE)
    below = msgspec.structs.replace(denied, consulted=CONSULTED[2:3], detail="Budget acme/team:data: nothing is left")
    shown: Any = within(below, read_scope("acme/team:data"), Role.MEMBER)
    assert shown.detail == "Budget acme/team:data: nothing is left"


@pytest.mark.parametrize("path", ["other", "acme/team:ops", "acme/team:dat", "acme/user:eve", "acm"])
def test_anothers_call_does_not_exist(path: str) -> None:
    """S-34: nor does that of one whose name begins alike."""
    with pytest.raises(NotFound):
        within(CALL, read_scope(path), Role.MEMBER)
