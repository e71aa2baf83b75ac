from __future__ import annotations

import asyncio

import msgspec
import pytest

from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.decisions import Consulted, Denied, Reason, Source
from sidecar.core.governance.standing import Wallet
from sidecar.core.governance.tenancy import Subject
from sidecar.core.pricing.ceilings import price_ceiling
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.leases.table import Uncovered
from sidecar.proxy.authorize import IN_FLIGHT_WAIT_MS, Admitted, Authority, Call, authorize
from sidecar.proxy.price import UnknownModel
from tests.support.authority import (
    ACME,
    BOOK,
    CARD,
    CEILING,
    DAILY,
    GRANT,
    NEED,
    TEAM,
    USD,
    Bench,
    bench,
    call,
    full,
    standing,
)

UNKNOWN = msgspec.structs.replace(CEILING, model="who-knows")


def at_once(asked: Call, authority: Authority) -> Admitted | Denied:
    """Run a decision that must not suspend."""
    decision = authorize(asked, authority)
    with pytest.raises(StopIteration) as ended:
        decision.send(None)
    found: Admitted | Denied = ended.value.value
    return found


def reason(found: Admitted | Denied) -> Reason | None:
    return found.reason if isinstance(found, Denied) else None


def test_a_hit_is_one_step_and_is_written() -> None:
    """L40, L49, L50: no await; the hold stands, and everything that led to it is in the outbox."""
    on = bench()
    on.fund(standing(DAILY, grants=(GRANT,), wallet=Wallet.REQUIRED), 4 * NEED)
    found = at_once(call(), on.authority)
    assert isinstance(found, Admitted)
    assert on.spool.admitted == [found.admission]
    assert on.table.open_holds == 1
    admission = found.admission
    assert (admission.held_atoms, len(admission.budget_leases)) == (NEED, 1)
    assert [atoms for _, atoms in admission.slices] == [NEED]
    decision = admission.decision
    assert (decision.source, decision.ceiling_atoms, decision.standing_age_ms) == (Source.LEASE, NEED, 7)
    assert (decision.rate_card, decision.catalog_sha256, decision.plan) == (CARD.card_id, BOOK.sha256, "default@1")
    assert decision.lease_age_ms == 0
    assert [each.kind for each in decision.told().consulted] == ["budget", "grant"]
    assert found.remaining_atoms == 9 * NEED


def test_what_was_consulted_is_told_as_it_stood_then() -> None:
    """L34, L50: asked for later, after other calls, the answer is the same."""
    on = bench()
    on.fund(standing(DAILY, grants=(GRANT,), wallet=Wallet.REQUIRED), 4 * NEED)
    found = at_once(call(), on.authority)
    assert isinstance(found, Admitted)
    then = found.admission
    assert [each.held for each in then.decision.told().consulted] == [NEED, NEED]
    at_once(call(2), on.authority)
    assert found.held is not None
    on.table.settle(found.held, NEED // 2)
    assert [each.held for each in found.admission.decision.told().consulted] == [NEED, NEED]


def test_the_admission_names_the_canonical_path() -> None:
    """L31: ancestors that the application left out are on the record."""
    on = bench()
    on.fund(standing(DAILY), NEED)
    found = at_once(call(subject=Subject("acme", user="ada")), on.authority)
    assert isinstance(found, Admitted)
    assert found.admission.subject.path == TEAM


@pytest.mark.parametrize("known", [True, False])
async def test_a_miss_asks_once_and_holds(known: bool) -> None:
    """A short lease, or nobody known: one question, for the whole need, in the card's currency."""
    on = bench()
    (on.keeper.known if known else on.keeper.unheard)["acme"] = standing(DAILY)
    on.keeper.lends = 2 * NEED
    found = await authorize(call(), on.authority)
    assert isinstance(found, Admitted)
    assert on.keeper.asked == [(NEED, "usd")]
    assert found.admission.decision.source is Source.EXACT
    assert on.table.open_holds == 1


async def test_of_a_hundred_at_once_five_pass() -> None:
    """L40: against credit for five exactly five pass, and a denial takes nothing."""
    on = bench()
    on.fund(standing(DAILY), 5 * NEED)
    found = await asyncio.gather(*(authorize(call(number), on.authority) for number in range(100)))
    assert sum(isinstance(each, Admitted) for each in found) == len(on.spool.admitted) == on.table.open_holds == 5
    assert {reason(each) for each in found} == {None, Reason.BUDGET_EXCEEDED}


def test_what_cannot_be_written_may_not_run() -> None:
    """L49: a full spool is a denial that holds nothing; any other fault comes out, and holds nothing either."""
    on = bench()
    on.fund(standing(DAILY), NEED)
    on.spool.admit_fault = full()
    assert reason(at_once(call(), on.authority)) is Reason.OUTBOX_FULL
    assert on.table.open_holds == 0
    on.spool.admit_fault = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        authorize(call(), on.authority).send(None)
    assert on.table.open_holds == 0
    on.spool.admit_fault = None
    assert isinstance(at_once(call(), on.authority), Admitted)


def test_nothing_that_limits_is_a_denial() -> None:
    """L16a: no wallet and no hard budget."""
    on = bench()
    on.fund(standing(), 0)
    assert reason(at_once(call(), on.authority)) is Reason.NO_LIMIT_APPLIES


async def test_who_is_unknown_is_told_before_what_has_no_price() -> None:
    """Reasons have an order; the customer comes before the model."""
    on = bench()
    assert reason(await authorize(call(ceiling=UNKNOWN), on.authority)) is Reason.CUSTOMER_UNKNOWN
    on.keeper.unheard["acme"] = standing(DAILY)
    found = await authorize(call(ceiling=UNKNOWN), on.authority)
    assert reason(found) is Reason.MODEL_NOT_PRICED
    assert isinstance(found, Denied)
    assert found.request_id == "req_1"


def test_unknown_models_are_counted_by_policy_without_a_hold() -> None:
    """L5: `meter` admits without a price only where a wallet covers it; what has no bound is never metered so."""
    on = bench(UnknownModel.METER)
    on.fund(standing(grants=(GRANT,), wallet=Wallet.REQUIRED), 0)
    found = at_once(call(ceiling=UNKNOWN), on.authority)
    assert isinstance(found, Admitted)
    assert (found.held, found.prices, found.admission.held_atoms) == (None, None, 0)
    assert (found.admission.decision.source, found.admission.decision.ceiling_atoms) == (Source.UNPRICED, None)
    unbounded = msgspec.structs.replace(CEILING, unbounded=("a URL",))
    assert reason(at_once(call(ceiling=unbounded), on.authority)) is Reason.REQUEST_NOT_BOUNDABLE
    on.fund(standing(DAILY, grants=(GRANT,), wallet=Wallet.REQUIRED), 0)
    assert reason(at_once(call(ceiling=UNKNOWN), on.authority)) is Reason.MODEL_NOT_PRICED


@pytest.mark.parametrize("known", [True, False])
async def test_a_price_in_another_currency_is_none(known: bool) -> None:
    """L1: the customer pays in euros, the card is in dollars; nothing stays held."""
    on = bench()
    euros = msgspec.structs.replace(standing(msgspec.structs.replace(DAILY, currency="eur")), currency="eur")
    (on.keeper.known if known else on.keeper.unheard)["acme"] = euros
    on.keeper.lends = 2 * NEED
    found = await authorize(call(), on.authority)
    assert reason(found) is Reason.MODEL_NOT_PRICED
    assert on.table.open_holds == 0


def short(why: Reason, affordable: int | None = None, detail: str = "") -> Bench:
    on = bench()
    on.fund(standing(DAILY), 0)
    binding = Consulted("budget", "b", "acme/team:data", "usd", 10 * NEED, remaining=5, resets_in_ms=60_000)
    on.keeper.refusal = Uncovered(
        why, detail, binding, (binding,), standing_age_ms=3, affordable_atoms=affordable, retry_after_ms=None
    )
    return on


async def test_a_denial_tells_what_would_pass() -> None:
    """L34: the binding budget, the ceiling, and the output limit that the money left would still allow."""
    left = price_ceiling(msgspec.structs.replace(CEILING, output_limit=20), CARD, USD)
    found = await authorize(call(), short(Reason.BUDGET_EXCEEDED, left).authority)
    assert isinstance(found, Denied)
    assert (found.reason, found.request_id, found.ceiling_atoms) == (Reason.BUDGET_EXCEEDED, "req_1", NEED)
    assert found.max_affordable_output_tokens == 20
    assert found.binding is not None
    assert found.consulted == (found.binding,)
    assert "20 tokens" in found.detail
    assert "resets in 1 min" in found.detail
    assert found.retry_after_ms is None


async def test_a_call_that_only_others_hold_up_is_told_to_wait_a_little() -> None:
    """Between half a second and two, spread, so that a herd does not come back at one instant."""
    waits = set()
    for number in range(50):
        found = await authorize(call(number), short(Reason.BUDGET_IN_FLIGHT, NEED // 2).authority)
        assert isinstance(found, Denied)
        assert found.retry_after_ms is not None
        assert found.max_affordable_output_tokens is None
        waits.add(found.retry_after_ms)
    assert IN_FLIGHT_WAIT_MS[0] <= min(waits) < max(waits) <= IN_FLIGHT_WAIT_MS[1]
    assert len(waits) > 40


async def test_the_ledgers_own_sentence_is_passed_on() -> None:
    """What the ledger says of a refusal stands in it; where it says nothing, there is a plain sentence."""
    found = await authorize(call(), short(Reason.DEBT_LIMIT, detail="owes 5").authority)
    assert isinstance(found, Denied)
    assert found.detail == "owes 5"
    found = await authorize(call(), short(Reason.LEDGER_UNAVAILABLE).authority)
    assert isinstance(found, Denied)
    assert "ledger" in found.detail


def test_prices_are_those_of_the_admission() -> None:
    """L21: what is published later does not change what this call is settled by."""
    books = [BOOK, RateBook((), (USD,), sha256="")]
    on = bench()
    on.fund(standing(DAILY), NEED)
    authority = Authority(on.table, on.keeper, on.spool, on.clock, lambda: books[0])
    found = at_once(call(), authority)
    books.pop(0)
    assert isinstance(found, Admitted)
    assert found.prices is not None
    assert (found.prices.card, found.prices.book) == (CARD, BOOK)


def test_remaining_is_the_tightest() -> None:
    """Grants together against each hard budget; soft ones do not count; nothing where nothing was held."""
    roomy = Budget("bud_all", "usd", 90 * NEED, DAILY.cadence)
    soft = Budget("bud_soft", "usd", 1, DAILY.cadence, hard=False)
    half = msgspec.structs.replace(GRANT, issued_atoms=4 * NEED)
    halves = (half, msgspec.structs.replace(half, grant_id="gr_2", sequence=2))
    for what, left in (
        (standing(roomy, DAILY, soft), 9 * NEED),
        (standing(roomy, DAILY, grants=(GRANT,), wallet=Wallet.REQUIRED), 9 * NEED),
        (standing(roomy, DAILY, grants=halves, wallet=Wallet.REQUIRED), 7 * NEED),
        (standing(roomy, DAILY, grants=halves), 9 * NEED),
    ):
        on = bench()
        on.fund(what, 2 * NEED)
        found = at_once(call(), on.authority)
        assert isinstance(found, Admitted)
        assert found.remaining_atoms == left
        consulted = found.admission.decision.told().consulted
        hard = [each.remaining or 0 for each in consulted if each.kind == "budget" and each.hard]
        credit = [each.remaining or 0 for each in consulted if each.kind == "grant"]
        assert found.remaining_atoms == min(hard + ([sum(credit)] if credit else []))


def test_soft_budgets_need_no_lease() -> None:
    """L36a: they are consulted and never refuse."""
    on = bench()
    soft = Budget("bud_soft", "usd", 1, DAILY.cadence, hard=False)
    on.fund(standing(DAILY), NEED)
    on.keeper.known["acme"] = standing(DAILY, soft)
    found = at_once(call(subject=ACME), on.authority)
    assert isinstance(found, Admitted)
    assert [each.hard for each in found.admission.decision.told().consulted] == [True, False]
