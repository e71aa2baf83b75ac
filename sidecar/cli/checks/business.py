"""The business: prices that are old or missing, and limits that can never limit, or never let anything pass."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Final, NamedTuple

from sidecar.cli.answers import all_rows, decoded, page_rows
from sidecar.cli.checks.finding import Finding, Setup, ok, problem, warning
from sidecar.cli.instants import show_duration
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.matching import match_words
from sidecar.cli.sums import amount_text, merged
from sidecar.cli.tables import counted, printable, show_instant, show_money
from sidecar.core.credits.scopes import fits
from sidecar.core.pricing.rate_cards import RateBook, RateCard
from sidecar.ledger.views import BalanceView, BudgetView, CustomerView, SilentLeaseView
from sidecar.providers.registry import ANTHROPIC_MESSAGES, OPENAI_CHAT
from sidecar.proxy.estimate import estimate
from sidecar.proxy.price import Priced, price
from sidecar.proxy.unfit import Unfit

MAX_CUSTOMERS: Final = 500
MAX_PAGES: Final = 100
"""Of sums: as many calls as are looked at for models without a price."""

USAGE_DAYS: Final = 7
SHOWN: Final = 5
"""Names in one finding at most."""


class Cheapest(NamedTuple):
    """The least that a budget must have room for to let one call to a model pass."""

    provider: str
    model: str
    currency: str
    atoms: int


def cards(setup: Setup, today: date) -> Iterator[Finding]:
    """How old the prices are."""
    check = "prices"
    if setup.rates is None:
        return
    old = [card for card in setup.rates.cards if _age_days(card, today) > setup.cards_older_than_days]
    if not old:
        checked = min((card.checked_on for card in setup.rates.cards), default="never")
        yield ok(check, f"{len(setup.rates.cards)} rate cards, each checked on {checked} or later")
        return
    oldest = min(old, key=lambda card: card.checked_on)
    what = (
        f"{len(old)} of {len(setup.rates.cards)} rate cards were checked more than {setup.cards_older_than_days} days"
        f" ago, {oldest.card_id} on {oldest.checked_on}"
    )
    then = f"spend catalog check {shlex.quote(str(setup.catalog))}   (after comparing it with {oldest.source})"
    yield warning(check, what, then)


def _age_days(card: RateCard, today: date) -> int:
    return (today - date.fromisoformat(card.checked_on)).days


def customers(setup: Setup, client: LedgerClient) -> Iterator[Finding]:
    """Every customer's wallet and budgets, against the prices."""
    page = client.get("/v1/customers", limit=MAX_CUSTOMERS + 1)
    names = [row.customer for row in page_rows(page, CustomerView)]
    if not names:
        yield warning("customers", "there are none, so every call is refused", "spend customers add acme --wallet none")
        return
    least = cheapest(setup.rates, time.time_ns() // 1_000_000) if setup.rates is not None else []
    found: list[Finding] = []
    for name in names[:MAX_CUSTOMERS]:
        balance = decoded(client.get(f"/v1/customers/{segment(name)}/balance"), BalanceView)
        found += money_of(balance)
        if setup.rates is not None:
            found += [one for budget in balance.budgets for one in budget_of(budget, least)]
    yield from found
    more = f"; only the first {MAX_CUSTOMERS} were looked at" if len(names) > MAX_CUSTOMERS else ""
    if not found:
        yield ok("customers", f"customers looked at: {min(len(names), MAX_CUSTOMERS)}; every limit can bind{more}")
    elif more:
        yield warning("customers", f"there are more than {MAX_CUSTOMERS}{more}", "spend budgets list CUSTOMER")


def money_of(balance: BalanceView) -> Iterator[Finding]:
    """Whether anything lets a customer's calls pass at all."""
    check = f"customer {balance.customer}"
    if balance.wallet == "none":
        if not any(budget.hard for budget in balance.budgets):
            what = "wallet none and no hard budget: nothing bounds it, so every call is refused (`no_limit_applies`)"
            yield problem(check, what, f"spend budgets set {balance.customer} --limit 10 --per day")
    elif not any(grant.live and grant.available.atoms + grant.leased.atoms for grant in balance.grants):
        what = "wallet required and no credit left: every call is refused (`credit_balance_exhausted`)"
        yield warning(check, what, f"spend grants add {balance.customer} 10")


def cheapest(rates: RateBook, at_ms: int) -> list[Cheapest]:
    """For each model that is not free, the ceiling of the smallest call there is: one letter in, one token out."""
    found: list[Cheapest] = []
    for provider, model in {(card.provider, model) for card in rates.cards for model in card.models}:
        dialect = ANTHROPIC_MESSAGES if provider == "anthropic" else OPENAI_CHAT
        body = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}
        facts = estimate(dialect, json.dumps(body, separators=(",", ":")).encode())
        if isinstance(facts, Unfit):
            continue
        priced = price(facts.ceiling, rates, provider=provider, at_ms=at_ms)
        if isinstance(priced, Priced) and priced.ceiling_atoms:
            found.append(Cheapest(provider, model, priced.currency.code, priced.ceiling_atoms))
    return sorted(found, key=lambda one: (one.atoms, one.model))


def budget_of(budget: BudgetView, least: Sequence[Cheapest]) -> Iterator[Finding]:
    """Whether a budget can ever bind, and whether it lets even one call pass.

    Args:
        budget: as the ledger shows it.
        least: the smallest call of each model, the cheapest first.
    """
    check = f"budget {budget.path}"
    currency = budget.limit.currency
    name = f"{show_money(budget.limit)} per {budget.per}"
    priced = [one for one in least if one.currency == currency]
    if not priced:
        known = sorted({one.currency for one in least}) or ["usd"]
        what = f"{name} can never bind: no rate card has prices in {currency}"
        then = f"spend budgets set {budget.path} --limit {budget.limit.text} --per {budget.per} --currency {known[0]}"
        yield problem(check, what, then) if budget.hard else warning(check, what, then)
        return
    fitting = [one for one in priced if _covers(budget, one)]
    if not fitting:
        what = f"{name} can never bind: no model with a price fits {match_words(budget.match)}"
        yield warning(check, what, "spend catalog check   (then set it again with another --match)")
    elif budget.hard and not budget.limit.atoms:
        what = f"{name} lets nothing pass; that is well where it is meant to"
        yield warning(check, what, f"spend budgets set {_same(budget)} --limit 10   (or leave it)")
    elif budget.hard and budget.limit.atoms < fitting[0].atoms:
        limit = budget.limit
        first = fitting[0]
        wanted = amount_text(first.atoms, limit.scale)
        what = f"{name} lets nothing pass: the smallest call of the cheapest model ({first.model}) can cost {wanted}"
        yield problem(
            check, what, f"spend budgets set {_same(budget)} --limit {amount_text(100 * first.atoms, limit.scale)}"
        )


def _covers(budget: BudgetView, one: Cheapest) -> bool:
    """Whether a budget's match leaves room for a model; what else it matches on, some caller may say."""
    values = {"model": one.model, "provider": one.provider}
    return all(fits(pattern, values[key]) for key, pattern in budget.match.items() if key in values)


def _same(budget: BudgetView) -> str:
    """The words that name this very budget to `spend budgets set`, and leave all of it but its limit as it is."""
    words = [budget.path, f"--per {budget.per}"]
    if budget.window_s:
        words.append(f"--length {show_duration(budget.window_s)}")
    if budget.match:
        words.append(f"--match {shlex.quote(match_words(budget.match))}")
    if budget.each:
        words.append(f"--each {budget.each}")
    if budget.limit.currency != "usd":
        words.append(f"--currency {budget.limit.currency}")
    words += ["--guardrail"] * budget.guardrail + ["--no-clamp"] * (not budget.clamp)
    return " ".join(words)


def models(setup: Setup, client: LedgerClient) -> Iterator[Finding]:
    """Models in the usage of the last days that have no price."""
    check = "models"
    since_ms = time.time_ns() // 1_000_000 - USAGE_DAYS * 86_400_000
    pages = client.pages("/v1/usage/sums", limit=None, by="model", since_ms=since_ms)
    groups = merged(_first(pages, MAX_PAGES), by_time=False)
    unpriced = {group.name or "-": group.calls for group in groups if group.charge is None}
    if unpriced:
        first = list(unpriced.items())[:SHOWN]
        shown = ", ".join(f"{printable(name)} ({counted(count, 'call')})" for name, count in first)
        what = f"in use in the last {USAGE_DAYS} days and without a charge: {shown}"
        then = f"spend catalog check {shlex.quote(str(setup.catalog))}   (after adding a rate card for each)"
        yield warning(check, what, then)
    else:
        named = len({group.name for group in groups})
        yield ok(check, f"every call of the last {USAGE_DAYS} days has a price ({counted(named, 'model')})")


def _first(pages: Iterable[bytes], count: int) -> Iterator[bytes]:
    for number, page in enumerate(pages):
        if number >= count:
            return
        yield page


def leases(setup: Setup, client: LedgerClient) -> Iterator[Finding]:
    """Spending power with a sidecar that is no longer heard: surrendered, or lost with its outbox."""
    check = "leases"
    silent = all_rows(client.pages("/v1/leases/silent"), SilentLeaseView)
    if not silent:
        yield ok(check, "none is with a sidecar that has fallen silent")
        return
    sums: dict[str, int] = {}
    for lease in silent:
        sums[lease.held.currency] = sums.get(lease.held.currency, 0) + lease.held.atoms
    scales = {lease.held.currency: lease.held.scale for lease in silent}
    amounts = ", ".join(f"{amount_text(atoms, scales[code])} {code}" for code, atoms in sorted(sums.items()))
    owners = sorted({lease.customer for lease in silent})
    what = (
        f"{len(silent)} hold {amounts} of {', '.join(owners[:SHOWN])} and have not been heard of since"
        f" {show_instant(silent[0].silent_since_ms)}: it counts as spent"
    )
    here = setup.place is not None and bool(setup.place.proxy)
    start = setup.start if here else "spend sidecar --data DIR"
    then = f"{start}   (of {silent[0].sidecar}, on the folder it had; a lost or copied one cannot give them back)"
    yield warning(check, what, then)


def today() -> date:
    """The day, UTC."""
    return datetime.now(UTC).date()
