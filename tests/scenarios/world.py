"""Everything in one simulation: machines, ways, ledgers, sidecars, the provider, and the laws that watch them."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter, deque
from collections.abc import Sequence
from contextvars import Context
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sidecar.contract.messages import Admission
from sidecar.core.governance.decisions import Denied
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.ledger.administration import Act
from sidecar.ledger.options import LedgerOptions
from sidecar.proxy.authorize import Call
from tests.scenarios.book import Account, PretendBook
from tests.scenarios.ledgers import LedgerHost
from tests.scenarios.loop import PretendLoop
from tests.scenarios.machine import PretendClock, Volume
from tests.scenarios.network import Way, Weather
from tests.scenarios.pods import RATES, Life, Plan, Pod
from tests.scenarios.truth import Made, Truth

CUSTOMER: Final = "acme"
DEPARTMENTS: Final = ("a", "b")
TEAMS: Final = ("data", "web")
USERS: Final = ("ada", "bob")
HOUR_MS: Final = 3_600_000

RULES: Final = LedgerOptions(valid_for_ms=40_000, refresh_every_ms=5_000, fresh_for_ms=20_000)
"""40 s where the product has a quarter of an hour: so some minutes see many lives of a lease."""


class Broken(AssertionError):
    """A law does not hold."""

    def __init__(self, law: str, what: str) -> None:
        super().__init__(f"{law}: {what}")
        self.law = law


class Law:
    """Something that must hold. A subclass looks when it wants to, and raises Broken."""

    name = ""
    needs_whole_book = False
    """It cannot be asked while the book lacks what it has lost."""

    def on_admission(self, world: World, made: Made) -> None:
        """A call was let run."""

    def on_commit(self, world: World) -> None:
        """The book has changed."""

    def on_look(self, world: World) -> None:
        """Some time has passed."""

    def on_quiet(self, world: World) -> None:
        """All is healed, and no call runs any more."""

    def on_end(self, world: World) -> None:
        """Every sidecar was stopped in good order."""


class Ids:
    """`ports.Ids` from the seed."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def new(self, prefix: str) -> str:
        """26 characters."""
        return f"{prefix}_{self._rng.getrandbits(120):026x}"[: len(prefix) + 27]


class World:
    """One simulation, from its seed."""

    def __init__(self, seed: int, laws: Sequence[Law], folder: Path, *, pods: int = 3, ledgers: int = 1) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.loop = PretendLoop()
        self.loop.set_exception_handler(lambda _loop, context: self._on_loop_trouble(context))
        self.ids = Ids(random.Random(f"{seed} ids"))
        self.truth = Truth()
        self.laws = laws
        self.trace: deque[tuple[float, str, str]] = deque(maxlen=20_000)
        self.denials: Counter[str] = Counter()
        self.lives: list[Life] = []
        self.weather = Weather()
        self.book = PretendBook(random.Random(f"{seed} book"))
        self.accounts: dict[str, Account] = {}
        self.book.on_commit = self._committed
        self.happened = self.book.happened = self.loop.happened
        self.ledger_clock = PretendClock(self.loop)
        self.ledgers = [
            LedgerHost(
                self.loop, f"ledger-{n}", self.book, self.ledger_clock, self.ids, RATES, RULES, on_bug=self.on_bug
            )
            for n in range(1, ledgers + 1)
        ]
        self._folder = folder
        self._volumes = 0
        self._acts = 0
        self.pods: list[Pod] = []
        self._over: asyncio.Future[None] = self.loop.create_future()
        self.broken: Broken | None = None
        self.refused_probes: list[Life] = []
        self.rates, self.rates_version = RATES, 0
        self.lost_volumes: set[Volume] = set()
        self.is_unknown = False
        """The book has lost something, and may still lack it (L50a)."""
        self._looked_ms = self.ledger_clock.true_ms()
        self.clock_error_ms = 0
        """By how much the ledger's clock was wrong at some time, at most."""
        for _ in range(pods):
            self.add_pod()

    # what there is

    def new_volume(self) -> tuple[Path, int]:
        """A place for one, and its number."""
        self._volumes += 1
        return self._folder / f"volume-{self._volumes}", self._volumes

    def add_pod(self, volume: Volume | None = None) -> Pod:
        """Another place for a sidecar; nothing runs there yet."""
        name = f"pod-{len(self.pods) + 1}"
        way = Way(self.loop, random.Random(f"{self.seed} {name}"), self.weather)
        pod = Pod(
            self,
            name,
            volume or Volume(*self.new_volume()),
            PretendClock(self.loop, counts_sleep=len(self.pods) % 2 == 0),
            way,
        )
        self.pods.append(pod)
        return pod

    def some_ledger(self) -> LedgerHost:
        """As behind a load balancer."""
        return self.ledgers[0] if len(self.ledgers) == 1 else self.rng.choice(self.ledgers)

    def act(self) -> Act:
        """Somebody does something, once."""
        self._acts += 1
        return Act("ada@example.com", f"act-{self._acts}")

    # what a disk may have lost: the laws excuse nothing else

    def lost_for_good(self, volume: Volume) -> None:
        """A volume is gone, with every call on it that is not booked, and the leases of who wrote it."""
        self.lost_volumes.add(volume)
        self.not_to_be_trusted(volume)

    def give_up(self) -> None:
        """What only lost disks knew of a lost span is given up: more may be spent by so much than the book lends by."""
        booked = {name for (name,) in self.book.rows("SELECT request_id FROM calls")}
        for made in self.truth.made.values():
            if made.life.volume in self.lost_volumes and made.request_id not in booked:
                self.truth.give_up(made)

    def not_to_be_trusted(self, volume: Volume) -> None:
        """Anything on a volume may be damaged: no lease may be closed on its word."""
        booked = {name for (name,) in self.book.rows("SELECT request_id FROM calls")}
        for made in self._made_on(volume):
            made.may_be_lost |= made.request_id not in booked
            made.may_be_guessed = True

    def tail_lost(self, volume: Volume) -> None:
        """What was written on a volume since it was last synced is gone."""
        if volume.spoilt:
            self.not_to_be_trusted(volume)
        for made in self._made_on(volume):
            made.may_be_lost |= made.began_s >= volume.synced_s
            made.may_be_guessed |= made.recorded_s >= volume.synced_s

    def copied(self, volume: Volume) -> None:
        """Who reads the copy finds calls open that are not, and settles them at their holds."""
        was_damaged = volume.is_damaged
        for made in self._made_on(volume):
            made.may_be_guessed |= made.event is None
        volume.is_damaged = was_damaged

    def not_written(self, volume: Volume) -> None:
        """A write failed or may fail: the leases of who writes there are not to be closed by the next start."""
        for life in self.lives:
            life.may_leave |= life.volume is volume

    def _made_on(self, volume: Volume) -> list[Made]:
        volume.is_damaged = True
        self.not_written(volume)
        return [made for made in self.truth.made.values() if made.life.volume is volume]

    def book_put_back(self, copy: bytes) -> None:
        """What was committed since a copy was made is unknown to the ledger, until every sidecar has told it."""
        self.note("FAULT", "the book has lost its end")
        self.happened["book and a disk lost in one history"] += bool(self.lost_volumes)
        self.is_unknown = True
        for life in self.lives:  # those whose leases were closed in the lost span do not know of them any more
            life.may_leave |= life.pod.life is not life or life.ended_well
        self.book.put_back(copy)
        booked = {name for (name,) in self.book.rows("SELECT request_id FROM calls")}
        known = {name for (name,) in self.book.rows("SELECT incarnation FROM incarnations")}
        for made in self.truth.made.values():
            if made.life.volume in self.lost_volumes and made.request_id not in booked:
                made.may_be_lost = True
                if made.life.incarnation not in known:
                    self.truth.give_up(made)  # nobody waits for one that the book has never heard of
        self.accounts = self.book.accounts()

    # what happens

    @property
    def now_s(self) -> float:
        """Since the beginning."""
        return self.loop.time()

    def note(self, who: str, what: str) -> None:
        """A line of the trace."""
        self.trace.append((self.loop.time(), who, what))

    def started(self, life: Life) -> None:
        """A sidecar has started."""
        life.may_leave |= life.volume.is_damaged
        self.lives.append(life)
        self.note(life.pod.name, f"starts as {life.incarnation} on volume {life.volume.number}")

    def admitted(self, life: Life, admission: Admission, plan: Plan) -> Made:
        """A call goes out to the provider."""
        made = self.truth.begin(admission, life, self.now_s)
        self._count_admission(made)
        self.note(life.pod.name, f"admits {made.request_id} for at most {admission.held_atoms} on {made.accounts}")
        self.loop.call_later(
            plan.lasts_s, self._provided, made, plan.actual(admission.decision.catalog_sha256), context=Context()
        )
        self._ask_laws("on_admission", made)
        return made

    def _provided(self, made: Made, actual: int) -> None:
        self.truth.end(made, actual)
        self.happened["call above its hold"] += made.overrun > 0
        self.note("provider", f"ends {made.request_id}: it cost {actual}")

    def denied(self, life: Life, call: Call, verdict: Denied) -> None:
        """A call was refused."""
        self.denials[verdict.reason.value] += 1
        self.note(life.pod.name, f"denies {call.request_id}: {verdict.reason.value} {verdict.detail}")

    def _committed(self) -> None:
        before, self.accounts = self.accounts, self.book.accounts()
        self._count_limits(before)
        self._ask_laws("on_commit")

    def _count_admission(self, made: Made) -> None:
        happened, original = self.happened, made.life.pod.copy_of
        happened["call"] += 1
        happened["call on grace"] += any("+grace:" in account for account in made.accounts)
        happened["call by a dearer catalog"] += made.admission.decision.catalog_sha256 != RATES.sha256
        happened["call while the book lacks something"] += self.is_unknown
        happened["call on a twin, the other running"] += (
            original is not None and original.life is not None and original.life.is_running
        )

    def _count_limits(self, before: dict[str, Account]) -> None:
        for name, account in self.accounts.items():
            if name in before and account.limit < min(before[name].limit, account.consumed + account.leased):
                self.happened["limit lowered below what is spent and lent"] += 1

    def _count_ends(self) -> None:
        """What ended since somebody looked last, while it was lent."""
        since_ms, self._looked_ms = self._looked_ms, self.ledger_clock.true_ms()
        for account, ends_ms in self.book.rows(
            "SELECT a.account, g.expires_at_ms FROM accounts AS a JOIN grants AS g"
            " ON g.customer = a.customer AND a.account = 'grant:' || g.grant_id WHERE a.leased > 0"
        ):
            if ends_ms is not None and since_ms < ends_ms <= self._looked_ms:
                self.note("time", f"{account} ends")
                self.happened["grant ended while it was lent"] += 1
        if since_ms // HOUR_MS < self._looked_ms // HOUR_MS:
            key = datetime.fromtimestamp(since_ms / 1000, UTC).strftime("%Y-%m-%dT%HZ")
            sql = "SELECT count(*) FROM accounts WHERE leased > 0 AND account LIKE ?"
            self.happened["period turned while it was lent from"] += self.book.rows(sql, f"budget:%:{key}:%")[0][0]

    # the laws

    def look(self) -> None:
        """Let the laws look around."""
        self._count_ends()
        self._ask_laws("on_look")

    def _ask_laws(self, moment: str, *facts: Made) -> None:
        if self.broken is not None:
            return
        for law in self.laws:
            if self.is_unknown and law.needs_whole_book:
                continue
            try:
                getattr(law, moment)(self, *facts)
            except Broken as broken:
                self.fail(broken)
                return

    def fail(self, broken: Broken) -> None:
        """The simulation is over: a law does not hold."""
        if self.broken is None:
            self.broken = broken
            self.note("LAW", str(broken))
        if not self._over.done():
            self._over.set_result(None)

    def on_bug(self, bug: BaseException) -> None:
        """The product raised what it should not."""
        broken = Broken("bug", f"{type(bug).__name__}: {bug}")
        broken.__cause__ = bug
        self.fail(broken)

    def _on_loop_trouble(self, context: dict[str, object]) -> None:
        problem = context.get("exception")
        self.on_bug(problem if isinstance(problem, BaseException) else RuntimeError(str(context.get("message"))))

    async def live(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            Broken: a law does not hold.
        """
        await asyncio.wait((self._over,), timeout=seconds)
        if self.broken is not None:
            raise self.broken

    def quiet(self) -> None:
        """All is healed, and no call runs."""
        self._ask_laws("on_quiet")
        if self.broken is not None:
            raise self.broken

    def end(self) -> None:
        """Everything was stopped."""
        self._ask_laws("on_end")
        if self.broken is not None:
            raise self.broken

    def close(self) -> None:
        """Let go of everything, as fast as that goes."""
        self.broken = self.broken or Broken("closed", "the simulation is over")
        for pod in self.pods:
            pod.kill()
        for life in self.lives:
            life.disk.is_dead = True
        self.loop.finish()
        self.book.close()


def subject(customer: str, team: str = "", user: str = "") -> Subject:
    """Who calls."""
    return Subject(customer, (Node("team", team),) if team else (), user=user)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for volumes, in memory where the machine has such a place."""
    shared = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None, prefix="scenario-")
