from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credits.amounts import Currency
from sidecar.core.pricing.ceilings import Ceiling, price_ceiling
from sidecar.core.pricing.rate_cards import ContextTier, RateBook, RateCard, Rates, charge
from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState
from sidecar.providers.dialect import Ending
from sidecar.providers.metering import METER_DEGRADED, OUTPUT_UNSEEN
from sidecar.proxy.settle import (
    CUT_AT_LIMIT,
    ESTIMATED,
    HUNG_UP,
    IMPLAUSIBLE,
    NOT_BILLED,
    OVERRUN,
    PARTLY_UNPRICED,
    UNPRICED,
    Prices,
    Settlement,
    floor_atoms,
    settle,
)

USD = Currency("usd", 9)
CARD = RateCard(
    "card", "openai", ("m",), 0, "usd", (ContextTier(0, Rates(input=150_000, output=600_000)),), 16_384, 128_000,
    "test", "2026-11",
)  # fmt: skip
CEILING = Ceiling("m", 100, 50)
PRICES = Prices(CEILING, CARD, USD, RateBook((CARD,), (USD,), sha256=""), 1)
HELD = price_ceiling(CEILING, CARD, USD)
STOPS = msgspec.structs.replace(PRICES, stops_billing=True)
UNKNOWN_ENDINGS = [Ending.CUT, Ending.ABANDONED, Ending.TIMED_OUT]


def usage(state: UsageState, given_tokens: int | None = 10, made: int | None = 5) -> Usage:
    return Usage(state, (Line(Tokens(input_tokens=given_tokens, output_tokens=made)),))


def over(
    found: Usage, ending: Ending = Ending.COMPLETE, status: int = 200, prices: Prices | None = PRICES
) -> Settlement:
    return settle(HELD, prices, found, ending=ending, status=status)


def cost(given_tokens: int, made: int) -> int:
    return given_tokens * 150 + made * 600


def test_the_providers_own_figures_are_charged_exactly() -> None:
    """L4: no floor and no flag, however the answer ended after they were read."""
    for ending in (Ending.COMPLETE, *UNKNOWN_ENDINGS):
        assert over(usage(UsageState.FINAL), ending) == Settlement(cost(10, 5), usage(UsageState.FINAL))


def test_an_overrun_is_charged_and_flagged() -> None:
    """L17, F-29: usage is always recorded, also above the hold."""
    assert over(usage(UsageState.FINAL, 100, 5000)).charge_atoms == cost(100, 5000) > HELD
    assert over(usage(UsageState.FINAL, 100, 5000)).flags == (OVERRUN,)


@pytest.mark.parametrize("state", [UsageState.ABSENT, UsageState.ERROR])
@pytest.mark.parametrize("ending", [Ending.COMPLETE, *UNKNOWN_ENDINGS])
def test_no_figures_settle_at_the_whole_hold(state: UsageState, ending: Ending) -> None:
    """L5, L25: unknown is never zero; also an error in mid-stream after a 200."""
    assert over(Usage(state), ending) == Settlement(HELD, Usage(state), (ESTIMATED,))


def test_no_head_at_all_settles_at_the_whole_hold() -> None:
    """L25: sent, and never heard of again."""
    assert over(Usage(UsageState.ABSENT), Ending.TIMED_OUT, status=0).charge_atoms == HELD


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 429])
def test_a_refusal_of_the_providers_costs_nothing(status: int) -> None:
    """F-19: it said no figure: the work did not happen."""
    for state in (UsageState.ERROR, UsageState.ABSENT, UsageState.ESTIMATED):
        assert over(Usage(state), status=status) == Settlement(0, Usage(state), (NOT_BILLED,))


@pytest.mark.parametrize("status", [500, 503, 529])
def test_a_failure_costs_nothing_only_by_the_providers_own_word(status: int) -> None:
    """F-20: its own error, before it generated, is free; a page with that status may be anybody's."""
    assert over(Usage(UsageState.ERROR), status=status) == Settlement(0, Usage(UsageState.ERROR), (NOT_BILLED,))
    for state in (UsageState.ABSENT, UsageState.ESTIMATED):
        assert over(Usage(state), status=status) == Settlement(HELD, Usage(state), (ESTIMATED,))


@pytest.mark.parametrize("status", [408, 409, 499, 502, 504, 520, 522, 524, 599])
def test_a_gateway_that_gave_up_settles_at_the_floor(status: int) -> None:
    """F-20, L25: the provider may have run the call and bill it."""
    for state in (UsageState.ERROR, UsageState.ABSENT, UsageState.ESTIMATED):
        assert over(Usage(state), status=status) == Settlement(HELD, Usage(state), (ESTIMATED,))
    assert over(usage(UsageState.PARTIAL), status=status).charge_atoms == HELD
    assert over(usage(UsageState.FINAL), status=status).charge_atoms == cost(10, 5)


def test_a_refusal_after_the_work_settles_at_the_floor() -> None:
    """Azure's filter bills prompt and completion although it answers 400: the body tells, not the status."""
    worked = Usage(UsageState.ERROR, notes=("refused_after_work",))
    assert over(worked, status=400) == Settlement(HELD, worked, (ESTIMATED,))


def test_a_refusal_with_a_usage_is_charged() -> None:
    """What the provider counted beside an error still counts."""
    assert over(usage(UsageState.FINAL), status=400).charge_atoms == cost(10, 5)


def test_what_was_never_sent_costs_nothing() -> None:
    """Also where the model has no price."""
    for prices in (PRICES, None):
        assert over(Usage(UsageState.ABSENT), Ending.UNSENT, 0, prices).charge_atoms == 0


def test_a_partial_reading_never_goes_below_the_floor() -> None:
    """L25: max(measured, floor); measured wins where it is more."""
    assert over(usage(UsageState.PARTIAL), Ending.CUT) == Settlement(HELD, usage(UsageState.PARTIAL), (ESTIMATED,))
    more = over(usage(UsageState.ESTIMATED, 100, 5000), Ending.ABANDONED)
    assert (more.charge_atoms, more.flags) == (cost(100, 5000), (ESTIMATED, OVERRUN))


def test_a_provider_that_stops_billing_lowers_the_floor() -> None:
    """L25: the input's bound plus what was counted; unchanged where nothing was counted, or nobody hung up.

    A connection that the provider broke is not one that we closed, and its entry speaks of those alone.
    """
    estimated = usage(UsageState.ESTIMATED, None, 7)
    assert {*UNKNOWN_ENDINGS, Ending.LIMITED} - HUNG_UP == {Ending.CUT}
    for ending in HUNG_UP:
        assert over(estimated, ending, prices=STOPS).charge_atoms == cost(100, 7)
    assert over(Usage(UsageState.ABSENT), Ending.ABANDONED, prices=STOPS).charge_atoms == HELD
    for ending in (Ending.COMPLETE, Ending.CUT):
        assert over(estimated, ending, prices=STOPS).charge_atoms == HELD
    hidden = msgspec.structs.replace(STOPS, may_reason=True)
    assert over(estimated, Ending.ABANDONED, prices=hidden).charge_atoms == HELD


def test_a_stream_that_we_ended_is_never_charged_more_than_was_held() -> None:
    """L0, L25: its last event was read and went no further; less, where less was counted; told by a flag of its own."""
    much = usage(UsageState.ESTIMATED, 100, 5000)
    assert over(much, Ending.LIMITED, prices=STOPS) == Settlement(HELD, much, (ESTIMATED, CUT_AT_LIMIT))
    little = usage(UsageState.ESTIMATED, None, 7)
    assert over(little, Ending.LIMITED, prices=STOPS).charge_atoms == cost(100, 7)
    assert over(usage(UsageState.FINAL, 100, 5000), Ending.LIMITED).charge_atoms == cost(100, 5000)


@pytest.mark.parametrize("note", [METER_DEGRADED, OUTPUT_UNSEEN])
@pytest.mark.parametrize("ending", UNKNOWN_ENDINGS)
def test_what_was_not_all_read_was_not_counted(note: str, ending: Ending) -> None:
    """L25: an event too long to read, or an answer that is no stream, may have made anything: the whole hold."""
    unseen = msgspec.structs.replace(usage(UsageState.ESTIMATED, None, 7), notes=(note,))
    assert over(unseen, ending, prices=STOPS).charge_atoms == HELD


def test_a_model_without_a_price_has_no_charge() -> None:
    """L5: None, not 0; an uncertain reading is flagged as such too."""
    assert over(usage(UsageState.FINAL), prices=None) == Settlement(None, usage(UsageState.FINAL), (UNPRICED,))
    assert over(Usage(UsageState.ABSENT), prices=None).flags == (UNPRICED, ESTIMATED)


def test_kinds_without_a_rate_raise_the_charge_to_the_hold() -> None:
    """L5: a charge that leaves a kind out may be too low; the hold was a bound."""
    audio = Usage(UsageState.FINAL, (Line(Tokens(input_tokens=10, input_audio_tokens=4, output_tokens=5)),))
    assert over(audio).charge_atoms == HELD
    assert over(audio).flags == (PARTLY_UNPRICED, ESTIMATED)
    assert over(audio, Ending.ABANDONED, prices=STOPS).charge_atoms == HELD


def test_absurd_figures_do_not_become_amounts() -> None:
    """A counter beyond every amount settles at the hold and is flagged."""
    absurd = over(usage(UsageState.FINAL, 10**20, 5))
    assert (absurd.charge_atoms, absurd.flags) == (HELD, (IMPLAUSIBLE, ESTIMATED))


@pytest.mark.parametrize(
    ("given_tokens", "made", "units", "believed"),
    [
        (16 * 128_000, 5, {}, True),
        (16 * 128_000 + 1, 5, {}, False),
        (10, 16 * 16_384, {}, True),
        (10, 16 * 16_384 + 1, {}, False),
        (10, 10**9, {}, False),
        (10, 500, {"web_search_requests": 100_001}, False),
    ],
)
def test_what_no_call_of_the_model_can_have_used_is_not_believed(
    given_tokens: int, made: int, units: dict[str, int], believed: bool
) -> None:
    """F-28, S-04: one absurd counter does not take a customer's credit; the hold stands in, flagged for a person."""
    found = msgspec.structs.replace(usage(UsageState.FINAL, given_tokens, made), units=units)
    for state in (UsageState.FINAL, UsageState.PARTIAL):
        settled = over(msgspec.structs.replace(found, state=state))
        assert (IMPLAUSIBLE in settled.flags) == (not believed)
        if not believed:
            assert (settled.charge_atoms, ESTIMATED in settled.flags, OVERRUN in settled.flags) == (HELD, True, False)
    if believed:
        assert over(found).charge_atoms == cost(given_tokens, made)
        assert over(found).flags == (OVERRUN,)


def test_several_answers_may_each_be_as_long() -> None:
    """The bound of what is believed counts each of `n`."""
    prices = msgspec.structs.replace(PRICES, ceiling=msgspec.structs.replace(CEILING, choices=4))
    assert IMPLAUSIBLE not in over(usage(UsageState.FINAL, 10, 64 * 16_384), prices=prices).flags
    assert IMPLAUSIBLE in over(usage(UsageState.FINAL, 10, 64 * 16_384 + 1), prices=prices).flags


def test_a_negative_hold_is_a_fault() -> None:
    """Never a negative amount, not even by mistake."""
    with pytest.raises(ValueError, match="negative"):
        settle(-1, PRICES, Usage(UsageState.ABSENT), ending=Ending.COMPLETE, status=200)


TOKENS = st.none() | st.integers(0, 10**9)
USAGES = st.builds(
    Usage,
    st.sampled_from(UsageState),
    st.lists(
        st.builds(Line, st.builds(Tokens, input_tokens=TOKENS, output_tokens=TOKENS, input_audio_tokens=TOKENS)),
        max_size=3,
    ).map(tuple),
    st.dictionaries(st.sampled_from(["web_search_requests"]), st.integers(0, 9)),
)


@given(
    found=USAGES,
    ending=st.sampled_from(Ending),
    status=st.sampled_from([0, 200, 206, 302, 400, 429, 500, 504, 524]),
    held=st.integers(0, 10**12),
    prices=st.sampled_from([PRICES, STOPS]),
)
def test_charges_keep_the_laws(found: Usage, ending: Ending, status: int, held: int, prices: Prices) -> None:
    """L4, L5, L25: never negative; final is exact; what is estimated is at least its floor; free only if known so."""
    settled = settle(held, prices, found, ending=ending, status=status)
    atoms = settled.charge_atoms
    assert atoms is not None
    assert atoms >= 0
    assert (OVERRUN in settled.flags) == (atoms > held)
    measured = charge(found, CARD, USD).atoms
    if NOT_BILLED in settled.flags:
        assert atoms == 0
        assert ending is Ending.UNSENT or status in {400, 429} or (status == 500 and found.state is UsageState.ERROR)
    elif ESTIMATED not in settled.flags:
        assert found.state is UsageState.FINAL
        assert atoms == measured
    elif IMPLAUSIBLE in settled.flags:
        assert atoms == held < measured
    else:
        assert atoms >= (min(measured, held) if ending is Ending.LIMITED else measured)
        assert atoms <= held or ending is not Ending.LIMITED
        assert atoms >= floor_atoms(held, prices, found, ending) or status in {400, 429}
        assert prices.stops_billing or atoms >= held or status in {400, 429}


@pytest.mark.parametrize(("tier", "geo"), [("priority", None), (None, "eu")])
def test_a_tier_or_place_without_a_price_is_charged_the_hold_and_flagged(tier: str | None, geo: str | None) -> None:
    """L5: what a provider served by a default of the account's that the card does not price is never silent."""
    served = msgspec.structs.replace(usage(UsageState.FINAL), tier=tier, geo=geo)
    assert over(served) == Settlement(HELD, served, (PARTLY_UNPRICED, ESTIMATED))
