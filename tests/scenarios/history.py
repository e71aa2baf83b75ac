"""One history, from its seed: who spends what, what goes wrong and when, how it heals, and what must then hold."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from sidecar.errors import SidecarError
from sidecar.ledger.administration import Act, NewBudget, NewGrant
from sidecar.ledger.service import LedgerService
from tests.scenarios import faults
from tests.scenarios.laws import all_laws
from tests.scenarios.mutants import MUTANTS
from tests.scenarios.pods import Plan
from tests.scenarios.world import CUSTOMER, DEPARTMENTS, TEAMS, USERS, Broken, Law, World, scratch, subject
from tests.support.ledger import usd

TROUBLE_S = 120.0
"""How long things go wrong."""

HEALING_S = 100.0
"""How long after the last fault all must be well: two lives of a lease, and the longest backoff."""

LOSES_BOOK = 0.25
"""In so many histories the ledger loses what it has committed: of others it is known what each disk may have lost."""

LOSES_DISK_TOO = 0.4
"""And in so many of those sidecars lose their disks too: a person has to give up what they knew (L50a)."""

SELDOM_BITES = ("pause", "lose_power", "fail_sync", "grant")
"""Faults that often meet nothing, and so come twice as often as others."""

PROBE = 2
"""Atoms of a call that asks whether there is still credit."""


@dataclass
class Mix:
    """What a history is made of. `weights` says how often each fault of `faults.FAULTS` comes, in proportion."""

    pods: int = 3
    ledgers: int = 1
    calls_each_s: float = 0.5
    limit: int = 6_000
    wallet: bool = False
    lost: float = 0.03
    doubled: float = 0.03
    late: float = 0.03
    overruns: float = 0.0
    loses_book: bool = False
    """The ledger may be put back."""
    bites: bool = False
    """Pauses are longer, limits are lowered further, and of grants the one most lent is voided."""
    grace: bool = False
    """Each hard budget allows itself a fifth of its limit beside it while the ledger is away (L47)."""
    sync_s: float = 0.004
    """What an fsync takes (F-14)."""
    every_s: float = 12.0
    """Between two faults."""
    weights: dict[str, int] = field(default_factory=lambda: dict.fromkeys(faults.FAULTS, 1))


def mix_of(seed: int, *, bites: bool = False) -> Mix:
    """What the history of a seed is made of; `bites`: more of what otherwise seldom meets anything."""
    rng = random.Random(f"{seed} mix")
    mix = Mix(
        pods=rng.choice((2, 3, 3, 4)),
        ledgers=rng.choice((1, 1, 2)),
        calls_each_s=rng.choice((0.2, 0.4, 0.8)),
        limit=rng.choice((1_500, 6_000, 30_000)),
        wallet=rng.random() < 0.35,
        lost=rng.choice((0.0, 0.02, 0.1)),
        doubled=rng.choice((0.0, 0.05, 0.2)),
        late=rng.choice((0.0, 0.03, 0.1)),
        overruns=rng.choice((0.0, 0.0, 0.3)),
        every_s=rng.choice((6.0, 12.0, 25.0)),
        sync_s=rng.choice((0.004, 0.2, 3.0, 3.0) if bites else (0.004, 0.004, 0.2, 3.0)),
        bites=bites,
    )
    for name in faults.FAULTS:
        mix.weights[name] = rng.choice((0, 1, 1, 3)) * (2 if bites and name in SELDOM_BITES else 1)
    if rng.random() < LOSES_BOOK:
        loses_book(mix)
    mix.grace = rng.random() < 0.5
    if bites and mix.loses_book and rng.random() < LOSES_DISK_TOO:
        loses_disk_too(mix)
    return mix


def loses_book(mix: Mix) -> None:
    """Let the ledger lose what it has committed."""
    mix.loses_book, mix.wallet = True, False
    mix.weights.update(dict.fromkeys(("lose_volume", "lose_power", "tear", "twin", "fill_disk", "fail_sync"), 0))
    mix.weights.update(dict.fromkeys(("set_ledgers_clock", "change_limit"), 0))
    mix.weights["put_back"] = 2


def loses_disk_too(mix: Mix) -> None:
    """Let sidecars lose their disks as well: of what both have lost nobody is left who knows."""
    mix.weights["lose_volume"] = 2


class History:
    """Runs one."""

    def __init__(self, seed: int, mix: Mix, folder: Path, laws: Sequence[Law]) -> None:
        self.mix = mix
        self.rng = random.Random(f"{seed} history")
        self.world = World(seed, laws, folder, pods=mix.pods, ledgers=mix.ledgers)
        self.world.weather.lost = mix.lost
        self.world.weather.doubled = mix.doubled
        self.world.weather.late = mix.late
        self.world.loop.thread_s = mix.sync_s
        self.calls_go_on = True
        self.whole = ""
        """The budget that every call draws on."""
        self.budgets: list[tuple[str, str, int, str]] = []
        """Each budget's path, period, first limit, and of whom each has one."""

    async def run(self) -> None:
        """From the first customer to the last sidecar's stop.

        Raises:
            Broken: a law does not hold.
        """
        world = self.world
        await self._furnish()
        for pod in world.pods:
            pod.start_if_down()
        calling = asyncio.create_task(self._call())
        looking = asyncio.create_task(self._look())
        began_s = world.now_s
        while world.now_s < began_s + TROUBLE_S:
            await world.live(self.rng.expovariate(1 / self.mix.every_s))
            await faults.happen(self)
        await faults.heal(self)
        await world.live(HEALING_S / 4)
        self.calls_go_on = False
        await calling
        await world.live(HEALING_S * 3 / 4)
        world.is_unknown = world.is_unknown and bool(world.book.rows("SELECT 1 FROM meta WHERE name = 'learning'"))
        await self._probe()
        world.quiet()
        for pod in world.pods:
            if pod.life is not None:
                await world.live(0.0)
                await pod.life.process.start(pod.life.stop())
        looking.cancel()
        await world.live(1.0)
        world.end()

    async def _furnish(self) -> None:
        world, limit = self.world, self.mix.limit
        service = world.ledgers[0].service
        await service.add_customer(CUSTOMER, "required" if self.mix.wallet else "none", world.act())
        for department, team in zip(DEPARTMENTS, TEAMS, strict=True):
            await service.add_nodes(f"{CUSTOMER}/department:{department}/team:{team}", world.act())
        self.budgets = [
            (CUSTOMER, "lifetime", limit, ""),
            (CUSTOMER, "lifetime", limit // 2, "user"),
            (f"{CUSTOMER}/team:data", "hour", limit // 3, ""),
            (f"{CUSTOMER}/department:a", "hour", limit // 2, ""),
            (f"{CUSTOMER}/department:b", "lifetime", limit // 3, ""),
        ]
        for path, per, atoms, each in self.budgets:
            budget = NewBudget(path, usd(atoms), per, each=each)
            if self.mix.grace:
                budget = msgspec.structs.replace(budget, on_outage="grace", grace=usd(atoms // 5))
            view = await service.set_budget(budget, world.act())
            self.whole = self.whole or view.budget_id
        for path in (f"{CUSTOMER}/team:data", CUSTOMER):
            await service.set_budget(NewBudget(path, usd(limit), "day", hard=False), world.act())
        if self.mix.wallet:
            for number in range(3):
                ends = world.ledger_clock.true_ms() + self.rng.randint(60, 400) * 1000
                new = NewGrant(CUSTOMER, usd(limit // 3), expires_at_ms=ends if number < 2 else None)
                await service.add_grant(new, world.act())

    async def act(self, work: Callable[[LedgerService, Act], Coroutine[Any, Any, object]]) -> None:
        """A person does something; what may not be is refused, and a ledger that does not run does nothing."""
        host = self.rng.choice(self.world.ledgers)
        if host.is_up:
            with suppress(SidecarError):
                await work(host.service, self.world.act())

    def do(self, work: Callable[[LedgerService, Act], Coroutine[Any, Any, object]]) -> None:
        """The same, from where nobody waits."""
        self.world.loop.create_task(self.act(work))

    async def _call(self) -> None:
        """The applications' calls."""
        world, rng = self.world, self.rng
        while self.calls_go_on:
            await asyncio.sleep(rng.expovariate(self.mix.calls_each_s * len(world.pods)))
            pod = rng.choice(world.pods)
            if pod.life is not None:
                pod.life.ask(self.plan())

    def plan(self) -> Plan:
        """Some call."""
        rng = self.rng
        tokens_in, most_out = rng.randint(1, 60), rng.randint(1, 120)
        out = rng.randint(0, most_out)
        if rng.random() < self.mix.overruns:
            out = most_out + rng.randint(1, 60)
        lasts_s = rng.choice((0.2, 1.0, 1.0, 4.0, 20.0)) * rng.uniform(0.5, 1.5)
        ending = rng.choices(("complete", "cut", "refused"), (20, 1, 1))[0]
        who = subject(CUSTOMER, rng.choice((*TEAMS, "")), rng.choice((*USERS, "")))
        return Plan(who, tokens_in, most_out, out, lasts_s, ending)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(3.0)
            self.world.look()

    async def _probe(self) -> None:
        """Every sidecar still gets leave to spend where there is something left to spend."""
        world = self.world
        for pod in world.pods:
            if pod.life is None:
                continue
            # Where nobody else spends, and of a user of its own: only what all calls draw on may be used up.
            life, before = pod.life, len(world.truth.made)
            for _ in range(8):
                life.ask(Plan(subject(CUSTOMER, "", f"probe-{pod.name}"), 1, PROBE - 1, 1, 0.1, "complete"))
                await world.live(3.0)
                if len(world.truth.made) > before:
                    break
            else:
                if self._left() >= PROBE and not life.may_leave:
                    world.refused_probes.append(life)

    def _left(self) -> int:
        """Atoms that any call can have: neither spent, nor with somebody who will not be heard of again."""
        book, now_ms = self.world.book, self.world.ledger_clock.true_ms()
        gone = {life.incarnation for life in self.world.lives if life.may_leave}
        stuck: Counter[str] = Counter()
        for account, incarnation, escrow in book.rows(
            "SELECT account, incarnation, granted - returned - posted FROM leases WHERE granted - returned > posted"
        ):
            stuck[account] += escrow if incarnation in gone else 0
        whole = next(one for one in self.world.accounts.values() if one.name.startswith(f"budget:{self.whole}:"))
        left = whole.limit - whole.consumed - stuck[whole.name]
        if not self.mix.wallet:
            return left
        credit = 0
        for account, atoms, ends_ms in book.rows(
            "SELECT a.account, a.available + a.leased, g.expires_at_ms FROM accounts AS a JOIN grants AS g"
            " ON g.customer = a.customer AND a.account = 'grant:' || g.grant_id WHERE g.voided = 0"
        ):
            credit += atoms - stuck[account] if ends_ms is None or ends_ms > now_ms + 60_000 else 0
        ((debt,),) = book.rows("SELECT count(*) FROM accounts WHERE account LIKE 'debt:%' AND consumed > 0")
        return 0 if debt else min(left, credit)


@dataclass
class Outcome:
    """What became of one history."""

    seed: int
    broken: Broken | None
    history: History
    """For its trace and counts."""


def run(seed: int, mix: Mix | None = None, laws: Sequence[Law] | None = None) -> Outcome:
    """Run one history, to its end or to the first law that breaks."""
    state = random.getstate()
    random.seed(seed)  # the product's own jitter
    logging.disable(logging.CRITICAL)
    with scratch() as folder:
        history = History(seed, mix or mix_of(seed), Path(folder), laws or all_laws())
        world = history.world
        broken: Broken | None = None
        try:
            world.loop.run_until_complete(history.run())
        except Broken as found:
            broken = found
        finally:
            world.close()
            random.setstate(state)
            logging.disable(logging.NOTSET)
    return Outcome(seed, broken, history)


def directed(mutant: str, seed: int) -> Mix:
    """A history in which what a mutant does matters."""
    mix = mix_of(seed)
    mix.weights = dict(MUTANTS[mutant].faults)
    mix.every_s = 15.0
    mix.overruns = 0.0
    mix.sync_s = 3.0
    mix.loses_book = False
    mix.grace = "grace" in mutant or "overdraft" in mutant
    if "grant" in mix.weights:
        mix.wallet, mix.calls_each_s = True, 1.0
    if mix.grace or "set_clock" in mix.weights:
        mix.wallet, mix.calls_each_s = False, 1.0
    if "put_back" in mix.weights:
        mix.loses_book, mix.wallet, mix.limit = True, False, 6_000
        mix.calls_each_s, mix.pods = 1.0, 4
    return mix


def run_mutant(mutant: str, seed: int) -> Outcome:
    """Run a history of the product as it must not be."""
    with MUTANTS[mutant].applied():
        return run(seed, directed(mutant, seed))
