"""What waits for the same customer shares a transaction.

A customer's transactions come one after another. While one runs, others of its requests may come;
they are then put into the next one together, so that a crowd on one customer costs a commit, and one
reading of what they have in common, for all of it. Nobody waits for company: who comes alone goes alone.
Where other customers ask as well, fewer go together: the book's next transaction is theirs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from sidecar.errors import LedgerUnavailable, SidecarError
from sidecar.ledger.portions import Crowd

MAX_TOGETHER: Final = 64
"""Requests that share a transaction at most: the first of them waits for the last."""

MAX_BESIDE_OTHERS: Final = 8
"""The same while other customers ask too, who wait for all of them: a flood of one moves the others little (S-35)."""

MAX_WAITING: Final = 4096
"""Requests that may wait, over all customers. One more is refused with LedgerUnavailable."""

MAX_WAITING_OF_ONE: Final = MAX_WAITING // 4
"""Of these, of one customer: however many it sends, there is room for the others' (S-35)."""

Q = TypeVar("Q")
A = TypeVar("A")


class _Lane(msgspec.Struct, Generic[Q, A]):
    waiting: deque[tuple[Q, asyncio.Future[A]]] = msgspec.field(default_factory=deque)


class Sharing(Generic[Q, A]):
    """Requests by customer.

    Args:
        run: asks some requests of one customer in one transaction; gives for each its answer, or what it is
            refused with. What it raises is nobody's in particular: then each is asked alone.
        crowd: whose requests are under way, these and others.
    """

    def __init__(self, run: Callable[[str, Sequence[Q]], Awaitable[Sequence[A | SidecarError]]], crowd: Crowd) -> None:
        self._run = run
        self._crowd = crowd
        self._lanes: dict[tuple[asyncio.AbstractEventLoop, str], _Lane[Q, A]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0

    async def ask(self, customer: str, request: Q) -> A:
        """One request; its answer.

        Raises:
            SidecarError: it is refused, or the book cannot now.
        """
        if self._waiting >= MAX_WAITING:
            raise LedgerUnavailable(f"{MAX_WAITING} requests are waiting for the book")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        lane = self._lanes.get((loop, customer))
        if lane is not None and len(lane.waiting) >= MAX_WAITING_OF_ONE:
            raise LedgerUnavailable(f"{MAX_WAITING_OF_ONE} requests of this customer are waiting for the book")
        self._waiting += 1
        if lane is not None:
            lane.waiting.append((request, future))
        else:
            lane = self._lanes[loop, customer] = _Lane(deque([(request, future)]))
            self._crowd.come(customer)
            task = loop.create_task(self._serve(loop, customer, lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _serve(self, loop: asyncio.AbstractEventLoop, customer: str, lane: _Lane[Q, A]) -> None:
        try:
            while lane.waiting:
                most = MAX_BESIDE_OTHERS if self._crowd.is_several else MAX_TOGETHER
                some = [lane.waiting.popleft() for _ in range(min(len(lane.waiting), most))]
                self._waiting -= len(some)
                await self._ask(customer, [one for one in some if not one[1].done()])  # the others have gone
        finally:
            self._crowd.go(customer)
            del self._lanes[loop, customer]

    async def _ask(self, customer: str, some: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        if not some:
            return
        try:
            answers = await self._run(customer, [request for request, _ in some])
        except Exception as problem:
            if len(some) > 1 and not isinstance(problem, LedgerUnavailable):
                for one in some:
                    await self._ask(customer, [one])
                return
            _refuse([future for _, future in some], problem)
            return
        for (_, future), answer in zip(some, answers, strict=True):
            if isinstance(answer, SidecarError):
                _refuse([future], answer)
            elif not future.done():
                future.set_result(answer)


def _refuse(futures: Sequence[asyncio.Future[A]], problem: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(problem)
