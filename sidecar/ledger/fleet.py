"""How many sidecars there are, and how each is: what they cannot count together is shared by those heard of late.

It is written and read roughly, once in a while: a sidecar more or less for some seconds costs a part of a window's
calls, and a sync must not cost more for it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sidecar.contract.messages import SidecarState
from sidecar.core.credits.amounts import MAX_ATOMS
from sidecar.ports import Transaction

LIVE_MS: Final = 60_000
"""A sidecar that was not heard for so long has no share."""

NOTE_EVERY_MS: Final = 10_000
"""That a sidecar was heard is written at most so often, and the others are read then."""

FORGET_AFTER_MS: Final = 86_400_000

MAX_SOFTWARE_CHARS: Final = 64
"""Of a version: what it has more is cut off."""

MAX_KNOWN: Final = 16_384
"""Sidecars whose share is remembered here; it can be read again."""


class Share(NamedTuple):
    """How many sidecars there are, and which of them one is, from 0, as it was read at an instant."""

    sidecars: int
    rank: int
    at_ms: int


class Fleet:
    """Tells each sidecar its share, by a book that all ledgers write to."""

    def __init__(self) -> None:
        self._known: dict[str, Share] = {}

    async def heard(self, tx: Transaction, sidecar: str, now_ms: int, state: SidecarState | None = None) -> Share:
        """A sidecar was heard, in a transaction on what belongs to no customer; its share, to be kept after it.

        `state` is how it is by its own word; None: it did not say.
        """
        noted = self._known.get(sidecar)
        if noted is not None and 0 <= now_ms - noted.at_ms < NOTE_EVERY_MS:
            return noted
        await tx.execute(
            "INSERT INTO fleet (sidecar, heard_at_ms, software, outbox_calls, outbox_age_ms, outbox_bytes)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (sidecar) DO UPDATE SET heard_at_ms = excluded.heard_at_ms,"
            " software = excluded.software, outbox_calls = excluded.outbox_calls,"
            " outbox_age_ms = excluded.outbox_age_ms, outbox_bytes = excluded.outbox_bytes",
            (sidecar, now_ms, *_columns(state)),
        )
        await tx.execute("DELETE FROM fleet WHERE heard_at_ms < ?", (now_ms - FORGET_AFTER_MS,))
        rows = await tx.fetch("SELECT sidecar FROM fleet WHERE heard_at_ms > ? ORDER BY sidecar", (now_ms - LIVE_MS,))
        names = [row["sidecar"] for row in rows]
        return Share(len(names), names.index(sidecar), now_ms) if sidecar in names else Share(1, 0, now_ms)

    def keep(self, sidecar: str, share: Share | None) -> None:
        """What was read is committed, and need not be read again for a while; None: it has stopped."""
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known.pop(sidecar, None)
        if share is not None:
            self._known[sidecar] = share

    async def left(self, tx: Transaction, sidecar: str) -> None:
        """A sidecar has stopped: it needs no share until it is heard again."""
        await tx.execute("DELETE FROM fleet WHERE sidecar = ?", (sidecar,))


def _columns(state: SidecarState | None) -> tuple[object, ...]:
    """What is kept of how a sidecar says it is; nonsense is cut to size: nothing else of its message may suffer."""
    if state is None:
        return "", None, None, None
    software = "".join(character for character in state.software if character.isprintable())[:MAX_SOFTWARE_CHARS]
    return software, *(min(max(0, n), MAX_ATOMS) for n in (state.outbox_calls, state.outbox_age_ms, state.outbox_bytes))
