"""May this call run? Decided before the provider hears of it, and written down before it goes out.

On a hit everything here is one synchronous step: the standing and the leases are in memory, the
hold is taken over all accounts at once, and the admission's `write()` follows before anybody
else gets a turn (L40, L49). Only a miss suspends, inside `Keeper.cover`, which holds for the call
itself; so no answer of the ledger can be lost to somebody quicker.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from sidecar.contract.messages import Admission
from sidecar.core.governance.decisions import Decision, Denied, Reason, Source, pack_figures
from sidecar.core.governance.standing import Standing
from sidecar.core.governance.tenancy import Subject
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.errors import SpoolFull
from sidecar.leases.table import NO_LIMIT, Covered, Held, Keeper, LeaseTable, Uncovered
from sidecar.ports import Clock, Spool
from sidecar.providers.dialect import RequestFacts
from sidecar.proxy.clamp import CLAMP_FLOOR_TOKENS, FOR_GOOD, Clamp, Shortener, shortened
from sidecar.proxy.denial_texts import MONEY, money_detail, plain_detail
from sidecar.proxy.exact_counts import ExactCounts
from sidecar.proxy.expectations import Expectations
from sidecar.proxy.open_ended import OpenEnded
from sidecar.proxy.pressure import Pressure
from sidecar.proxy.price import Priced, UnknownModel, Unpriced, admit_unpriced, affordable_output_tokens, price
from sidecar.proxy.rates import RateDesk, Room, find_room
from sidecar.proxy.settle import Prices
from sidecar.proxy.small_holds import Start, begun_small
from sidecar.proxy.stepping import aside
from sidecar.proxy.window_clamp import shortened_to_window, wants_fewer_tokens

IN_FLIGHT_WAIT_MS: Final = (500, 2000)
"""What a caller is asked to wait where only open calls stand in the way: spread, so that a herd comes back thinned."""


class RateBookSource(Protocol):
    """Where the rate cards in force come from."""

    def __call__(self) -> RateBook:
        """The book of now; a published catalog takes its place from one call to the next."""
        ...


@dataclass(frozen=True, slots=True)
class Authority:
    """What a decision looks at and writes to. `rates_now` gives the rate cards in force.

    `counts` counts prompts whose bound would refuse them; None where the `[tokenizers]` extra is not installed.
    `rate_desk` counts windows; None where no standing has any. `expected` learns what calls cost. `open_ended`
    says whether calls without a bound may run, and knows those that do.
    """

    table: LeaseTable
    keeper: Keeper
    spool: Spool
    clock: Clock
    rates_now: RateBookSource
    unknown_model: UnknownModel = UnknownModel.DENY
    clamp_floor_tokens: int = CLAMP_FLOOR_TOKENS
    counts: ExactCounts | None = None
    rate_desk: RateDesk | None = None
    expected: Expectations = field(default_factory=Expectations)
    open_ended: OpenEnded = field(default_factory=OpenEnded)
    pressure: Pressure = field(default_factory=Pressure)


class Call(msgspec.Struct, frozen=True):
    """What is to be decided about: who asks for what, by which protocol, of which provider's prices.

    `stops_billing` is the upstream's entry (L25). `shorten` lowers its output limit, None where that may not
    be; `clamp` says that it was done. `counted`: whether a lower bound of its prompt was looked for.
    `asked_at` (monotonic): when it was first asked for at the keeper, None if it was not. `key_id` names the
    virtual key that it was let in by. `unbounded` names what of it has no bound, where such may run (`open_ended`).
    `start`: its hold begins with so much and grows; None: it is its bound.
    """

    request_id: str
    subject: Subject
    facts: RequestFacts
    provider: str
    protocol: str
    stops_billing: bool = False
    shorten: Shortener | None = None
    clamp: Clamp | None = None
    asked_at: float | None = None
    counted: bool = False
    key_id: str = ""
    unbounded: tuple[str, ...] = ()
    start: Start | None = None

    def kind(self, currency: str) -> tuple[str, str, str, str]:
        """The `expectations.Kind` of it, charged in this currency."""
        return self.provider, self.protocol, self.facts.model, currency


class Admitted:
    """The call may run, and that is written. It must be settled exactly once.

    Attributes:
        call: what was admitted: the one asked for, or a shorter one.
        admission: as it stands in the outbox.
        held: None: nothing had to be held.
        prices: None: it has no price.
        remaining_atoms: what the tightest limit still had, the grants taken together; None where nothing is known.
        room: what it took of windows, to be settled with it; None: no rate limit is the customer's.
    """

    __slots__ = ("admission", "call", "held", "prices", "remaining_atoms", "room")

    def __init__(
        self, call: Call, admission: Admission, held: Held | None, prices: Prices | None, remaining_atoms: int | None
    ) -> None:
        self.call = call
        self.admission = admission
        self.held = held
        self.prices = prices
        self.remaining_atoms = remaining_atoms
        self.room: Room | None = None


async def authorize(call: Call, authority: Authority) -> Admitted | Denied:
    """Decide about a call: hold the most it can cost and write its admission, or say why not."""
    now_ms = authority.clock.wall_ms()
    rates = authority.rates_now()
    bound = price(call.facts.ceiling, rates, provider=call.provider, at_ms=now_ms)
    if not isinstance(bound, Priced):
        let_in = authority.open_ended.let_in(call.facts.ceiling, rates, provider=call.provider, at_ms=now_ms)
        if let_in is None:
            return await _without_price(call, bound, rates, now_ms, authority)
        facts, bound = msgspec.structs.replace(call.facts, ceiling=let_in.ceiling), let_in.priced
        call = msgspec.structs.replace(call, facts=facts, unbounded=call.unbounded or let_in.features)
    covered = _take(call, bound, authority)
    began = authority.clock.monotonic() if covered is None and call.asked_at is None else call.asked_at
    if covered is None:
        if not authority.pressure.takes_misses(authority.table.open_holds):
            return Denied(Reason.OVERLOADED, plain_detail(Reason.OVERLOADED), call.request_id)
        covered = await aside(
            authority.keeper.cover(
                call.subject,
                model=call.facts.model,
                provider=call.provider,
                need_atoms=bound.ceiling_atoms if call.start is None else call.start.atoms,
                currency=bound.currency.code,
                since=call.asked_at,
            ),
            discard=lambda late: _release(late, authority),
        )
    if isinstance(covered, Uncovered):
        return await _with_less(call, bound, covered, authority, began=began)
    if covered.standing.currency != bound.currency.code:
        if covered.held is not None:
            authority.table.release(covered.held)
        detail = f"This model has no price in {covered.standing.currency}, which this customer pays with."
        return Denied(Reason.MODEL_NOT_PRICED, detail, call.request_id)
    if covered.standing.rate_limits:
        return await _within_rates(call, covered, bound, authority, rates=rates, now_ms=now_ms)
    return _admit(call, covered, bound, authority, rates=rates, now_ms=now_ms)


async def _with_less(
    call: Call, bound: Priced, covered: Uncovered, authority: Authority, *, began: float | None
) -> Admitted | Denied:
    """Decide about a call whose bound does not fit: with its prompt counted, with a part of it held, or shorter."""
    fewer = await _counted(call, covered.reason, authority)
    if fewer is not None:
        return await authorize(msgspec.structs.replace(fewer, asked_at=began), authority)
    in_flight = False
    for smaller in _begun_small(call, bound, covered, authority):
        verdict = await authorize(msgspec.structs.replace(smaller, asked_at=began), authority)
        if isinstance(verdict, Admitted):
            return verdict
        in_flight = in_flight or verdict.reason is Reason.BUDGET_IN_FLIGHT
    # What others hold they give back: better asked again than shortened to as little as it could have begun with.
    shorter = None if in_flight else _shortened(call, bound, covered, authority)
    if shorter is not None:
        verdict = await authorize(msgspec.structs.replace(shorter, asked_at=began), authority)
        if isinstance(verdict, Admitted) or verdict.reason not in FOR_GOOD:
            return verdict
        in_flight = True  # there was enough for a shorter answer a moment ago, and others were quicker
    told = msgspec.structs.replace(covered, reason=Reason.BUDGET_IN_FLIGHT) if in_flight else covered
    return _denied(call, bound, told)


def _take(call: Call, bound: Priced, authority: Authority) -> Covered | Uncovered | None:
    """Decide by what is held here; None: it is not enough, or the subject is not known here."""
    known = authority.keeper.standing(call.subject)
    if known is None:
        return None
    if known.standing.currency != bound.currency.code:
        return known
    now = authority.clock.monotonic()
    taken = authority.table.take(
        known.standing,
        call.subject,
        model=call.facts.model,
        provider=call.provider,
        atoms=bound.ceiling_atoms if call.start is None else call.start.atoms,
        now=now,
    )
    if isinstance(taken, Held):
        return Covered(known.standing, known.standing_age_ms, taken)
    if taken is NO_LIMIT:
        return Uncovered(Reason.NO_LIMIT_APPLIES, standing_age_ms=known.standing_age_ms)
    return None


def _release(covered: Covered | Uncovered, authority: Authority) -> None:
    """Nobody is there any more to use what was held."""
    if isinstance(covered, Covered) and covered.held is not None:
        authority.table.release(covered.held)


async def _counted(call: Call, reason: Reason, authority: Authority) -> Call | None:
    """The call with the bound that counting its prompt proves, if that is lower (L0)."""
    counts = authority.counts
    if counts is None or call.counted or call.start is not None:
        return None
    if not counts.may_help(reason, provider=call.provider, protocol=call.protocol):
        return None
    facts = await aside(counts.lower(call.facts, call.protocol))
    return None if facts is None else msgspec.structs.replace(call, facts=facts, counted=True)


def _shortened(call: Call, bound: Priced, uncovered: Uncovered, authority: Authority) -> Call | None:
    """The call with a lower output limit, if that may help and no budget that applies forbids it."""
    standing = uncovered.standing
    if call.shorten is None or standing is None or call.start is not None:
        return None
    found = shortened(
        call.facts, call.clamp, bound, uncovered,
        shorten=call.shorten, may_clamp=_may_clamp(call, standing), floor_tokens=authority.clamp_floor_tokens,
    )  # fmt: skip
    return None if found is None else msgspec.structs.replace(call, facts=found[0], clamp=found[1])


def _begun_small(call: Call, bound: Priced, uncovered: Uncovered, authority: Authority) -> tuple[Call, ...]:
    """The call with a hold that grows, if its provider, its stream and all budgets that apply allow that."""
    standing, expected, kind = uncovered.standing, authority.expected, call.kind(bound.currency.code)
    if not call.stops_billing or call.unbounded or call.start is not None or standing is None:
        return ()
    if not _may_clamp(call, standing) or not expected.may_grow(kind, authority.clock.monotonic()):
        return ()
    found = begun_small(
        call.facts, call.clamp, bound, uncovered,
        protocol=call.protocol, shorten=call.shorten, floor_tokens=authority.clamp_floor_tokens,
        expected_atoms=expected.expected_of(kind) or 0,
    )  # fmt: skip
    if found is None:
        return ()
    return tuple(msgspec.structs.replace(call, facts=found[0], clamp=found[1], start=start) for start in found[2])


def _may_clamp(call: Call, standing: Standing) -> bool:
    """Whether no hard budget that applies says that an answer must not be shortened."""
    budgets = standing.budgets_for(_placed(call.subject, standing), model=call.facts.model, provider=call.provider)
    return all(budget.clamp for budget in budgets if budget.hard)


async def _without_price(
    call: Call, denied: Denied, rates: RateBook, now_ms: int, authority: Authority
) -> Admitted | Denied:
    """A call that has no price or no bound: by policy it is only counted; else the first reason that holds is told."""
    covered: Covered | Uncovered | None = authority.keeper.standing(call.subject)
    if covered is None:
        covered = await aside(
            authority.keeper.cover(
                call.subject, model=call.facts.model, provider=call.provider, need_atoms=0, currency=""
            )
        )
    if isinstance(covered, Uncovered):
        return _denied(call, None, covered)
    verdict: Denied | Unpriced = denied
    if authority.unknown_model is UnknownModel.METER and rates.find(call.provider, call.facts.model, now_ms) is None:
        verdict = admit_unpriced(
            covered.standing, call.subject, model=call.facts.model, provider=call.provider, at_ms=now_ms
        )
    if isinstance(verdict, Denied):
        return msgspec.structs.replace(verdict, request_id=call.request_id, standing_age_ms=covered.standing_age_ms)
    if covered.standing.rate_limits:
        return await _within_rates(call, covered, None, authority, rates=rates, now_ms=now_ms)
    return _admit(call, covered, None, authority, rates=rates, now_ms=now_ms)


async def _within_rates(
    call: Call, covered: Covered, bound: Priced | None, authority: Authority, *, rates: RateBook, now_ms: int
) -> Admitted | Denied:
    """Admit a call for which there is room in every window, or the same counted exactly, or with a shorter answer."""
    verdict = await _in_windows(call, covered, bound, authority, rates=rates, now_ms=now_ms)
    if isinstance(verdict, Admitted) or not wants_fewer_tokens(verdict):
        return verdict
    fewer = await _counted(call, verdict.reason, authority)
    if fewer is not None:
        return await authorize(fewer, authority)
    if call.shorten is None or not _may_clamp(call, covered.standing):
        return verdict
    found = shortened_to_window(
        call.facts, call.clamp, bound, verdict, shorten=call.shorten, floor_tokens=authority.clamp_floor_tokens
    )
    if found is None:
        return verdict
    shorter = await authorize(msgspec.structs.replace(call, facts=found[0], clamp=found[1], start=None), authority)
    if isinstance(shorter, Denied) and shorter.reason is Reason.RATE_LIMITED:
        return verdict  # others were quicker, and its wait is the one of the call as it came
    return shorter


async def _in_windows(
    call: Call, covered: Covered, bound: Priced | None, authority: Authority, *, rates: RateBook, now_ms: int
) -> Admitted | Denied:
    """Admit a call as it is if every window has room; else what is held for it is free again."""
    desk, standing, verdict = authority.rate_desk, covered.standing, None
    room: Room | Denied | None = None
    try:
        if desk is not None:
            room = await find_room(call, standing, _placed(call.subject, standing), bound, desk)
        if isinstance(room, Denied):
            return msgspec.structs.replace(room, standing_age_ms=covered.standing_age_ms)
        verdict = _admit(call, covered, bound, authority, rates=rates, now_ms=now_ms)
        if isinstance(verdict, Admitted):
            verdict.room = room
        return verdict
    finally:
        if not isinstance(verdict, Admitted):
            if room is not None and not isinstance(room, Denied):
                room.give_back()
            if covered.held is not None and not covered.held.resolved:
                authority.table.release(covered.held)


def _admit(
    call: Call, covered: Covered, bound: Priced | None, authority: Authority, *, rates: RateBook, now_ms: int
) -> Admitted | Denied:
    """Write that the call may run; what cannot be written may not (L49)."""
    held, standing = covered.held, covered.standing
    source = Source.UNPRICED if bound is None else covered.source
    ceiling_atoms = None if bound is None else bound.ceiling_atoms
    card_id = "" if bound is None else bound.card.card_id
    age_ms = covered.standing_age_ms
    if held is None:
        decision = Decision(source, ceiling_atoms, age_ms, None, standing.plan, card_id, rates.sha256)
        placed, held_atoms, remaining = _placed(call.subject, standing), 0, None
        budget_leases: tuple[str, ...] = ()
        slices: tuple[tuple[str, int], ...] = ()
    else:
        plan = held.plan
        figures, remaining = plan.look(held.taken_at)
        decision = Decision(
            source, ceiling_atoms, age_ms, held.lease_age_ms, standing.plan, card_id, rates.sha256,
            (), plan.asked, pack_figures(figures),
        )  # fmt: skip
        placed, held_atoms = plan.placed, held.atoms
        budget_leases, slices = held.budget_leases, held.slices
    if call.clamp is not None:
        decision = msgspec.structs.replace(
            decision, clamped_to=call.facts.ceiling.output_limit, asked_output=call.clamp.asked
        )
    if call.start is not None:
        decision = msgspec.structs.replace(decision, grows=True)
    if call.key_id:
        decision = msgspec.structs.replace(decision, key_id=call.key_id)
    if call.unbounded:
        decision = msgspec.structs.replace(decision, unbounded=call.unbounded)
    admission = Admission(
        call.request_id,
        placed,
        call.provider,
        call.protocol,
        call.facts.model,
        now_ms,
        standing.currency,
        held_atoms,
        decision,
        budget_leases,
        slices,
    )
    denied = write_admission(admission, held, authority)
    if denied is not None:
        return denied
    if call.unbounded and bound is not None:
        authority.open_ended.opened(call.request_id, call.facts.ceiling, bound)
    if call.start is not None and bound is not None:
        authority.open_ended.grows(call.request_id, standing.currency, max(0, bound.ceiling_atoms - held_atoms))
    prices = None if bound is None else _prices(call, bound, rates, now_ms)
    return Admitted(call, admission, held, prices, remaining)


def write_admission(admission: Admission, held: Held | None, authority: Authority) -> Denied | None:
    """Write that work may run, or free what is held for it and say no: what cannot be written may not (L49)."""
    try:
        authority.spool.admit(admission)
    except Exception as problem:
        if held is not None:
            authority.table.release(held)
        if not isinstance(problem, SpoolFull):
            raise
        return Denied(Reason.OUTBOX_FULL, plain_detail(Reason.OUTBOX_FULL), admission.request_id)
    return None


def _prices(call: Call, bound: Priced, rates: RateBook, now_ms: int) -> Prices:
    """What the call will be settled by, whatever is published until then (L21)."""
    return Prices(
        call.facts.ceiling,
        bound.card,
        bound.currency,
        rates,
        now_ms,
        stops_billing=call.stops_billing,
        may_reason=call.facts.may_reason,
    )


def _placed(subject: Subject, standing: Standing) -> Subject:
    """The subject on its canonical path, every ancestor named (L31)."""
    return subject if subject.path == standing.path else msgspec.structs.replace(subject, path=standing.path)


def _denied(call: Call, bound: Priced | None, uncovered: Uncovered) -> Denied:
    """The denial that what we know here amounts to, in words."""
    reason, binding = uncovered.reason, uncovered.binding
    wait_ms = uncovered.retry_after_ms
    if reason is Reason.BUDGET_IN_FLIGHT:
        least, most = IN_FLIGHT_WAIT_MS
        wait_ms = least + zlib.crc32(call.request_id.encode()) % (most - least + 1)
    tokens = None
    if bound is not None and uncovered.affordable_atoms is not None and reason is not Reason.BUDGET_IN_FLIGHT:
        tokens = affordable_output_tokens(call.facts.ceiling, bound, uncovered.affordable_atoms)
    detail = uncovered.detail
    if not detail and bound is not None and reason in MONEY:
        detail = money_detail(reason, binding, bound.ceiling_atoms, bound.currency, affordable_tokens=tokens)
    return Denied(
        reason,
        detail or plain_detail(reason),
        call.request_id,
        binding,
        uncovered.consulted,
        None if bound is None else bound.ceiling_atoms,
        "" if bound is None else bound.currency.code,
        uncovered.standing_age_ms,
        wait_ms,
        tokens,
        uncovered.owner,
    )
