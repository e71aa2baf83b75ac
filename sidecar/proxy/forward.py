"""The door to the provider: a request goes out, its answer passes through piece by piece.

Everything between the two sockets happens in the provider connection's callback: a piece is shown
to the meter, framed and written to the caller in one call, with no task switch and no copy kept.
The one thing that waits is the end. Before the bytes that tell the caller that the answer is over,
`on_end` settles and records it, so what was consumed is written down before anybody can act on it.

Whatever happens, `on_end` is called exactly once: complete, cut by the provider, out of time,
abandoned by the caller, never sent, or stopped with the process. A caller who leaves does not stop
the measuring: the rest of the answer is read and thrown away, within bounds, because only the
provider's own figures at its end say what it cost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from sidecar.errors import UpstreamUnavailable
from sidecar.providers.dialect import AnswerMeter
from sidecar.proxy.answer_framing import AnswerHead, Framing, choose_framing, framing_lines
from sidecar.proxy.arrival import Arrival
from sidecar.proxy.forward_options import ForwardOptions
from sidecar.proxy.key_echo import KeyEcho, without_key
from sidecar.proxy.outcomes import Cause, Outcome, ending_of
from sidecar.proxy.refusals import Header
from sidecar.proxy.request_filter import outgoing_head
from sidecar.proxy.stepping import Pause, aside
from sidecar.proxy.sweep import Sweep
from sidecar.proxy.upstream_connection import Break, UpstreamConnection
from sidecar.proxy.upstream_pool import Upstream

logger = logging.getLogger(__name__)

MeterMaker = Callable[[int, str, bytes], AnswerMeter]
"""Makes the meter when the head is here: status, content encoding (`` if not given), and the lines passed on."""

OnEnd = Callable[[Outcome], Sequence[Header]]
"""Settles and records; its headers go to the caller if the answer's head is not written yet."""

_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED
IDLE_S: Final = 1.0
"""An answer that has brought nothing for so long is idle."""

_WITHOUT_EFFECTS: Final = frozenset({"GET", "HEAD"})


async def forward(
    arrival: Arrival,
    upstream: Upstream,
    *,
    target: str,
    body: bytes,
    meter_for: MeterMaker,
    on_end: OnEnd,
    sweep: Sweep,
    options: ForwardOptions,
    added: Sequence[Header] = (),
    whole: bool = False,
    hides_usage: bool = False,
    make: Callable[..., Exchange] | None = None,
) -> Outcome:
    """Send a request to its provider and pass the answer on, to its end.

    Args:
        arrival: the request, and the way back.
        upstream: the provider.
        target: raw path and query there.
        body: what to send: the caller's, perhaps with the usage asked for.
        meter_for: called once, when a head comes.
        on_end: called exactly once, synchronously, before the caller sees the end. If it raises, the
            caller sees a cut in place of the end, and the exception comes out of here.
        sweep: the timer.
        options: bounds.
        added: our headers on a relayed answer.
        whole: no stream was asked for (see `gather_bytes`).
        hides_usage: the meter may leave bytes out, so a declared length is not kept.
        make: makes the exchange where it is not a plain one (`gated_exchange`).

    Returns:
        The outcome that `on_end` was given. If `arrival.answered` is still false, nothing was written:
        the corridor then answers with `arrival.refuse(outcome.refusal())`.

    Raises:
        asyncio.CancelledError: after settling as stopped and cutting the caller's connection.
    """
    exchange = (make or Exchange)(
        arrival,
        meter_for=meter_for,
        on_end=on_end,
        sweep=sweep,
        options=options,
        added=added,
        request_bytes=len(body),
        whole=whole,
        hides_usage=hides_usage,
        injected=b"" if upstream.key is None else upstream.key.secret,
    )
    key = upstream.key
    head = outgoing_head(
        arrival.head,
        target=target,
        host=upstream.authority,
        body_bytes=len(body),
        injected=key.line if key is not None else None,
        varying=arrival.varying,
    )
    arrival.watch(exchange)
    sweep.watch(exchange)
    try:
        while True:
            connection = upstream.take()
            if connection is None:
                connection = await aside(upstream.connect(), discard=upstream.take_back)
            if arrival.gone:
                upstream.take_back(connection)
                return exchange.settle(Cause.CALLER_GONE)
            answer = exchange.send(connection, head, body)
            if exchange.method not in _WITHOUT_EFFECTS:  # it is never sent again: nothing of it is held meanwhile
                arrival.body = body = head = b""
            outcome = await answer
            if outcome is not None:
                return outcome
    except UpstreamUnavailable as exc:
        return exchange.settle(Cause.UNREACHABLE, str(exc))
    except BaseException:  # cancelled, or a fault of our own: settled all the same
        exchange.end(Cause.STOPPED)
        raise
    finally:
        sweep.forget(exchange)
        arrival.watch(None)


class Exchange:
    """One request on its way: the provider connection's sink and the caller's watcher."""

    __slots__ = (
        "_added",
        "_answer_bytes",
        "_arrival",
        "_connection",
        "_done",
        "_drained_from",
        "_echo",
        "_first_byte_at",
        "_framing",
        "_gathered",
        "_gone_at",
        "_head",
        "_hides_usage",
        "_injected",
        "_late",
        "_length",
        "_meter",
        "_meter_for",
        "_moved_at",
        "_on_end",
        "_options",
        "_outcome",
        "_over",
        "_paused",
        "_request_bytes",
        "_reused",
        "_sent",
        "_shown_bytes",
        "_started_at",
        "_sweep",
        "_written",
        "method",
    )

    def __init__(
        self,
        arrival: Arrival,
        *,
        meter_for: MeterMaker,
        on_end: OnEnd,
        sweep: Sweep,
        options: ForwardOptions,
        added: Sequence[Header],
        request_bytes: int,
        whole: bool,
        hides_usage: bool,
        injected: bytes,
    ) -> None:
        self.method = arrival.head.method
        self._arrival = arrival
        self._meter_for = meter_for
        self._on_end = on_end
        self._sweep = sweep
        self._options = options
        self._added = added
        self._hides_usage = hides_usage
        self._injected = injected  # the key; b"" if none was
        self._echo = KeyEcho(injected) if injected else None
        self._connection: UpstreamConnection | None = None
        self._done: Pause[Outcome | None] = Pause()
        self._started_at = time.monotonic()
        self._first_byte_at = 0.0
        self._moved_at = sweep.now
        self._head: AnswerHead | None = None
        self._meter: AnswerMeter | None = None
        self._framing = Framing.NONE
        self._length: int | None = None
        self._gathered: bytes | None = b"" if whole else None
        self._written = False  # the answer's head is out
        self._late: Sequence[Header] = ()
        self._outcome: Outcome | None = None
        self._over = False
        self._paused = False
        self._reused = False
        self._sent = False
        self._gone_at = 0.0
        self._drained_from = 0
        self._request_bytes = request_bytes
        self._answer_bytes = 0
        self._shown_bytes = 0

    def send(self, connection: UpstreamConnection, head: bytes, body: bytes) -> Pause[Outcome | None]:
        """Send the request; the pause ends with the outcome, or None if it must be sent once more."""
        self._connection = connection
        self._reused = connection.used
        self._sent = True
        self._moved_at = self._sweep.now
        self._done = Pause()
        connection.send(self, head, body)
        if self._paused:  # the caller still has to read an earlier answer
            connection.pause()
        return self._done

    # -- from the provider (`AnswerSink`)

    def answer_began(self, head: AnswerHead) -> None:
        """The answer's head is here."""
        self._head = head
        self._first_byte_at = time.monotonic()
        try:
            self._meter = self._meter_for(head.status, head.content_encoding, head.lines)
        except Exception as exc:
            self._fail(exc)
        if head.length is not None and head.length > self._options.gather_bytes:
            self._gathered = None

    def answer_moved(self, piece: bytes, *, complete: bool) -> None:
        """Meter a piece and pass it on; the last one only when the record is written."""
        try:
            self._pass_on(piece, complete=complete)
        except Exception as exc:
            self._fail(exc)

    def answer_broke(self, why: Break, detail: str) -> None:
        """The answer ends unfinished, or did not begin."""
        connection = self._connection
        stale = connection is not None and self._reused and self._head is None and why is Break.CUT
        if stale and self.method in _WITHOUT_EFFECTS and not self._arrival.gone:
            self._connection = None
            self._finish(None)  # once more, on another connection
        else:
            self.end(Cause(why.value), detail)

    def _pass_on(self, piece: bytes, *, complete: bool) -> None:
        meter = self._meter
        if meter is None:
            raise RuntimeError("a piece of an answer without a head")
        self._moved_at = self._sweep.now
        if complete:
            self._connection = None  # it may already serve another
        shown = b""
        if piece:
            self._answer_bytes += len(piece)
            shown = meter.feed(piece)
        if complete:
            shown += meter.flush()
        if self._echo is not None:
            shown = self._echo.pass_on(shown, last=complete)
        if (complete or meter.finished()) and self._outcome is None:
            self.settle(Cause.COMPLETE)
        if not self._arrival.gone:
            self._show(shown, complete=complete)
        elif not complete and self._answer_bytes - self._drained_from > self._options.drain_max_bytes:
            self.end(self._gone_cause())
        if complete:
            self._over = True
            self._finish(self._outcome)

    def _show(self, shown: bytes, *, complete: bool) -> None:
        """Write what the caller may see now, framed; the head with the first of it."""
        if self._gathered is not None:
            shown = self._gathered = self._gathered + shown
            if not complete and len(shown) <= self._options.gather_bytes:
                return
            self._gathered = None
        data = b""
        if not self._written:
            if self._head is None or (self._head.length and not shown and not complete):
                return  # a head with a length has nothing to say before its body begins
            data = self._begin_answer(self._head, len(shown) if complete else None)
        self._shown_bytes += len(shown)
        framing = self._framing
        if framing is _CHUNKED:
            if shown:
                data += b"%x\r\n%b\r\n" % (len(shown), shown)
            if complete:
                data += b"0\r\n\r\n"
        elif framing is not _NONE:
            data += shown
        self._arrival.write(data)
        if complete and framing is _LENGTH and self._shown_bytes != self._length:
            self._arrival.abort()  # the meter has changed what it said it would not

    def _begin_answer(self, head: AnswerHead, whole_bytes: int | None) -> bytes:
        """The head for the caller; `whole_bytes` is the body's length if all of it is here."""
        arrival = self._arrival
        if whole_bytes is not None and head.has_body:
            self._framing, self._length = Framing.LENGTH, whole_bytes
        else:
            self._framing = choose_framing(head, http_1_0=arrival.head.http_1_0, keeps_length=not self._hides_usage)
            self._length = head.length
        self._written = True
        lines = [without_key(head.lines, self._injected)]
        for header in self._added:
            lines.append(b"%b: %b\r\n" % header)  # noqa: PERF401 - a comprehension costs more for two or three
        if self._late:
            lines += [b"%b: %b\r\n" % header for header in self._late]
        lines.append(framing_lines(head, self._framing, self._length, keep_alive=arrival.keep_alive))
        return b"".join(lines)

    # -- the end

    def settle(self, cause: Cause, detail: str = "") -> Outcome:
        """Call `on_end`; the only place that does."""
        now = time.monotonic()
        self._outcome = outcome = Outcome(
            ending=ending_of(cause, sent=self._sent),
            cause=cause,
            detail=detail,
            status=self._head.status if self._head is not None else 0,
            meter=self._meter,
            sent=self._sent,
            request_bytes=self._request_bytes,
            answer_bytes=self._answer_bytes,
            first_byte_s=self._first_byte_at - self._started_at if self._first_byte_at else 0.0,
            duration_s=now - self._started_at,
        )
        self._late = self._on_end(outcome)
        return outcome

    def end(self, cause: Cause, detail: str = "") -> None:
        """End it before its end: settle, and cut what the caller has of an answer."""
        if self._over:
            return
        try:
            if self._outcome is None:
                held_back = self._meter.flush() if self._meter is not None else b""
                self.settle(cause, detail)
                if self._echo is not None:
                    held_back = self._echo.pass_on(held_back, last=True)
                if self._written and held_back and not self._arrival.gone:
                    self._show(held_back, complete=False)
        except Exception as exc:
            self._fail(exc)
            return
        self._cut()
        self._finish(self._outcome)

    def _fail(self, exc: Exception) -> None:
        """Our own fault, or no record could be written: the caller must not see an end."""
        if self._outcome is None:
            try:
                self.settle(Cause.STOPPED, type(exc).__name__)
            except Exception:
                logger.exception("settling_failed")
        self._cut()
        self._done.fail(exc)

    def _finish(self, outcome: Outcome | None) -> None:
        self._done.set(outcome)

    def _cut(self) -> None:
        self._over = True
        if self._connection is not None:
            self._connection.drop()
        if self._written:
            self._arrival.abort()

    def _gone_cause(self) -> Cause:
        return Cause.CALLER_STALLED if self._arrival.stalled else Cause.CALLER_GONE

    # -- from the caller (`Watcher`)

    def caller_gone(self) -> None:
        """Go on reading for the measurement, unless it is not wanted; nobody is written to any more."""
        if self._options.on_caller_gone != "drain" and self._sent:
            return self.end(self._gone_cause())
        self._gone_at = self._sweep.now
        self._drained_from = self._answer_bytes
        return self.caller_ready()

    def caller_slow(self) -> None:
        """Read no more from the provider."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def caller_ready(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            self._moved_at = self._sweep.now
            if self._connection is not None:
                self._connection.resume()

    # -- from the timer (`Watched`), and when memory runs out (`Pressure`)

    def is_idle(self, now: float) -> bool:
        """Whether its answer began and has brought nothing of late."""
        return self._written and not self._over and now - self._moved_at > IDLE_S

    def shed(self) -> None:
        """End it for want of memory."""
        self.end(Cause.SHED)

    def check(self, now: float) -> None:
        """End what takes too long."""
        options = self._options
        if self._connection is None:
            return  # connecting has its own bound
        if self._gone_at and now - self._gone_at > options.drain_s:
            self.end(self._gone_cause())
        elif now - self._started_at > options.total_timeout_s:
            self.end(Cause.TOTAL_TIMEOUT)
        elif self._paused:
            pass  # we do not read: the provider's silence is ours
        elif self._head is None:
            if now - self._moved_at > options.head_timeout_s:
                self.end(Cause.HEAD_TIMEOUT)
        elif now - self._moved_at > options.idle_timeout_s:
            self.end(Cause.IDLE_TIMEOUT)
