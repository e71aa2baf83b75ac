"""`ports.Windows` in Redis: every order is one script on one customer's keys, and so on one node of a Cluster.

Nothing here is money, and nothing here is the only copy of anything: each sidecar's own count comes with its
orders, so that a Redis which forgot everything is told again by whoever speaks next.
"""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path
from typing import Any, Final

import msgspec

from sidecar.core.governance.rate_limits import SLICES
from sidecar.core.governance.rate_orders import Answer, Order, Reply
from sidecar.errors import WindowsUnavailable
from sidecar.storage.redis_client import Client, within

SCRIPT: Final = (Path(__file__).parent / "rate_windows.lua").read_text(encoding="utf-8")
_DIGEST: Final = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""By which Redis knows a script. Source: https://redis.io/docs/latest/commands/evalsha/, checked 2026-11."""

_ENCODER: Final = msgspec.json.Encoder()


class RedisWindows:
    """Counts a fleet's windows together.

    Args:
        client: as `redis_client.connect` gives it.
        deadline_s: how long an answer is waited for.
    """

    def __init__(self, client: Client, *, deadline_s: float) -> None:
        self._client = client
        self._deadline_s = deadline_s

    async def order(self, order: Order) -> Reply:
        """Do one order; see `ports.Windows`."""
        try:
            raw = await within(self._deadline_s, self._run(order))
        except Exception as problem:  # the library's errors have no common root, and none of them may refuse a call
            raise WindowsUnavailable(f"{type(problem).__name__}: {problem}"[:200]) from None
        try:
            now_ms, *rest = raw
            reply = Reply(int(now_ms), msgspec.convert(rest[0] if rest else [], tuple[Answer, ...]))
        except (TypeError, ValueError, msgspec.ValidationError):
            raise WindowsUnavailable("the script's answer made no sense") from None
        places = range(-1, len(order.windows))
        if len(reply.answers) != len(order.asks) or not all(one.denied_by in places for one in reply.answers):
            raise WindowsUnavailable("the script's answer made no sense")
        return reply

    async def _run(self, order: Order) -> list[Any]:
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - late, as the rest of the library

        keys = [window_key(order.customer, window.key) for window in order.windows]
        words = _ENCODER.encode(
            {
                "me": order.incarnation,
                "sequence": order.sequence,
                "keep_ms": order.keep_ms,
                "slices": SLICES,
                "windows": order.windows,
                "asks": order.asks,
            }
        )
        await self._client.initialize()  # a cluster's client that first learns of it in a crowd takes wrong turns
        try:
            answer: list[Any] = await self._client.evalsha(_DIGEST, len(keys), *keys, words)
        except NoScriptError:
            answer = await self._client.eval(SCRIPT, len(keys), *keys, words)
        return answer

    async def close(self) -> None:
        """Let the connections go."""
        await self._client.aclose()


def window_key(customer: str, key: str) -> str:
    """The name of a window in Redis. Braces make all of a customer's stand on one node; no id has any in it."""
    return f"spend:{{{customer}}}:rate:{key}"
