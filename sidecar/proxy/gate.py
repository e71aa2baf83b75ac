"""Lets a stream pass as far as it is paid for, where its hold grows with it, and ends it where it grows no more.

Every event of the answer is read before it is passed on. What it shows is compared with what the hold covers; where
that is not enough, the hold grows, at once if it can be here, else the provider is read no further and the ledger is
asked. Where nothing more can be held, what was not passed on is dropped, the stream gets a proper end in its caller's
own protocol, and the connection to the provider is closed: the call is charged its prompt and what was counted (L25),
which is never more than what is held. So a caller sees whole events only, and never one that is not covered.

What cannot be read as a stream cannot be ended as one: a compressed answer is passed on as it comes while it is
covered, and then cut. An answer that is no stream was made whole before its first byte, so nothing is left to be saved;
nor is of a stream that has come whole before it could be ended: it is charged what its provider says of it (L17).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from sidecar.core.governance.decisions import Reason
from sidecar.core.pricing.usage import Usage
from sidecar.providers.content_decoding import GZIP_MAGIC
from sidecar.providers.dialect import Ending
from sidecar.providers.event_stream import EventStream
from sidecar.providers.growing_streams import end_for, most_tokens
from sidecar.providers.metering import METER_DEGRADED, Meter
from sidecar.providers.stream_end import Cut, StreamEnd
from sidecar.proxy.authorize import Admitted, Authority
from sidecar.proxy.growth import Growth
from sidecar.proxy.observe import NOTHING_READ
from sidecar.proxy.outcomes import Cause
from sidecar.proxy.refusals import Header
from sidecar.telemetry.metrics import Metrics

WAITING_BYTES_MAX: Final = 4 * 2**20
"""Of an answer that waits for credit; the provider is not read meanwhile, so it is one read, or a very long event."""

OnCap = Literal["end", "error"]
"""How a stream is ended from inside: as an answer that reached its limit, or as one that failed."""

_BLANK: Final = b" \t\r\n\xef\xbb\xbf"

logger = logging.getLogger(__name__)


class Passing(Protocol):
    """The exchange that the answer belongs to."""

    @property
    def is_over(self) -> bool:
        """Whether it has come to an end, of whatever kind."""
        ...

    def hold_on(self) -> None:
        """Read no more of the answer until `go_on`."""
        ...

    def go_on(self, *, complete: bool) -> None:
        """Pass on what was held back, and read on."""
        ...

    def conclude(self, cause: Cause, last: bytes, headers: tuple[Header, ...], *, repeats: bool) -> None:
        """End it before its end, properly: with these last bytes, and these trailers; `repeats` as of `StreamEnd`."""
        ...

    def end(self, cause: Cause, detail: str = "") -> None:
        """End it before its end by cutting it."""
        ...


class _Waiting(NamedTuple):
    """An event that was read: what of it may be shown, and what it says."""

    shown: bytes
    name: bytes
    data: bytes


class Gate:
    """One answer's. `is_over`: all of it has come and was let through.

    `waits`: part of it has come that is not covered yet.
    """

    __slots__ = (
        "_complete",
        "_end",
        "_exchange",
        "_fails",
        "_fits",
        "_free",
        "_growth",
        "_lost",
        "_meter",
        "_next",
        "_queue",
        "_request_id",
        "_stream",
        "_surplus",
        "_task",
        "is_over",
        "waits",
    )

    def __init__(self, growth: Growth, end: StreamEnd, *, request_id: str, fails: bool) -> None:
        """Make one; `fails`: where it ends the stream, the end is an error and not a shortened answer."""
        self._growth = growth
        self._end = end
        self._request_id = request_id
        self._fails = fails
        self._exchange: Passing | None = None
        self._meter: Meter | None = None
        self._stream: EventStream | None = None
        self._queue: deque[bytes] = deque()
        self._next: _Waiting | None = None
        self._free = False  # nothing is held back of it
        self._fits = False  # all of it has come, and its own figures say that what is held is enough
        self._lost = False  # it cannot be read as a stream: it can only be cut
        self._surplus = 0  # bytes at its end that the meter has yet to count
        self._complete = False
        self._task: asyncio.Task[None] | None = None
        self.is_over = False
        self.waits = False

    @property
    def growth(self) -> Growth:
        """The call's hold."""
        return self._growth

    def attach(self, exchange: Passing) -> None:
        """Say what is to be held up and ended."""
        self._exchange = exchange

    def began(self, meter: Meter, *, status: int, content_encoding: str) -> None:
        """The answer's head is here, and its meter is made."""
        self._meter = meter
        self._free = not 200 <= status < 300
        self._lost = bool(content_encoding)

    def take(self, piece: bytes, *, complete: bool) -> bytes:
        """Take the answer's next bytes; gives what of all that came may be passed on now."""
        meter = self._meter
        if meter is None:
            raise RuntimeError("a piece of an answer without a meter")
        self._complete = self._complete or complete
        if not self._free:
            self._cut_up(piece, complete=complete)
        if self._free:
            self.is_over = self._complete
            return meter.feed(piece) if piece else b""
        return self._release(meter)

    # -- `AnswerMeter`, for the exchange, which is shown what was let through

    def feed(self, piece: bytes) -> bytes:
        """The piece itself: it was read before it was let through."""
        return piece

    def flush(self) -> bytes:
        """See `AnswerMeter`."""
        return b"" if self._meter is None else self._meter.flush()

    def finished(self) -> bool:
        """See `AnswerMeter`; not before all that was read is let through."""
        return self._meter is not None and not self.waits and self._meter.finished()

    def usage(self, ending: Ending) -> Usage:
        """See `AnswerMeter`; of what could not be cut into events some was not read, whatever the meter saw."""
        if self._meter is None:
            return NOTHING_READ
        found = self._meter.usage(ending)
        if self._lost and self._stream is not None:
            return msgspec.structs.replace(found, notes=(*found.notes, METER_DEGRADED))
        return found

    def close(self) -> None:
        """The call is over: ask for nothing more."""
        if self._task is not None:
            self._task.cancel()

    # -- cutting it into events

    def _cut_up(self, piece: bytes, *, complete: bool) -> None:
        if self._lost:
            if piece:
                self._queue.append(piece)
            return
        stream = self._stream
        if stream is None:
            body = piece.lstrip(_BLANK)
            self._lost = body.startswith(GZIP_MAGIC[:1])
            if self._lost or not body:
                self._queue.append(piece)
                return
            stream = self._stream = self._end.framing(body)
            if stream is None:
                self._free = True
                return
        run = stream.feed(piece)
        at = 0
        for start, event in stream.split(run) if run else ():
            end = start + len(event)
            self._queue.append(run[at:end])
            at = end
        if complete and (rest := stream.rest()):
            self._surplus = len(rest)
            self._queue.append(rest)
        if stream.skipped or sum(map(len, self._queue)) > WAITING_BYTES_MAX:
            self._lost = True

    # -- letting it through

    def _release(self, meter: Meter) -> bytes:
        passed: list[bytes] = []
        while not self.waits:
            if self._next is None:
                if not self._queue:
                    break
                raw = self._queue.popleft()
                name, data = (b"", b"") if self._lost or self._stream is None else self._stream.read(raw)
                self._next = _Waiting(meter.feed(raw), name, data)
            needed = 0 if self._fits else self._needed(meter)
            if needed is None or not (self._growth.is_over or self._growth.reach(needed)):
                self._wait(needed)
                break
            passed.append(self._next.shown)
            if self._next.data:
                self._end.see(self._next.name, self._next.data)
            self._next = None
        self.is_over = self._complete and not self.waits
        return passed[0] if len(passed) == 1 else b"".join(passed)

    def _needed(self, meter: Meter) -> int | None:
        """Output tokens at most of all that was read so far; None: they cannot be told."""
        counted = meter.counted
        if counted is None or (self._lost and self._stream is not None):
            return None
        pieces, visible_bytes = counted
        return min(self._growth.limit, most_tokens(pieces, visible_bytes + self._surplus))

    def _wait(self, needed: int | None) -> None:
        exchange = self._exchange
        if exchange is None:
            raise RuntimeError("nothing to hold up")
        self.waits = True
        exchange.hold_on()
        self._task = asyncio.get_running_loop().create_task(self._ask(exchange, needed))

    async def _ask(self, exchange: Passing, needed: int | None) -> None:
        """Go on with the stream, or end it."""
        refused: Reason | None = Reason.REQUEST_NOT_BOUNDABLE
        if needed is not None:
            try:
                refused = await self._growth.ask(needed)
            except Exception:
                logger.exception("growing_failed", extra={"facts": {"request_id": self._request_id}})
                refused = Reason.OVERLOADED
        self.waits = False
        if exchange.is_over:
            return
        if refused is None or self._fits_after_all():
            exchange.go_on(complete=self._complete)
        else:
            self._conclude(exchange, refused)

    def _fits_after_all(self) -> bool:
        """Whether all of the answer has come, and what is held is enough by its provider's own figures."""
        meter, first = self._meter, self._next
        if not self._complete or self._lost or meter is None or first is None:
            return False
        rest = [meter.feed(raw) for raw in self._queue]
        self._queue.clear()
        self._next = _Waiting(first.shown + b"".join(rest), b"", b"")
        self._fits = self._growth.pays_for(meter.usage(Ending.COMPLETE))
        return self._fits

    def _conclude(self, exchange: Passing, refused: Reason) -> None:
        if self._lost or self._meter is None:
            exchange.end(Cause.CREDIT_ENDED, refused.value)
            return
        whole = self._meter.usage(Ending.LIMITED).total()
        cut = Cut(
            refused.value,
            f"This answer was ended here: nothing more can be held for it ({refused.value}).",
            self._request_id,
            whole.input_tokens or 0,
            whole.output_tokens or 0,
        )
        last = self._end.failed(cut) if self._fails else self._end.shortened(cut)
        trailers = ((b"Spend-Cut", refused.value.encode()),)
        exchange.conclude(Cause.CREDIT_ENDED, last, trailers, repeats=self._end.repeats)


def gate_for(admitted: Admitted, authority: Authority, metrics: Metrics, *, on_cap: OnCap) -> Gate | None:
    """The gate of a call whose hold grows; None where there is no hold, or nothing that could end its stream."""
    call, held, prices = admitted.call, admitted.held, admitted.prices
    end = end_for(call.protocol, call.facts)
    if call.start is None or held is None or prices is None or end is None:
        return None
    growth = Growth(admitted, held, prices, authority, metrics)
    return Gate(growth, end, request_id=call.request_id, fails=on_cap == "error")
