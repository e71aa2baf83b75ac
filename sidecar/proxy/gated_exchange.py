"""An exchange whose answer is let through only as far as it is paid for, and may be ended from inside."""

from __future__ import annotations

from typing import Any

import msgspec

from sidecar.proxy.accept import Arrival
from sidecar.proxy.answer_framing import AnswerHead, Framing
from sidecar.proxy.forward import Exchange
from sidecar.proxy.gate import Gate
from sidecar.proxy.outcomes import Cause
from sidecar.proxy.refusals import Header


class GatedExchange(Exchange):
    """An `Exchange` with a `Gate`, which is its meter too; see there. It is the gate's `Passing`."""

    __slots__ = ("_gate",)

    def __init__(self, arrival: Arrival, *, gate: Gate, **more: Any) -> None:
        """Make one, as `Exchange` is made, with what holds it up."""
        super().__init__(arrival, **more)
        self._gate = gate
        gate.attach(self)

    def answer_began(self, head: AnswerHead) -> None:
        """The answer's head is here. Its length is not passed on: the answer may be ended before it."""
        super().answer_began(msgspec.structs.replace(head, length=None))

    def answer_moved(self, piece: bytes, *, complete: bool) -> None:
        """Pass on what the gate lets through of all that came; the end with the last of it."""
        if complete:
            self._connection = None  # it may already serve another
        try:
            shown = self._gate.take(piece, complete=complete)
        except Exception as exc:
            return self._fail(exc)
        return super().answer_moved(shown, complete=self._gate.is_over)

    def caller_ready(self) -> None:
        """Read on, unless what came is not paid for yet."""
        super().caller_ready()
        if self._gate.holds:
            self.hold_on()

    def check(self, now: float) -> None:
        """End what takes too long; while we do not read, the provider's silence is ours."""
        if self._gate.holds:
            self._moved_at = now
        super().check(now)

    # -- from the gate (`Passing`)

    @property
    def is_over(self) -> bool:
        """Whether it has come to an end, of whatever kind."""
        return self._over

    def hold_on(self) -> None:
        """Read no more of the answer until `go_on`."""
        if self._connection is not None:
            self._connection.pause()

    def go_on(self, *, complete: bool) -> None:
        """Pass on what was held back, and read on."""
        self._moved_at = self._sweep.now
        if self._connection is not None and not self._paused:
            self._connection.resume()
        self.answer_moved(b"", complete=complete)

    def conclude(self, cause: Cause, shown: bytes, last: bytes, headers: tuple[Header, ...], *, repeats: bool) -> None:
        """End it before its end, properly: settle, write the last of it and `last` as its end, hang up.

        The headers go into the answer's head, or where that is written, behind its body. Where the framing leaves
        no room for other bytes than the provider's it is cut, as by `end`.
        """
        if self._over:
            return None
        if self._outcome is not None or self._arrival.gone or (self._written and not self._has_room()):
            return self.end(cause)
        try:
            self.settle(cause)
            self._late = [*self._late, *headers]
            trailers = self._late if self._written else ()
            if self._echo is not None:  # our own words are left alone: a key may be a part of one
                shown, last = (shown + last, b"") if repeats else (shown, last)
                shown = self._echo.pass_on(shown, last=True)
            self._show(shown + last, complete=False)
            if self._framing is Framing.CHUNKED:
                self._arrival.write(b"0\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % header for header in trailers))
        except Exception as exc:
            return self._fail(exc)
        self._over = True
        if self._connection is not None:
            self._connection.drop()
        return self._finish(self._outcome)

    def _has_room(self) -> bool:
        return self._framing in {Framing.CHUNKED, Framing.CLOSE}
