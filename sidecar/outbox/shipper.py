"""The outbox's sending side: settled calls, and reports on leases, to the ledger until it acknowledges them.

What waits stands in the files: however long the ledger is away, it costs disk and nothing else, and a
restart goes on where the last one stopped. Only what was settled a moment ago is still in memory (`Latest`),
and is sent from there without being read again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sidecar.contract.messages import (
    MAX_EVENTS_PER_SYNC,
    RecordedPart,
    RecordedSync,
    RegisterReply,
    RegisterRequest,
    SidecarState,
    SyncReply,
    SyncRequest,
)
from sidecar.errors import LedgerUnavailable, SidecarError, WireFormatError
from sidecar.outbox.batches import (
    Batch,
    Latest,
    count_unshipped,
    parts_of,
    read_batch,
    refused_incarnations,
    request_id_of,
)
from sidecar.outbox.cursor import Cursor, Position
from sidecar.outbox.frames import frame
from sidecar.outbox.lease_reports import LeaseReports
from sidecar.outbox.records import settle_record
from sidecar.outbox.spool import Spool
from sidecar.ports import Clock, Ledger

REFUSED: Final = "refused"
"""The folder beside the segments for events that the ledger would not book."""

MAX_PAUSE_S: Final = 10.0
"""A ledger that asks for a longer pause between settlements is not heeded."""

MAX_REFUSALS: Final = 5
"""Times that the ledger may refuse a batch before the refused events are put aside."""

logger = logging.getLogger("sidecar.outbox")


@dataclass(frozen=True, slots=True)
class ShipperOptions:
    """A settlement is sent at most `ship_every_s` after it was written; failures back off up to `max_backoff_s`."""

    ship_every_s: float = 0.25
    sync_timeout_s: float = 10.0
    min_backoff_s: float = 0.25
    max_backoff_s: float = 15.0


class Shipper:
    """Ships one spool. Use it from one event loop.

    Attributes:
        depth: settlements written and not yet acknowledged.
        refused: events that the ledger would not book; they are in the folder `refused`.
        news: set when the ledger is to be told that its book is caught up (`has_news`, `register`).
        booked_before: everything settled before this instant (monotonic) is in the book.
    """

    def __init__(
        self, ledger: Ledger, spool: Spool, clock: Clock, options: ShipperOptions, *, software: str = ""
    ) -> None:
        """Make it once the spool is open: what earlier runs left is counted. `software`: our version, to tell."""
        self._cursor = Cursor(spool.directory)
        self.depth = count_unshipped(spool, self._cursor.position)
        self.refused = 0
        self.booked_before = float("-inf")
        self._ledger = ledger
        self._spool = spool
        self._clock = clock
        self._options = options
        self._software = software
        self._reports: LeaseReports | None = None
        self._waits_since = clock.monotonic() if self.depth else None
        self._refusals = 0
        self._failures = 0
        self._is_behind = False
        self._window = MAX_EVENTS_PER_SYNC
        self._paused_until = float("-inf")
        self._is_started = False
        self._beats = False
        self._told = ""
        self.news = asyncio.Event()
        self._work = asyncio.Event()
        self._urgent = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._work.set()
        self._latest = Latest(Position(spool.number, spool.size))
        spool.on_settle = self._on_settle

    def attach(self, reports: LeaseReports) -> None:
        """Take these reports along from now on."""
        self._reports = reports

    @property
    def age_s(self) -> float:
        """How long the oldest settlement has been waiting, at most; 0 if none is."""
        return 0.0 if self._waits_since is None else self._clock.monotonic() - self._waits_since

    @property
    def is_replaying(self) -> bool:
        """Whether the book was replaced or put back, and has not acknowledged yet all that is kept (L50a).

        Until it has, the ledger knows less than was spent, and nothing should be borrowed from it.
        """
        return self._cursor.replay_until is not None

    @property
    def caught_up(self) -> str:
        """The history of the book that has all that is kept here, each lease and each call; `` while it has not."""
        is_declared = self._reports is None or self._reports.is_declared
        return self._cursor.history_id if is_declared and self._is_started and not self.is_replaying else ""

    @property
    def claim(self) -> tuple[str, int]:
        """What a ledger that lends is to hold against its book: `caught_up`, and how many answers came from it."""
        return self.caught_up, self._cursor.heard

    @property
    def has_news(self) -> bool:
        """Whether the ledger is to be told that its book is caught up."""
        return self.caught_up not in ("", self._told)

    async def register(self) -> RegisterReply:
        """Tell the ledger of this start, or that its book is caught up; hold it against the one that answered so far.

        Raises:
            LedgerUnavailable: there was no answer.
            StaleIncarnation: the incarnation is another sidecar's.
        """
        async with self._one_at_a_time:  # counts are in order only where one question is out at a time
            before, caught_up = self._cursor.history_id, self.caught_up
            request = RegisterRequest(
                self._spool.sidecar,
                self._spool.incarnation,
                history_id=before,
                heard=self._cursor.heard,
                caught_up=bool(caught_up) or not (before or self.depth),
                state=self._state(),
            )
            reply = await self._ledger.register(request)
            self.registered(reply)
            if request.caught_up and before in ("", reply.history_id):
                self._told = reply.history_id
                self.news.clear()
            return reply

    def registered(self, reply: RegisterReply) -> None:
        """Hold the book that answered at the start against the one that acknowledged so far."""
        self._is_started = True
        if not self._book_replaced(reply.history_id, reply.heard):
            self._cursor.heard = max(self._cursor.heard, reply.heard)
            self._cursor.history_id = self._cursor.history_id or reply.history_id

    def beat(self) -> None:
        """Sync soon also where there is nothing to say: only so who is idle hears that the book has become another."""
        self._beats = True
        self._work.set()

    def has_refused(self, incarnation: str) -> bool:
        """Whether a call on an incarnation's leases is, or may be, among the events kept aside, of whatever start."""
        refused = refused_incarnations(self._spool.directory / REFUSED)
        return refused is None or incarnation in refused

    def wake(self) -> None:
        """Sync now."""
        self._work.set()
        self._urgent.set()

    async def run(self) -> None:
        """Ship until cancelled."""
        while True:
            await self._work.wait()
            if not self._urgent.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._urgent.wait(), max(self._options.ship_every_s, self._pause_s()))
            self._work.clear()
            self._urgent.clear()
            try:
                if await self.sync_once(paced=True):
                    self._work.set()
                    if self._is_behind and not self._pause_s():
                        self._urgent.set()  # a full batch waits already: nothing is gained by gathering more
            except LedgerUnavailable:
                self._work.set()
                await asyncio.sleep(self._backoff_s())
            except Exception:
                logger.exception("shipping_failed")
                self._work.set()
                await asyncio.sleep(self._backoff_s())

    async def flush(self, timeout_s: float) -> bool:
        """Bring everything written and due until now to the ledger; False if that did not succeed in time."""
        until = Position(self._spool.number, self._spool.size)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        more = await self.sync_once()
                    except LedgerUnavailable:
                        await asyncio.sleep(self._backoff_s())
                    else:
                        if not more or (self._cursor.position >= until and not self._has_due()):
                            return True
        except TimeoutError:
            return False

    async def end(self) -> bool:
        """Tell the ledger that this incarnation is over (L43), its calls ended; False if it did not hear."""
        history_id, heard = self.claim
        request = SyncRequest(
            self._spool.sidecar,
            self._spool.incarnation,
            self._clock.wall_ms(),
            ended=True,
            all_booked=not (self.depth or self._spool.open_calls or self.has_refused(self._spool.incarnation)),
            history_id=history_id,
            heard=heard,
        )
        try:
            async with asyncio.timeout(self._options.sync_timeout_s):
                await self._ledger.sync(request)
        except (LedgerUnavailable, TimeoutError):
            return False
        return True

    async def sync_once(self, *, paced: bool = False) -> bool:
        """One exchange, if there is anything to say. True if there is more.

        `paced`: without settlements while the ledger would rather not have any (`SyncReply.pause_ms`).

        Raises:
            LedgerUnavailable: there was no answer, or one that made no sense; nothing is lost.
        """
        async with self._one_at_a_time:
            read_at, settled = self._clock.monotonic(), self._spool.settled
            reports = self._reports
            # First every lease, so that the calls find those that they were let run by.
            declares = reports is not None and not reports.is_declared
            batch = Batch(self._cursor.position) if declares else self._read_batch(paced=paced)
            parts = (
                parts_of(batch.events, {})
                if reports is None
                else parts_of(batch.events, reports.due(), reports.revision)
            )
            if not parts and batch.most == 0:
                return True
            if not parts and not self._beats:
                self._pass_admissions(batch)
                self.booked_before = read_at
                self._count_waiting(0)
                self._note_news()
                return False
            sent_at = self._clock.monotonic()
            reply = await self._exchange(parts)
            self._failures, self._beats = 0, False
            if self._reports is not None:
                for part, answer in zip(parts, reply.parts, strict=True):
                    self._reports.heard(part, answer, sent_at)
            if self._book_replaced(reply.history_id, reply.heard):
                return True
            if not self._take_refusals(parts, reply):
                raise LedgerUnavailable("the ledger refused a part of a sync")
            self._acknowledge(batch, read_at, settled, reply)
            if batch.count:
                self._heed(reply)
            self._note_news()
            self._is_behind = not batch.reaches_end
            return not batch.reaches_end or self._has_due()

    # inside

    def _state(self) -> SidecarState:
        return SidecarState(self._software, self.depth, round(1000 * self.age_s), self._spool.total_bytes)

    def _pause_s(self) -> float:
        return max(0.0, self._paused_until - self._clock.monotonic())

    def _heed(self, reply: SyncReply) -> None:
        """Send as much and as soon as the ledger asks for; a fleet that was told the same does not come back as one."""
        self._window = max(1, min(reply.window_events or MAX_EVENTS_PER_SYNC, MAX_EVENTS_PER_SYNC))
        pause_s = min(reply.pause_ms / 1000, MAX_PAUSE_S) * random.uniform(1.0, 1.5)
        self._paused_until = self._clock.monotonic() + pause_s

    def _note_news(self) -> None:
        if self.has_news:
            self.news.set()

    def _has_due(self) -> bool:
        return self._reports is not None and self._reports.has_due

    def _on_settle(self, customer: str, recorded: bytes) -> None:
        self._latest.add(Position(self._spool.number, self._spool.size), customer, recorded)
        self.depth += 1
        if self._waits_since is None:
            self._waits_since = self._clock.monotonic()
            self._work.set()

    def _count_waiting(self, count: int) -> None:
        """So many wait behind all that was read. Only the first of them that finds none waiting wakes the sender."""
        self.depth = count
        self._waits_since = self._clock.monotonic() if count else None
        if count:
            self._work.set()

    async def _exchange(self, parts: list[RecordedPart]) -> SyncReply:
        history_id, heard = self.claim
        request = RecordedSync(
            self._spool.sidecar,
            self._spool.incarnation,
            self._clock.wall_ms(),
            tuple(parts),
            history_id=history_id,
            heard=heard,
            state=self._state(),
        )
        try:
            async with asyncio.timeout(self._options.sync_timeout_s):
                reply = await self._ledger.sync(request)
            if [part.customer for part in reply.parts] != [part.customer for part in parts]:
                raise WireFormatError("ledger", "a sync's reply has other parts than the request")
        except (SidecarError, TimeoutError) as problem:
            if self._reports is not None:
                self._reports.missed()
            if isinstance(problem, LedgerUnavailable):
                raise
            logger.warning("sync_failed", extra={"facts": {"problem": str(problem) or "no answer in time"}})
            raise LedgerUnavailable("the ledger did not take a sync") from problem
        return reply

    def _read_batch(self, *, paced: bool = False) -> Batch:
        """Settlements from the cursor on, at most as many as the ledger would like; none in a pause (`most` 0)."""
        position = self._cursor.position
        if paced and self.depth and self._pause_s():
            return Batch(position, most=0)
        return self._latest.batch(position, self._spool, self._window) or read_batch(
            self._spool, position, self._window
        )

    def _pass_admissions(self, batch: Batch) -> None:
        """Move behind what holds no settlement."""
        if self.is_replaying:
            self._cursor.move(batch.end, self._cursor.history_id, self._cursor.heard)
        else:
            self._cursor.position = batch.end  # not worth a write

    def _acknowledge(self, batch: Batch, read_at: float, settled: int, reply: SyncReply) -> None:
        self._refusals = 0
        self._cursor.move(batch.end, reply.history_id, max(self._cursor.heard, reply.heard))
        if batch.reaches_end:
            self.booked_before = read_at
            self._count_waiting(self._spool.settled - settled)  # what was settled while the ledger answered
        else:
            self.depth = max(0, self.depth - batch.count)
        self._spool.discard(batch.end.segment)

    def _book_replaced(self, history_id: str, heard: int) -> bool:
        """Another book than the one that acknowledged so far: send all that is kept, it books what it lacks (L50a).

        An earlier copy of the same book shows itself by a count that is not greater than in every reply before.
        """
        before, seen = self._cursor.history_id, self._cursor.heard
        is_other = before not in {"", history_id}
        if not is_other and not 0 < heard <= seen:
            return False
        facts = {"before": before, "now": history_id} if is_other else {"heard": heard, "heard_before": seen}
        logger.error("book_replaced" if is_other else "book_rolled_back", extra={"facts": facts})
        self._cursor.begin_again(history_id, heard, Position(self._spool.number, self._spool.size))
        if self._reports is not None:
            self._reports.declare()
        self.depth = count_unshipped(self._spool, Position())
        self._waits_since = self._clock.monotonic() if self.depth else None
        self._work.set()
        return True

    def _take_refusals(self, parts: list[RecordedPart], reply: SyncReply) -> bool:
        """False: some events were not booked and are to be sent again.

        Those refused often are put aside; in a replay at once: a start waits for it, and the
        book may not know those customers yet.
        """
        refused = [
            (part, answer)
            for part, answer in zip(parts, reply.parts, strict=True)
            if answer.error and not answer.booked and part.events
        ]
        if not refused:
            return True
        self._refusals += 1
        for part, answer in refused:
            facts = {"customer": part.customer, "events": len(part.events), "problem": answer.error[:512]}
            logger.warning("events_refused", extra={"facts": facts | {"times": self._refusals}})
        if self._refusals < MAX_REFUSALS and not self.is_replaying:
            return False
        for part, _ in refused:
            self._put_aside(part)
        return True

    def _put_aside(self, part: RecordedPart) -> None:
        """Keep what nobody books where a person finds it: the ledger can be given it later."""
        aside = self._spool.directory / REFUSED
        aside.mkdir(mode=0o700, exist_ok=True)
        path = aside / f"{self._clock.wall_ms()}-{request_id_of(part.events[0])}.seg"
        path.write_bytes(b"".join(frame(settle_record(bytes(event))) for event in part.events))
        self.refused += len(part.events)
        facts = {"customer": part.customer, "events": len(part.events), "path": str(path)}
        logger.error("events_put_aside", extra={"facts": facts})

    def _backoff_s(self) -> float:
        options = self._options
        self._failures += 1
        longest = min(options.max_backoff_s, options.min_backoff_s * 2 ** min(self._failures, 10))
        return random.uniform(longest / 2, longest)
