"""Waiting for a settlement to free what its call held."""

from __future__ import annotations

import asyncio


class Freed:
    """By customer, who waits."""

    def __init__(self) -> None:
        self._futures: dict[str, asyncio.Future[None]] = {}

    def tell(self, customer: str) -> None:
        """Something of a customer's is free again."""
        freed = self._futures.pop(customer, None)
        if freed is not None and not freed.done():
            freed.set_result(None)

    async def wait(self, customer: str, timeout_s: float) -> bool:
        """Wait until something is; False: it did not come in time."""
        freed = self._futures.get(customer)
        if freed is None:
            freed = self._futures[customer] = asyncio.get_running_loop().create_future()
        await asyncio.wait((freed,), timeout=timeout_s)
        return freed.done()

    def forget(self, customer: str) -> None:
        """Nobody of a customer's waits any more."""
        self._futures.pop(customer, None)
