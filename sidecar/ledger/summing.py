"""Sums of settled calls: by day, model, team and whatever else a call is known by.

A book may hold millions of calls and there is one thread to read it, so a page reads a bounded
number of them and gives the sums of these; whoever asks adds the pages up, group by group. What
is asked for is never more work at a time than MAX_CALLS_PER_PAGE.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Final

import msgspec

from sidecar.core.credits.amounts import MAX_ATOMS
from sidecar.core.governance.limits import EPOCH, Cadence, Period
from sidecar.core.governance.local_time import zone_called
from sidecar.core.governance.periods import SLOT_MS, Calendar, period_at
from sidecar.core.governance.tenancy import KIND_PATTERN
from sidecar.errors import Rejected
from sidecar.ledger.booked_calls import CHARGE_REFUSED
from sidecar.ledger.reading import customer_row, now_of
from sidecar.ledger.showing import Shower
from sidecar.ledger.sql import fetch_in
from sidecar.ledger.timezones import zones_of
from sidecar.ledger.usage_reading import FoundCall, calls_since, read_cursor
from sidecar.ledger.views import SumView
from sidecar.ports import Transaction

MAX_CALLS_PER_PAGE: Final = 1000
"""Calls that one page adds up: some ten milliseconds of the reading thread, which the proxy shares a CPU with."""

COUNTERS: Final = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
"""What is added up beside the charge; a counter is null where no call of the group said it (L5)."""

DIMENSIONS: Final = ("user", "agent", "session", "feature", "product", "provider", "model")
KINDS: Final = ("team", "department")
"""Kinds of path nodes that need no `node:` before them."""

TIMES: Final = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H%z", "month": "%Y-%m"}
"""By the instant at which a call was admitted, as a clock in its customer's time zone shows it."""

THIS: Final = (Cadence.HOUR, Cadence.DAY, Cadence.WEEK, Cadence.MONTH, Cadence.QUARTER, Cadence.YEAR)
"""Periods that can be asked for: those that run now, by the customer's calendar."""

GROUPINGS: Final = ("day", "hour", "month", "model", *KINDS, "user", "agent", "session", "feature", "product",
                    "provider", "customer")  # fmt: skip
"""By what can be summed, beside `node:KIND` for every other kind of node."""

_NODE: Final = re.compile(rf"node:{KIND_PATTERN}", re.ASCII)


class _Tokens(msgspec.Struct, gc=False):
    """As much of `core.pricing.usage.Tokens` as is added up; one field for each of COUNTERS, in their order."""

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Line(msgspec.Struct, gc=False):
    tokens: _Tokens


class _Usage(msgspec.Struct, gc=False):
    lines: tuple[_Line, ...] = ()


class _Facts(msgspec.Struct, gc=False):
    """As much of `UsageFacts` as is added up or grouped by."""

    path: str
    user: str
    agent: str
    session: str
    feature: str
    product: str
    provider: str
    model: str
    currency: str
    charge_atoms: int | None
    usage: _Usage
    flags: tuple[str, ...]


class _Body(msgspec.Struct, gc=False):
    customer: str
    occurred_at_ms: int
    facts: _Facts


class _Subject(msgspec.Struct, gc=False):
    user: str = ""
    agent: str = ""
    session: str = ""
    feature: str = ""
    product: str = ""


class _Admission(msgspec.Struct, gc=False):
    subject: _Subject
    provider: str
    model: str
    currency: str


class _Event(msgspec.Struct, gc=False):
    """As much of a `UsageEvent`."""

    admission: _Admission
    usage: _Usage
    charge_atoms: int | None
    flags: tuple[str, ...] = ()


_TEXT: Final = msgspec.json.Decoder(_Body)
_EVENT: Final = msgspec.msgpack.Decoder(_Event)
Grouping = Callable[[_Body], str | None]
Counts = tuple[int | None, ...]
"""One for each of COUNTERS."""


class _Sum:
    """One group so far."""

    __slots__ = ("atoms", "calls", "counters", "estimated")

    def __init__(self) -> None:
        self.calls = self.estimated = self.atoms = 0
        self.counters: Counts = (None,) * len(COUNTERS)

    def add(self, counts: Counts, atoms: int, *, estimated: bool) -> bool:
        """Count one call; False, and nothing is counted, where a sum would be too large for readers of JSON."""
        counters = _plus(self.counters, counts)
        if self.calls and (self.atoms + atoms > MAX_ATOMS or max(count or 0 for count in counters) > MAX_ATOMS):
            return False
        self.calls += 1
        self.estimated += estimated
        self.atoms += atoms
        self.counters = counters
        return True


async def sum_usage(
    tx: Transaction,
    show: Shower,
    *,
    by: str,
    customer: str,
    since_ms: int,
    after: str,
    this: str = "",
    node: str = "",
    wall_ms: int,
) -> tuple[list[SumView], str]:
    """The sums over the next calls recorded since an instant, in the order booked.

    Calls whose charge is unknown are a group of their own, without a charge: unknown is never zero.

    Args:
        tx: a snapshot.
        show: writes amounts.
        by: one of GROUPINGS, or `node:KIND`.
        customer: `` for all.
        since_ms: of recording, as for the list of calls.
        after: `` at first, then the cursor of the page before.
        this: one of THIS: only calls admitted in the period of that kind that runs now, which only one
            customer has; `` for all.
        wall_ms: Unix milliseconds.
        node: `kind:id`, to count only what is at it or below, or of that user; `` for all.

    Returns:
        The groups of this page (the same group may come again in the next), and the cursor to go
        on with, `` at the end.

    Raises:
        Rejected: a grouping or a cursor that is none.
        NotFound: no such customer.
    """
    check_grouping(by)
    running = await _running(tx, customer, this, wall_ms)
    if running is not None:  # what was admitted in it was recorded in it or later
        since_ms = max(since_ms, running.starts_at_ms)
    calls = await calls_since(tx, customer, since_ms, read_cursor(after), MAX_CALLS_PER_PAGE + 1)
    group_of = grouping(by, await _clocks(tx, calls) if by in TIMES else {})
    sums: dict[tuple[str | None, str], _Sum] = {}
    last: FoundCall | None = None
    for call in calls[:MAX_CALLS_PER_PAGE]:
        body = _body(call)
        facts = body.facts
        elsewhere = node and node not in (f"user:{facts.user}", *facts.path.split("/"))
        if elsewhere or (running is not None and not running.contains(body.occurred_at_ms)):
            last = call
            continue
        key = (group_of(body), "" if facts.charge_atoms is None else facts.currency)
        group = sums.get(key)
        if group is None:
            group = sums[key] = _Sum()
        if not group.add(_counts(facts.usage), facts.charge_atoms or 0, estimated="estimated" in facts.flags):
            break
        last = call
    else:
        if len(calls) <= MAX_CALLS_PER_PAGE:
            last = None
    views = [
        SumView(
            by=by,
            group=name,
            calls=one.calls,
            estimated_calls=one.estimated,
            usage=dict(zip(COUNTERS, one.counters, strict=True)),
            charge=show.money(one.atoms, currency) if currency else None,
        )
        for (name, currency), one in sums.items()
    ]
    return views, "" if last is None else last.cursor


async def _running(tx: Transaction, customer: str, this: str, wall_ms: int) -> Period | None:
    if not this:
        return None
    if this not in THIS:
        raise Rejected("invalid_parameter", {"this": f"expected one of {', '.join(THIS)}"})
    if not customer:
        raise Rejected("invalid_parameter", {"customer": f"whose {this}: each customer has its own"})
    row = await customer_row(tx, customer)
    return period_at(Calendar(Cadence(this), zones=zones_of(row)), now_of(row, wall_ms))


async def _clocks(tx: Transaction, calls: list[FoundCall]) -> dict[str, str]:
    """The time zones of the calls' customers, as they are now."""
    names = sorted({call.customer for call in calls})
    rows = await fetch_in(tx, "SELECT customer, timezones FROM customers WHERE customer IN ({})", (), names)
    return {row["customer"]: zones_of(row)[-1][1] for row in rows}


def check_grouping(by: str) -> None:
    """Refuse what is no grouping.

    Raises:
        Rejected: it is none.
    """
    known = by in TIMES or by == "customer" or by in DIMENSIONS or by in KINDS
    if not known and _NODE.fullmatch(by) is None:
        raise Rejected("invalid_parameter", {"by": f"expected one of {', '.join(GROUPINGS)}, or node:KIND"})


def grouping(by: str, clocks: Mapping[str, str]) -> Grouping:
    """What tells the group of a call, None for a call that has none.

    Args:
        by: a grouping.
        clocks: customers' time zones, for groupings by time.
    """
    if by in TIMES:
        shape = TIMES[by]
        return lambda body: _time_text(body.occurred_at_ms // SLOT_MS, clocks[body.customer], shape)
    if by == "customer":
        return lambda body: body.customer
    if by in DIMENSIONS:
        return lambda body: getattr(body.facts, by) or None
    wanted = f"{by.removeprefix('node:')}:"
    return lambda body: next(
        (part.removeprefix(wanted) for part in body.facts.path.split("/") if part.startswith(wanted)), None
    )


@lru_cache(maxsize=1024)
def _time_text(slot: int, clock: str, shape: str) -> str:
    """A quarter of an hour since 1970, as a clock shows it, in a shape that tells nothing finer than an hour."""
    at = (EPOCH + timedelta(milliseconds=slot * SLOT_MS)).astimezone(zone_called(clock))
    return at.strftime(shape.replace("%z", "Z") if clock == "UTC" else shape)


def _body(found: FoundCall) -> _Body:
    """What is summed of a call, whichever way it is kept."""
    if found.batch is None:
        return _TEXT.decode(found.text)
    call = found.booked()
    event = _EVENT.decode(call.event)
    admission, subject = event.admission, event.admission.subject
    facts = _Facts(
        found.batch.path(call),
        subject.user,
        subject.agent,
        subject.session,
        subject.feature,
        subject.product,
        admission.provider,
        admission.model,
        admission.currency,
        None if CHARGE_REFUSED in call.flags else event.charge_atoms,
        event.usage,
        event.flags,
    )
    return _Body(found.customer, call.occurred_at_ms, facts)


def _counts(usage: _Usage) -> Counts:
    """What a call used, over all its lines; a counter is None only where no line said it."""
    counts: Counts = (None,) * len(COUNTERS)
    for line in usage.lines:
        one = line.tokens
        said = (
            one.input_tokens,
            one.cache_read_tokens,
            one.cache_write_tokens,
            one.output_tokens,
            one.reasoning_tokens,
        )
        counts = said if line is usage.lines[0] else _plus(counts, said)
    return counts


def _plus(some: Counts, more: Counts) -> Counts:
    return tuple([b if a is None else a if b is None else a + b for a, b in zip(some, more, strict=True)])
