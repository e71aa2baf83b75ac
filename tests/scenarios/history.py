"""One history, from its seed: who spends what, what goes wrong and when, how it heals, and what must then hold."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.ledger.administration import NewBudget, NewGrant
from tests.scenarios import faults
from tests.scenarios.laws import all_laws
from tests.scenarios.pods import Plan
from tests.scenarios.world import Broken, Law, World, scratch, subject
from tests.support.ledger import usd

TROUBLE_S = 150.0
"""How long things go wrong."""

HEALING_S = 100.0
"""How long after the last fault all must be well: two lives of a lease, and the longest backoff."""

PROBE = 2
"""Atoms of a call that asks whether there is still credit."""

CUSTOMER = "acme"
TEAMS = ("data", "web")
USERS = ("ada", "bob")


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
    every_s: float = 12.0
    """Between two faults."""
    weights: dict[str, int] = field(default_factory=lambda: dict.fromkeys(faults.FAULTS, 1))


def mix_of(seed: int) -> Mix:
    """What the history of a seed is made of."""
    rng = random.Random(f"{seed} mix")
    mix = Mix(
        pods=rng.choice((2, 3, 3, 4)),
        ledgers=rng.choice((1, 1, 2)),
        calls_each_s=rng.choice((0.3, 0.6, 1.0)),
        limit=rng.choice((1_500, 6_000, 30_000)),
        wallet=rng.random() < 0.35,
        lost=rng.choice((0.0, 0.02, 0.1)),
        doubled=rng.choice((0.0, 0.05, 0.2)),
        late=rng.choice((0.0, 0.03, 0.1)),
        overruns=rng.choice((0.0, 0.0, 0.3)),
        every_s=rng.choice((6.0, 12.0, 25.0)),
    )
    for name in faults.FAULTS:
        mix.weights[name] = rng.choice((0, 1, 1, 3))
    return mix


class History:
    """Runs one."""

    def __init__(self, seed: int, mix: Mix, folder: Path, laws: Sequence[Law]) -> None:
        self.mix = mix
        self.rng = random.Random(f"{seed} history")
        self.world = World(seed, laws, folder, pods=mix.pods, ledgers=mix.ledgers)
        self.world.weather.lost = mix.lost
        self.world.weather.doubled = mix.doubled
        self.world.weather.late = mix.late
        self.calls_go_on = True
        self.whole = ""
        """The budget that every call draws on."""

    async def run(self) -> None:
        """From the first customer to the last sidecar's stop.

        Raises:
            Broken: a law does not hold.
        """
        world = self.world
        await self._furnish()
        for pod in world.pods:
            pod.start()
        calling = asyncio.create_task(self._call())
        looking = asyncio.create_task(self._look())
        began_s = world.now_s
        while world.now_s < began_s + TROUBLE_S:
            await world.live(self.rng.expovariate(1 / self.mix.every_s))
            await faults.happen(self)
        await faults.heal(world)
        await world.live(HEALING_S / 2)
        self.calls_go_on = False
        await calling
        await world.live(HEALING_S / 2)
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
        for team in TEAMS:
            await service.add_nodes(f"{CUSTOMER}/team:{team}", world.act())
        whole = await service.set_budget(NewBudget(CUSTOMER, usd(limit), "lifetime"), world.act())
        self.whole = whole.budget_id
        await service.set_budget(NewBudget(f"{CUSTOMER}/team:data", usd(limit // 3), "hour"), world.act())
        await service.set_budget(NewBudget(CUSTOMER, usd(limit // 2), "lifetime", each="user"), world.act())
        if self.mix.wallet:
            for number in range(3):
                ends = world.ledger_clock.true_ms() + self.rng.randint(60, 400) * 1000
                new = NewGrant(CUSTOMER, usd(limit // 3), expires_at_ms=ends if number < 2 else None)
                await service.add_grant(new, world.act())

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
                if self._left() >= PROBE:
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
            " ON g.customer = a.customer AND a.account = 'grant:' || g.grant_id"
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
