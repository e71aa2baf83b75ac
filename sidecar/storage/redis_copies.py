"""`ports.Copies` in Redis: one key for each subject, which ends by itself."""

from __future__ import annotations

from typing import Any, Final

from sidecar.contract.warm_copies import MAX_COPY_AGE_MS, MAX_COPY_BYTES
from sidecar.errors import CopiesUnavailable
from sidecar.storage.redis_client import Client, within

LAST_BYTE: Final = MAX_COPY_BYTES
"""Read up to here: one byte more than a copy has, so that one which is too long shows itself and costs no more."""


class RedisCopies:
    """Copies in a single Redis or a Cluster.

    Args:
        client: as `redis_client.connect` gives it.
        deadline_s: how long an answer is waited for.
    """

    def __init__(self, client: Client, *, deadline_s: float) -> None:
        self._client = client
        self._deadline_s = deadline_s

    async def read(self, customer: str, name: str) -> bytes | None:
        """See `ports.Copies`."""
        found = await self._do("getrange", copy_key(customer, name), 0, LAST_BYTE)
        return found if isinstance(found, bytes) and 0 < len(found) <= MAX_COPY_BYTES else None

    async def write(self, customer: str, name: str, data: bytes) -> None:
        """See `ports.Copies`."""
        await self._do("psetex", copy_key(customer, name), MAX_COPY_AGE_MS, data)

    async def _do(self, command: str, *words: Any) -> Any:
        try:
            return await within(self._deadline_s, self._run(command, words))
        except Exception as problem:  # the library's errors have no common root, and none of them may fail a call
            raise CopiesUnavailable(f"{type(problem).__name__}: {problem}"[:200]) from None

    async def _run(self, command: str, words: tuple[Any, ...]) -> Any:
        await self._client.initialize()  # as in `redis_windows`
        return await getattr(self._client, command)(*words)

    async def close(self) -> None:
        """Let the connections go."""
        await self._client.aclose()


def copy_key(customer: str, name: str) -> str:
    """The name of a copy in Redis; braces as in `redis_windows.window_key`."""
    return f"spend:{{{customer}}}:policies:{name}"
