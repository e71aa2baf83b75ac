"""The ledger's processes: the real service over the pretend book, which can be killed, paused and started again."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sidecar.contract.codec import decode, encode
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.errors import LedgerUnavailable, SidecarError
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.service import LedgerService
from sidecar.ports import Ids
from tests.scenarios.book import PretendBook
from tests.scenarios.loop import PretendLoop, State
from tests.scenarios.machine import PretendClock
from tests.scenarios.network import KINDS, over_the_wire


class LedgerHost:
    """One place where a ledger process runs. Several may share the book."""

    def __init__(
        self,
        loop: PretendLoop,
        name: str,
        book: PretendBook,
        clock: PretendClock,
        ids: Ids,
        rates: RateBook,
        options: LedgerOptions,
        *,
        on_bug: Callable[[Exception], None],
    ) -> None:
        self._loop = loop
        self._name = name
        self._book = book
        self._ids = ids
        self._rates = rates
        self._options = options
        self._on_bug = on_bug
        self.clock = clock
        self.start()

    def start(self) -> None:
        """A new process over the same book; it believes the clock that it finds (L38)."""
        self.process = self._loop.new_process(self._name)
        self.service = LedgerService(self._book, self.clock, self._ids, self._rates, self._options)

    def start_if_down(self) -> None:
        """Start it, if it was killed and nobody has."""
        if self.process.state is State.DEAD:
            self.start()

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        return self.process.state is State.RUNNING

    def answer(self, name: str, body: bytes, reply: Callable[[bytes | SidecarError], None]) -> None:
        """Take a message in; the reply is called when it is answered, if it is."""
        if self.process.state is State.DEAD:
            reply(LedgerUnavailable("connection refused"))
        else:
            self.process.start(self._work(name, body, reply))

    async def _work(self, name: str, body: bytes, reply: Callable[[bytes | SidecarError], None]) -> None:
        try:
            answer: msgspec.Struct = await getattr(self.service, name)(decode(body, KINDS[name]))
            reply(encode(answer))
        except SidecarError as problem:
            reply(over_the_wire(problem))
        except Exception as bug:
            self._on_bug(bug)
