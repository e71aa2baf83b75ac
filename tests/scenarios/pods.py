"""A sidecar in its pod: the real back office and the real decision, on a pretend machine."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from sidecar.app.back_office import BackOffice
from sidecar.core.credits.amounts import Currency
from sidecar.core.governance.decisions import Denied
from sidecar.core.governance.tenancy import Subject
from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.rate_cards import ContextTier, RateBook, RateCard, Rates
from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState
from sidecar.errors import ConfigurationError, SpoolFull
from sidecar.leases.options import KeeperOptions
from sidecar.outbox.shipper import ShipperOptions
from sidecar.outbox.spool import SpoolOptions
from sidecar.ports import Ids
from sidecar.providers.dialect import Ending, RequestFacts
from sidecar.proxy.authorize import Admitted, Authority, Call, authorize
from sidecar.proxy.outcomes import Cause, Outcome
from sidecar.proxy.record import record
from sidecar.proxy.settle import Prices, settle
from sidecar.telemetry.metrics import Metrics
from tests.scenarios.loop import State
from tests.scenarios.machine import PretendClock, PretendDisk, Volume
from tests.scenarios.network import RemoteLedger, Way

if TYPE_CHECKING:
    from tests.scenarios.world import World

MODEL, PROVIDER = "m", "openai"
USD: Final = Currency("usd", 9)


def _catalog(atoms_in: int, atoms_out: int, sha256: str) -> RateBook:
    tier = ContextTier(0, Rates(input=1000 * atoms_in, output=1000 * atoms_out))
    card = RateCard("openai/m", PROVIDER, (MODEL,), 0, "usd", (tier,), 100_000, 1_000_000, "test", "2026-11")
    return RateBook((card,), (USD,), sha256=sha256)


PRICES: Final = {"ab" * 32: (1, 1), "cd" * 32: (2, 3)}
"""Atoms that a token costs by each catalog, one read and one written."""

RATES, DEARER = (_catalog(*atoms, sha256) for sha256, atoms in PRICES.items())
"""By the first, a token costs one atom, of whichever side: so a call's amounts can be read off its tokens."""

KEEPING: Final = KeeperOptions(refresh_every_s=5.0, cover_s=5.0, idle_after_s=15.0)
SHIPPING: Final = ShipperOptions(max_backoff_s=8.0)
SPOOLING: Final = SpoolOptions(segment_bytes=20_000, ballast_bytes=0, retain_s=1e12)


class Plan:
    """What a call will be like: its bounds, what it really uses, how long it takes and how it ends."""

    def __init__(self, subject: Subject, tokens_in: int, most_out: int, out: int, lasts_s: float, ending: str) -> None:
        self.subject = subject
        self.tokens_in = tokens_in
        self.most_out = most_out
        self.out = out
        self.lasts_s = lasts_s
        self.ending = ending

    def actual(self, catalog: str) -> int:
        """What it costs at the provider, by the catalog that it was admitted by (L51)."""
        atoms_in, atoms_out = PRICES[catalog]
        return 0 if self.ending == "refused" else atoms_in * self.tokens_in + atoms_out * self.out


class Life:
    """One start of a sidecar. Made by `Pod.start`."""

    def __init__(self, world: World, pod: Pod) -> None:
        self.world = world
        self.pod = pod
        self.volume = pod.volume
        self.process = world.loop.new_process(pod.name)
        self.disk = PretendDisk(pod.volume, world.loop)
        self.may_leave = False
        """Its leases may stay behind for good: its disk was lost, or cannot be trusted."""
        self.ended_well = False
        self.takes_calls = True
        self.rates, self._rates_version = world.rates, world.rates_version
        self.office: BackOffice = self.process.call(self._open)
        self.authority = Authority(
            self.office.table, self.office.keeper, self.office.spool, self.office.time, lambda: self.rates
        )  # fmt: skip
        self.process.call(self.office.start_apart)

    def _open(self) -> BackOffice:
        ledger = RemoteLedger(self.pod.way, self.world.some_ledger, self.world.loop)
        return BackOffice(
            self.volume.folder,
            ledger,
            clock=self.pod.clock,
            ids=self.ids(),
            outbox=SPOOLING,
            shipping=SHIPPING,
            leases=KEEPING,
            disk=self.disk,
        )

    def ids(self) -> Ids:
        """Where this start's names come from."""
        return self.world.ids

    def reprice(self, rates: RateBook, version: int) -> None:
        """A catalog was published; one that comes late does not put an older one back (F-40)."""
        if version > self._rates_version:
            self.rates, self._rates_version = rates, version
            self.world.note(self.pod.name, f"prices by {rates.sha256[:2]}")

    def prices(self, verdict: Admitted) -> Prices | None:
        """By which a call is settled: those it was admitted by."""
        return verdict.prices

    @property
    def incarnation(self) -> str:
        """Of this start."""
        return self.office.incarnation

    @property
    def is_running(self) -> bool:
        """Neither paused nor dead."""
        return self.process.state is State.RUNNING

    def ask(self, plan: Plan) -> None:
        """The application makes a call."""
        if self.is_running and self.takes_calls:
            self.process.start(self._guarded(plan))

    async def _guarded(self, plan: Plan) -> None:
        try:
            await self._call(plan)
        except Exception as bug:
            self.world.on_bug(bug)

    async def _call(self, plan: Plan) -> None:
        world = self.world
        facts = RequestFacts(Ceiling(MODEL, plan.tokens_in, plan.most_out), stream=False, body=b"")
        call = Call(world.ids.new("req"), plan.subject, facts, PROVIDER, "openai_chat")
        verdict = await authorize(call, self.authority)
        if isinstance(verdict, Denied):
            world.denied(self, call, verdict)
            return
        made = world.admitted(self, verdict.admission, plan)
        # The provider works on whether or not this process lives to see it.
        await asyncio.sleep(plan.lasts_s)
        usage, ending, status = _answer(plan)
        settlement = settle(verdict.admission.held_atoms, self.prices(verdict), usage, ending=ending, status=status)
        outcome = Outcome(ending, Cause.COMPLETE, "", status, None, True, 0, 0, 0.0, plan.lasts_s)
        made.event, _ = record(
            verdict, settlement, outcome, spool=self.authority.spool, table=self.office.table, metrics=Metrics()
        )
        made.recorded_s = world.now_s
        made.may_be_guessed |= bool(self.office.spool.fault)
        world.note(self.pod.name, f"settled {made.request_id} at {settlement.charge_atoms}")

    def kill(self) -> None:
        """Nothing of it runs or writes any more; the kernel closes its files."""
        self.process.kill()
        self.disk.is_dead = True
        spool = self.office.spool
        for descriptor in (spool._descriptor, *spool._unsynced):
            if descriptor >= 0:
                os.close(descriptor)
        spool._descriptor, spool._unsynced = -1, []
        spool._lock.release()

    async def drain_and_stop(self) -> None:
        """In good order, once the calls have ended that run; those that last too long are cut off."""
        self.takes_calls = False
        for _ in range(20):
            if not self.office.table.open_holds:
                await self.stop()
                return
            await asyncio.sleep(1.0)
        self.kill()

    async def stop(self) -> None:
        """In good order: no call runs any more."""
        self.takes_calls = False
        await self.office.give_back()
        await self.office.close()
        self.ended_well = True
        self.world.happened["sidecar stopped in good order"] += 1


class Pod:
    """A place for a sidecar: a machine's clock, a volume, a way to the ledgers; and who runs there now."""

    def __init__(self, world: World, name: str, volume: Volume, clock: PretendClock, way: Way) -> None:
        self.world = world
        self.name = name
        self.volume = volume
        self.clock = clock
        self.way = way
        self.life: Life | None = None
        self.copy_of: Pod | None = None
        """Of whose volume its own was copied."""

    @property
    def is_down(self) -> bool:
        """Whether nothing runs here."""
        return self.life is None or self.life.ended_well or self.life.process.state is State.DEAD

    def start_if_down(self) -> None:
        """Start the sidecar on what is in the volume; one that cannot is tried again."""
        if not self.is_down:
            return
        try:
            self.life = Life(self.world, self)
        except (SpoolFull, ConfigurationError) as problem:
            if isinstance(problem, ConfigurationError) and not self.volume.fails_sync:
                raise
            self.world.note(self.name, "cannot start: its disk is full, or fails")
            self.world.loop.call_later(5.0, self.start_if_down)
            return
        self.world.started(self.life)

    def kill(self) -> bool:
        """Kill it; False if nothing runs."""
        if self.life is None or self.is_down:
            return False
        happened, office = self.world.happened, self.life.office
        happened["sidecar killed"] += 1
        happened["sidecar killed with calls open"] += office.table.open_holds > 0
        self.life.kill()
        return True


def _answer(plan: Plan) -> tuple[Usage, Ending, int]:
    """What the proxy would have read of the provider's answer."""
    if plan.ending == "refused":
        return Usage(UsageState.ABSENT), Ending.COMPLETE, 429
    if plan.ending == "cut":
        return Usage(UsageState.ABSENT), Ending.CUT, 200
    tokens = Tokens(input_tokens=plan.tokens_in, output_tokens=plan.out)
    return Usage(UsageState.FINAL, (Line(tokens),)), Ending.COMPLETE, 200
