"""The hold of one open call, as it grows with its answer (L22)."""

from __future__ import annotations

import zlib
from typing import Final

import msgspec

from sidecar.core.governance.decisions import Reason
from sidecar.core.pricing.ceilings import Bound, bound_of
from sidecar.core.pricing.rate_cards import charge
from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.errors import SpoolFull
from sidecar.leases.table import Held, Short, Uncovered, join
from sidecar.proxy.authorize import Admitted, Authority
from sidecar.proxy.settle import Prices
from sidecar.proxy.small_holds import GROW_TOKENS
from sidecar.telemetry.metrics import Metrics

GROW_WAIT_MS: Final = (1000, 3000)
"""How long a stream is held up for other open calls to end, before it is ended itself: spread, so that the first that
is ended lets the others go on. Its provider may generate meanwhile what nothing is held for: so not for longer."""

_OF_A_PART: Final = frozenset({Reason.BUDGET_IN_FLIGHT, Reason.REQUEST_EXCEEDS_BUDGET})
"""Refusals that say of a part of a call what is not so of the call."""


class Growth:
    """Holds more for a call that is under way, and writes it down before it is used (L49).

    Attributes:
        covers: so many output tokens are paid for by what is held, with the whole prompt.
        limit: more than that there cannot be.
    """

    __slots__ = (
        "_admitted",
        "_authority",
        "_bound",
        "_bound_atoms",
        "_held",
        "_input_tokens",
        "_metrics",
        "_others_hold",
        "_prices",
        "covers",
        "limit",
    )

    def __init__(self, admitted: Admitted, held: Held, prices: Prices, authority: Authority, metrics: Metrics) -> None:
        """Begin with what the call was admitted with: `held` and `prices` are its own."""
        ceiling, start = prices.ceiling, admitted.call.start
        self._admitted = admitted
        self._authority = authority
        self._metrics = metrics
        self._held = held
        self._others_hold = False
        self._prices = prices
        self._bound: Bound = bound_of(ceiling, prices.card, prices.currency)
        self._input_tokens = ceiling.input_tokens
        self.limit = ceiling.output_tokens(prices.card)
        self._bound_atoms = self._atoms(self.limit)
        self.covers = 0 if start is None else min(start.tokens, self.limit)

    @property
    def is_over(self) -> bool:
        """Whether the call is settled: its hold grows no more."""
        return self._held.resolved

    def reach(self, tokens: int) -> bool:
        """Cover so many output tokens from what is held here, and more where there is more; false: it cannot be."""
        if tokens <= self.covers:
            return True
        return any(self._take(wanted) for wanted in self._steps(tokens))

    async def ask(self, tokens: int, least: int) -> Reason | None:
        """The same with the ledger's help, and a wait for other open calls to end; gives why not, None if it is so.

        Args:
            tokens: to be covered.
            least: fewer, which would do for now.
        """
        clock, call = self._authority.clock, self._admitted.call
        shortest, longest = GROW_WAIT_MS
        wait_ms = shortest + zlib.crc32(call.request_id.encode()) % (longest - shortest + 1)
        until = clock.monotonic() + wait_ms / 1000
        refused = await self._ask_once(tokens, least)
        while refused is not None and self._others_hold and clock.monotonic() < until:
            refused = await self._ask_once(tokens, least)
        if refused is not None:
            self._metrics.growths.add("refused")
        return refused

    def pays_for(self, usage: Usage) -> bool:
        """Whether these are a provider's closing figures, and what is held is enough for them."""
        if usage.state is not UsageState.FINAL:
            return False
        prices = self._prices
        cost = charge(usage, prices.card, prices.currency, others=prices.book, at_ms=prices.at_ms)
        return not cost.unpriced and cost.atoms <= self._held.atoms

    def reach_for_all(self) -> None:
        """Hold as much of the call's whole bound as there is here: of a call whose end nobody saw (L25)."""
        if self.is_over or self._take(self.limit):
            return
        short = self._take_or_short(self._atoms(self.limit) - self._held.atoms)
        if isinstance(short, Short):
            lacking = max((atoms for _, atoms in short.budgets), default=0)
            least = short.atoms - max(lacking, short.lacking_credit)
            more = self._take_or_short(least) if least > 0 else None
            if isinstance(more, Held):
                self._join(more, self.covers)

    async def _ask_once(self, tokens: int, least: int) -> Reason | None:
        """Ask, for less each time; it takes no longer than a call waits for others."""
        authority, call = self._authority, self._admitted.call
        began = authority.clock.monotonic()
        refused = Reason.BUDGET_EXCEEDED
        for wanted in dict.fromkeys((*self._steps(tokens), least)):
            if self.is_over or least <= self.covers:
                return None
            covered = await authority.keeper.cover(
                call.subject,
                model=call.facts.model,
                provider=call.provider,
                need_atoms=max(1, self._atoms(wanted) - self._held.atoms),
                currency=self._admitted.admission.currency,
                since=began,
            )
            self._others_hold = isinstance(covered, Uncovered) and self._is_of_others(covered)
            if isinstance(covered, Uncovered):
                # It was asked for a part of the call alone, and what stands in its way may well be the call's own hold.
                refused = Reason.BUDGET_EXCEEDED if covered.reason in _OF_A_PART else covered.reason
            elif covered.held is not None:
                if self._join(covered.held, wanted):
                    return None
                if self._held.atoms != self._admitted.admission.held_atoms:
                    return Reason.OUTBOX_FULL
        return refused

    def _is_of_others(self, uncovered: Uncovered) -> bool:
        """Whether other open calls than this one stand in the way: they end, and give back what they did not use."""
        binding = uncovered.binding
        if uncovered.reason is not Reason.BUDGET_IN_FLIGHT or binding is None:
            return False
        return (binding.held or 0) > self._held.atoms or bool(binding.elsewhere)

    def _steps(self, tokens: int) -> tuple[int, ...]:
        """What to try to cover, the most first."""
        ahead = max(GROW_TOKENS, tokens // 2)
        return tuple(dict.fromkeys(min(self.limit, tokens + more) for more in (ahead, GROW_TOKENS // 4, 0)))

    def _atoms(self, tokens: int) -> int:
        return self._bound.atoms(self._input_tokens, tokens)

    def _take(self, tokens: int) -> bool:
        more = self._atoms(tokens) - self._held.atoms
        if more <= 0:
            return self._write(tokens)
        taken = self._take_or_short(more)
        return isinstance(taken, Held) and self._join(taken, tokens)

    def _take_or_short(self, atoms: int) -> Held | Short | None:
        """Hold it by what is known here now: limits that were changed meanwhile count."""
        authority, call = self._authority, self._admitted.call
        known = authority.keeper.standing(call.subject)
        if known is None or known.standing.currency != self._admitted.admission.currency:
            return None
        taken = authority.table.take(
            known.standing,
            call.subject,
            model=call.facts.model,
            provider=call.provider,
            atoms=atoms,
            now=authority.clock.monotonic(),
        )
        return taken if isinstance(taken, Held | Short) else None

    def _join(self, more: Held, tokens: int) -> bool:
        """Add it to the hold, in writing; false, and it is free again, where it cannot be added."""
        table = self._authority.table
        if not join(table, self._held, more):
            table.release(more)
            return False
        return self._write(tokens)

    def _write(self, tokens: int) -> bool:
        """What is held is written down before it covers anything; false: it cannot be, and stays held to the end."""
        held, admission = self._held, self._admitted.admission
        if held.atoms != admission.held_atoms:
            grown = msgspec.structs.replace(admission, held_atoms=held.atoms, slices=held.slices)
            try:
                self._authority.spool.admit(grown)
            except SpoolFull:
                return False
            self._admitted.admission = grown
            lacking = max(0, self._bound_atoms - held.atoms)
            self._authority.open_ended.grows(grown.request_id, grown.currency, lacking)
            self._metrics.growths.add("grown")
        self.covers = max(self.covers, tokens)
        return True
