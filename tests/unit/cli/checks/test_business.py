"""Prices and limits: those that are old, missing, that never bind or never let anything pass."""

from __future__ import annotations

import shlex
import time
from datetime import date
from pathlib import Path

import msgspec
import pytest

from sidecar.app.settings import Settings, default_catalog
from sidecar.catalog.read import read_catalog
from sidecar.cli.checks import business
from sidecar.cli.checks.finding import Finding, Setup, State
from sidecar.cli.ledger_client import LedgerClient
from sidecar.core.credits.amounts import Currency
from sidecar.ledger.views import BudgetView, Money, SilentLeaseView, SumView, money
from tests.support.administration import USD
from tests.unit.cli.conftest import TOKEN, Shell

RATES = read_catalog(Path(default_catalog())).rates
LEAST = business.cheapest(RATES, time.time_ns() // 1_000_000)
POINTS = Currency("points", 0)


def setup() -> Setup:
    """The product's own settings and prices."""
    return Setup(Settings(), Path("catalog.yaml"), RATES, None, None, {})


def budget(limit: Money, match: dict[str, str] | None = None, *, hard: bool = True) -> BudgetView:
    """A budget of acme's."""
    return BudgetView("acme", "b", "acme", limit, "day", match or {}, "", hard, 1, ())


def judged(view: BudgetView) -> Finding | None:
    """What is found of it."""
    found = list(business.budget_of(view, LEAST))
    assert len(found) <= 1
    return found[0] if found else None


def test_the_smallest_call() -> None:
    """Of every model that can be bounded, in whole atoms, the cheapest first; and it is no fiction."""
    assert len(LEAST) > 50
    assert [one.atoms for one in LEAST] == sorted(one.atoms for one in LEAST)
    mini = next(one for one in LEAST if one.model == "gpt-4o-mini")
    assert 0 < mini.atoms < 100_000


def test_budgets_that_never_bind() -> None:
    """In a currency without prices, or for models without any."""
    found = judged(budget(money(5, POINTS)))
    assert found is not None
    assert (found.state, "never bind" in found.what) == (State.PROBLEM, True)
    assert "--currency usd" in found.then
    soft = judged(budget(money(5, POINTS), hard=False))
    assert soft is not None
    assert soft.state is State.WARNING
    nothing = judged(budget(money(10**9, USD), {"model": "gtp-*"}))
    assert nothing is not None
    assert "model=gtp-*" in nothing.what


def test_budgets_that_let_nothing_pass() -> None:
    """To the atom: with room for the smallest call it is well, with one atom less it is not."""
    for match in ({}, {"model": "gpt-4o"}, {"provider": "anthropic"}, {"agent": "pipeline"}):
        fitting = [
            one
            for one in LEAST
            if match.get("model", one.model) == one.model and match.get("provider", one.provider) == one.provider
        ]
        least = fitting[0].atoms
        assert judged(budget(money(least, USD), match)) is None
        found = judged(budget(money(least - 1, USD), match))
        assert found is not None
        assert found.state is State.PROBLEM
        assert "spend budgets set acme" in found.then
        assert judged(budget(money(least - 1, USD), match, hard=False)) is None
    frozen = judged(budget(money(0, USD)))
    assert frozen is not None
    assert frozen.state is State.WARNING


def test_what_it_says_to_type_changes_the_limit_alone(shell: Shell) -> None:
    """A member's guardrail stays one, beside those of others, and an answer that nobody may shorten stays whole."""
    shell.run("customers", "add", "acme", "--wallet", "none")
    little = ("--limit", "0.000000001", "--per", "window", "--length", "5h", "--match", "agent=a*", "--each", "user")
    for more in ((), ("--guardrail",), ("--no-clamp",)):
        shell.run("budgets", "set", "acme", *little, *more)
        view = list(shell.administration.limits.values())[-1]
        found = judged(view)
        assert found is not None
        shell.run(*shlex.split(found.then)[1:])
        typed = list(shell.administration.limits.values())[-1]
        assert typed is not view
        assert (
            msgspec.structs.replace(typed, budget_id=view.budget_id, limit=view.limit, children=view.children) == view
        )


def test_old_prices() -> None:
    """By the day each was checked on."""
    checked = date.fromisoformat(min(card.checked_on for card in RATES.cards))
    fresh, later = date.fromordinal(checked.toordinal() + 60), date.fromordinal(checked.toordinal() + 61)
    assert [one.state for one in business.cards(setup(), fresh)] == [State.OK]
    (found,) = business.cards(setup(), later)
    assert found.state is State.WARNING
    assert "spend catalog check" in found.then


@pytest.fixture
def client(shell: Shell) -> LedgerClient:
    """One that asks the shell's ledger."""
    return LedgerClient(shell.address, TOKEN)


def test_customers(shell: Shell, client: LedgerClient) -> None:
    """None at all; one that nothing bounds; one without credit; and after what was said to type, all is well."""
    (none,) = business.customers(setup(), client)
    assert "spend customers add" in none.then
    shell.run("customers", "add", "free", "--wallet", "none")
    shell.run("customers", "add", "poor")
    shell.run("budgets", "set", "free", "--limit", "1", "--per", "day", "--soft")
    found = {one.check: one for one in business.customers(setup(), client)}
    assert (found["customer free"].state, found["customer poor"].state) == (State.PROBLEM, State.WARNING)
    for one in found.values():
        shell.run(*one.then.split()[1:])
    assert [one.state for one in business.customers(setup(), client)] == [State.OK]


def test_models_without_a_price(shell: Shell, client: LedgerClient) -> None:
    """Seen in use: named, with how often, over all pages."""
    assert [one.state for one in business.models(setup(), client)] == [State.OK]
    row = SumView("model", "mystery\x1b", 3, 0, {}, None)
    shell.administration.summed = [[row], [row, SumView("model", "gpt-4o", 1, 0, {}, money(5, USD))]]
    (found,) = business.models(setup(), client)
    assert (found.state, "(6 calls)" in found.what, "\x1b" in found.what) == (State.WARNING, True, False)
    assert shell.administration.asked_by[-1] == "model"


def test_leases_with_a_silent_sidecar(shell: Shell, client: LedgerClient) -> None:
    """L46: how much, of whom, since when, and who could give it back."""
    assert [one.state for one in business.leases(setup(), client)] == [State.OK]
    shell.administration.silent = [
        SilentLeaseView(
            "acme", f"inc/{number}", "budget:b:lifetime:", "sidecar_x", 1_795_521_600_000, money(atoms, USD)
        )
        for number, atoms in ((1, 200_000_000), (2, 300_000_000))
    ]
    (found,) = business.leases(setup(), client)
    assert found.state is State.WARNING
    for words in ("2 hold 0.50 usd of acme", "2026-11-24 12:00:00Z"):
        assert words in found.what
    assert "sidecar_x" in found.then
