"""Rate limits on a request's way: asked last, when all else lets the call run, and settled with it.

A call to which none applies does not come here. What holds money is held already when room is asked for, so that
nothing is taken of a window for a call that its budget refuses; and a call that finds no room gives it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from sidecar.contract.messages import UsageEvent
from sidecar.core.governance.decisions import Consulted, Denied, Reason
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.rate_limits import Counts, NoRoom, RateLimit
from sidecar.core.governance.standing import Standing
from sidecar.core.governance.tenancy import Subject
from sidecar.core.pricing.usage import UsageState
from sidecar.proxy.denial_texts import plain_detail
from sidecar.proxy.price import Priced
from sidecar.proxy.rate_facts import RATE_LIMIT
from sidecar.proxy.settle import NOT_BILLED
from sidecar.proxy.stepping import aside

if TYPE_CHECKING:
    from sidecar.proxy.authorize import Call

UNKNOWN_OUTPUT_TOKENS: Final = 4096
"""What an answer is taken to be at most where neither the request nor a price list says: it is corrected at its end."""


class Room(Protocol):
    """What a call took of its windows. It is settled, or given back, once; a second time does nothing."""

    def settle(self, tokens: int | None) -> None:
        """The call has ended; what it used is known or not."""
        ...

    def give_back(self) -> None:
        """It did not run."""
        ...


class RateDesk(Protocol):
    """What is needed of who counts the windows."""

    def take_now(
        self, standing: Standing, subject: Subject, *, model: str, provider: str, tokens: int
    ) -> Room | NoRoom | None:
        """Decide at once; None: it has to be asked for."""
        ...

    async def take(
        self, standing: Standing, subject: Subject, *, model: str, provider: str, tokens: int
    ) -> Room | NoRoom:
        """Ask for it."""
        ...


async def find_room(
    call: Call, standing: Standing, placed: Subject, bound: Priced | None, desk: RateDesk
) -> Room | Denied:
    """Take room in every window of a call, or say which has none."""
    facts = call.facts
    tokens = most_tokens(call, bound)
    room = desk.take_now(standing, placed, model=facts.model, provider=call.provider, tokens=tokens)
    if room is None:
        room = await aside(
            desk.take(standing, placed, model=facts.model, provider=call.provider, tokens=tokens), discard=_discard
        )
    return denied(room, standing.customer, call.request_id) if isinstance(room, NoRoom) else room


def most_tokens(call: Call, bound: Priced | None) -> int:
    """The most tokens that a call can use, both ways; where nobody knows, an estimate."""
    ceiling = call.facts.ceiling
    if bound is not None:
        return ceiling.input_tokens + ceiling.output_tokens(bound.card)
    limit = UNKNOWN_OUTPUT_TOKENS if ceiling.output_limit is None else ceiling.output_limit
    return ceiling.input_tokens + limit * ceiling.choices


def used_tokens(event: UsageEvent) -> int | None:
    """What a call used, both ways; None where its provider did not say."""
    if NOT_BILLED in event.flags:
        return 0
    usage = event.usage
    if usage.state is not UsageState.FINAL or not usage.lines:
        return None
    whole = usage.total()
    if whole.input_tokens is None and whole.output_tokens is None:
        return None
    return max(0, whole.input_tokens or 0) + max(0, whole.output_tokens or 0)


def denied(room: NoRoom, customer: str, request_id: str) -> Denied:
    """The denial that a full window is."""
    limit = room.limit
    if limit is None:
        return Denied(Reason.OVERLOADED, plain_detail(Reason.OVERLOADED), request_id)
    binding = Consulted(
        RATE_LIMIT,
        limit.limit_id,
        limit.owner(customer),
        limit.counts.value,
        limit.limit,
        used=room.used,
        remaining=room.remaining,
        child=room.child,
        cadence=Cadence.WINDOW,
        resets_in_ms=room.wait_ms,
    )
    return Denied(Reason.RATE_LIMITED, _detail(limit, room, customer), request_id, binding, retry_after_ms=room.wait_ms)


def _detail(limit: RateLimit, room: NoRoom, customer: str) -> str:
    """Which limit, what is counted, and what helps."""
    each = f" of {limit.each.value} {room.child!r}" if room.child else ""
    name = f"Rate limit {limit.owner(customer)}{each}"
    if limit.counts is Counts.CONCURRENT:
        return f"{name}: {room.used} of {limit.limit} calls at once are under way. Try again when one has ended."
    window = f"{limit.limit} {limit.counts.value} in {limit.window_ms // 1000} s"
    if room.wait_ms is None:
        return f"{name}: this call alone may use more than {window}. Ask for a shorter answer, or send less."
    wait = -(-room.wait_ms // 1000)
    return f"{name}: {window}, of which {room.remaining} are left. There is room in {wait} s."


def _discard(room: Room | NoRoom) -> None:
    if not isinstance(room, NoRoom):
        room.give_back()
