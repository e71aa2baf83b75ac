"""What can go wrong, one function each; and how it heals. Ids are those of `FAULTS.md`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from sidecar.core.pricing.rate_cards import RateBook
from sidecar.errors import NotFound
from sidecar.ledger.administration import Act, GrantVoid, LossAcceptance, NewBudget, NewGrant, NodeAct, NodeMove
from tests.scenarios.loop import State
from tests.scenarios.machine import Volume
from tests.scenarios.pods import DEARER, RATES, Life, Pod
from tests.scenarios.world import CUSTOMER, DEPARTMENTS
from tests.support.ledger import usd

if TYPE_CHECKING:
    from sidecar.ledger.service import LedgerService
    from tests.scenarios.history import History

Fault = Callable[["History", Pod], Awaitable[None]]

FAULTS: dict[str, Fault] = {}

MAX_PODS: Final = 6
"""With this many sidecars no further twin is started."""


def fault(work: Fault) -> Fault:
    """Enter one under its name."""
    FAULTS[work.__name__] = work
    return work


async def happen(history: History) -> None:
    """Something goes wrong."""
    weights = history.mix.weights
    names = [name for name in FAULTS if weights.get(name)]
    if not names:
        return
    name = history.rng.choices(names, [weights[one] for one in names])[0]
    pod = history.rng.choice(history.world.pods)
    history.world.note("FAULT", f"{name} {pod.name}")
    await FAULTS[name](history, pod)


async def heal(history: History) -> None:
    """Nothing is wrong any more; what is done later by faults of before changes nothing that was good."""
    world, weather = history.world, history.world.weather
    world.note("FAULT", "none any more: everything heals")
    history.mix.lost = history.mix.doubled = history.mix.late = 0.0
    weather.lost = weather.doubled = weather.late = 0.0
    world.book.failing = world.book.unknown = 0.0
    world.ledger_clock.jump_ms = 0
    later(history, 65.0, lambda: roll_out(history, RATES, 0.0))  # after the last that was begun before
    for host in world.ledgers:
        host.process.go_on()
        host.start_if_down()
    for pod in world.pods:
        pod.way.is_cut_there = pod.way.is_cut_back = False
        pod.volume.is_full = pod.volume.fails_sync = False
        if pod.life is not None:
            _go_on(history, pod.life)
        pod.start_if_down()
        later(history, 30.0, pod.start_if_down)  # one that was being stopped when it fell asleep
    await history.act(lambda s, act: s.unfreeze(NodeAct(f"{CUSTOMER}/team:data", "well again"), act))
    if world.lost_volumes and history.mix.loses_book:  # the last copy may be put back for as long as 40 s yet
        later(history, 55.0, lambda: history.do(partial(_give_up, history)))


async def _give_up(history: History, service: LedgerService, act: Act) -> None:
    """A person says that those will not come back whose disks are lost (L50a)."""
    world = history.world
    names = {life.office.name for life in world.lives if life.volume in world.lost_volumes}
    world.give_up()
    for name in sorted(names):
        with suppress(NotFound):
            await service.accept_loss(LossAcceptance("its disk is lost", name), world.act())
            world.happened["loss accepted by a person"] += 1


def later(history: History, seconds: float, work: Callable[[], None]) -> None:
    """Do something in a while."""
    history.world.loop.call_later(seconds, work)


# the network


@fault
async def cut_off(history: History, pod: Pod) -> None:
    """F-03: a partition, of one direction or of both."""
    there, back = history.rng.choice(((True, True), (True, False), (False, True)))
    pod.way.is_cut_there, pod.way.is_cut_back = there, back

    def mend() -> None:
        pod.way.is_cut_there = pod.way.is_cut_back = False

    later(history, history.rng.uniform(2, 90), mend)


@fault
async def storm(history: History, _pod: Pod) -> None:
    """F-45, F-46: for a while most messages are late or doubled, and many are lost."""
    weather, mix = history.world.weather, history.mix
    weather.lost, weather.doubled, weather.late = 0.3, 0.6, 0.5

    def calm() -> None:
        weather.lost, weather.doubled, weather.late = mix.lost, mix.doubled, mix.late

    later(history, history.rng.uniform(5, 30), calm)


# sidecars and their machines


@fault
async def crash(history: History, pod: Pod) -> None:
    """F-31: `kill -9`; the volume survives, and the next start is on it."""
    if pod.kill():
        later(history, history.rng.uniform(0.5, 30), pod.start_if_down)


@fault
async def deploy(history: History, pod: Pod) -> None:
    """F-33: a stop in good order, as far as the ledger can be reached and calls end in time, and a start."""
    life = pod.life
    if life is not None and life.is_running:
        life.process.start(life.drain_and_stop())
        later(history, history.rng.uniform(25, 40), pod.start_if_down)


@fault
async def pause(history: History, pod: Pod) -> None:
    """F-36: it stands still, perhaps for longer than its leases last."""
    life = pod.life
    if life is not None:
        life.process.pause()
        later(
            history,
            history.rng.choice((3, 60 if history.mix.bites else 30, 80)) * history.rng.uniform(0.5, 1.5),
            partial(_go_on, history, life),
        )


def _go_on(history: History, life: Life) -> None:
    office, now_s = life.office, life.pod.clock.monotonic()
    if life.process.state is State.PAUSED:
        ended = any(lease.ends_at <= now_s and lease.free for lease in office.table.leases())
        history.world.happened["sidecar paused past its leases' end"] += ended
    life.process.go_on()


@fault
async def sleep(history: History, pod: Pod) -> None:
    """F-36: its machine sleeps, and where it cannot tell the monotonic clock with it."""
    life, fell_asleep_s = pod.life, history.world.now_s
    if life is None or not life.is_running:
        return
    life.process.pause()

    def wake() -> None:
        if not pod.clock.counts_sleep:
            history.world.happened["sleep that the monotonic clock does not know"] += 1
            pod.clock.slept_s += history.world.now_s - fell_asleep_s

    life.process.on_resume = wake
    later(history, history.rng.uniform(5, 100), life.process.go_on)


@fault
async def set_clock(history: History, pod: Pod) -> None:
    """F-35: somebody sets its wall clock."""
    before_ms = pod.clock.jump_ms
    pod.clock.jump_ms = history.rng.choice((-86_400_000, -3_600_000, -20_000, 0, 20_000, 3_600_000, 86_400_000))
    history.world.happened["holder's clock jumped"] += pod.clock.jump_ms != before_ms


@fault
async def lose_volume(history: History, pod: Pod) -> None:
    """F-32: the pod is deleted, and its outbox with it; another takes its place, under another name."""
    history.world.happened["disk lost with leases out"] += pod.life is not None and bool(pod.life.office.table.leases())
    pod.kill()
    history.world.lost_for_good(pod.volume)
    history.world.happened["book and a disk lost in one history"] += history.world.is_unknown
    pod.volume = Volume(*history.world.new_volume())
    later(history, history.rng.uniform(0.5, 20), pod.start_if_down)


@fault
async def lose_power(history: History, pod: Pod) -> None:
    """F-31b: its machine is switched off: what was not synced is lost, files too; perhaps again as soon as it runs."""
    rng, up_s = history.rng, 0.0
    for off_s in (rng.uniform(0.5, 20), rng.uniform(0.5, 3))[: rng.randint(1, 2)]:
        later(history, up_s, lambda: _switch_off(history, pod))
        later(history, up_s + off_s, pod.start_if_down)
        up_s += off_s + rng.uniform(1, 6)


def _switch_off(history: History, pod: Pod) -> None:
    pod.kill()
    history.world.tail_lost(pod.volume)
    history.world.happened["power lost"] += 1
    history.world.happened["tail that was not synced lost"] += pod.volume.lose_power(history.rng) > 0


@fault
async def tear(history: History, pod: Pod) -> None:
    """F-42, F-43: some bytes of its outbox are damaged while it is down."""
    pod.kill()
    history.world.not_to_be_trusted(pod.volume)
    history.world.happened["outbox damaged"] += pod.volume.tear(history.rng)
    later(history, history.rng.uniform(0.5, 20), pod.start_if_down)


@fault
async def twin(history: History, pod: Pod) -> None:
    """F-44: another sidecar is started on a copy of its volume, under the same name, while it runs on."""
    world = history.world
    if pod.life is None or len(world.pods) > MAX_PODS:
        return
    world.copied(pod.volume)
    world.happened["twin started on a copy"] += 1
    other = world.add_pod(pod.volume.copy(*world.new_volume()))
    other.copy_of = pod
    other.start_if_down()


@fault
async def fill_disk(history: History, pod: Pod) -> None:
    """F-41: its disk is full for a while."""
    pod.volume.is_full = True
    history.world.not_written(pod.volume)

    def make_room() -> None:
        pod.volume.is_full = False

    later(history, history.rng.uniform(2, 30), make_room)


@fault
async def fail_sync(history: History, pod: Pod) -> None:
    """F-15 at a sidecar: what was written may never have reached the disk, and the kernel says so once."""
    pod.volume.fails_sync = True
    history.world.not_written(pod.volume)

    def mend() -> None:
        pod.volume.fails_sync = False

    later(history, history.rng.uniform(0.5, 10), mend)


# the ledger


@fault
async def crash_ledger(history: History, _pod: Pod) -> None:
    """F-01, F-10: `kill -9` of a ledger process; what it was doing is not answered."""
    host = history.rng.choice(history.world.ledgers)
    history.world.happened["ledger killed"] += host.is_up
    host.process.kill()
    later(history, history.rng.uniform(1, 60), host.start_if_down)


@fault
async def stall_ledger(history: History, _pod: Pod) -> None:
    """F-02: a ledger process stands still, and answers late."""
    host = history.rng.choice(history.world.ledgers)
    history.world.happened["ledger stood still"] += host.is_up
    host.process.pause()
    later(history, history.rng.uniform(1, 40), host.process.go_on)


@fault
async def stumble(history: History, _pod: Pod) -> None:
    """F-09, F-10: for a while transactions fail, and of some commits nobody learns."""
    book = history.world.book
    book.failing, book.unknown = 0.2, 0.2

    def mend() -> None:
        book.failing = book.unknown = 0.0

    later(history, history.rng.uniform(2, 20), mend)


@fault
async def set_ledgers_clock(history: History, _pod: Pod) -> None:
    """F-16: the clock that the ledgers go by jumps."""
    world = history.world
    before_ms = world.ledger_clock.jump_ms
    world.ledger_clock.jump_ms = history.rng.choice((-86_400_000, -200_000, -30_000, 0, 30_000, 200_000, 86_400_000))
    world.happened["ledger's clock jumped"] += world.ledger_clock.jump_ms != before_ms
    world.clock_error_ms = max(world.clock_error_ms, abs(world.ledger_clock.jump_ms))


@fault
async def put_back(history: History, _pod: Pod) -> None:
    """F-08, F-18: an earlier copy takes the book's place: by a failover that lost its end, or restored by a person."""
    world = history.world
    if not history.mix.loses_book:
        return
    copy, commits = world.book.copy(), world.book.commits
    lost_s, is_restored = history.rng.uniform(0.5, 40), history.rng.random() < 0.5

    def lose() -> None:
        for host in world.ledgers:
            host.process.kill()
        world.happened["book lost its end, " + ("restored" if is_restored else "failed over")] += (
            world.book.commits > commits
        )
        world.book_put_back(copy)
        if is_restored:
            world.book.connection.execute(
                "UPDATE meta SET value = ? WHERE name = 'history_id'", (world.ids.new("history"),)
            )
        for host in world.ledgers:
            later(history, history.rng.uniform(0.5, 10), host.start_if_down)

    later(history, lost_s, lose)


# people


@fault
async def change_limit(history: History, _pod: Pod) -> None:
    """F-62: a limit is lowered, perhaps below what is spent and lent, or raised."""
    path, per, limit, each = history.rng.choice(history.budgets)
    limit = limit * history.rng.choice((1, 10, 50, 150) if history.mix.bites else (10, 50, 100, 150)) // 100
    await history.act(lambda s, act: s.set_budget(NewBudget(path, usd(limit), per, each=each), act))


@fault
async def publish(history: History, _pod: Pod) -> None:
    """L51, F-38, F-40: a dearer catalog is published, and rolled back; sidecars hear of either one by one."""
    roll_out(history, DEARER, 10.0)
    later(history, history.rng.uniform(5, 60), lambda: roll_out(history, RATES, 10.0))


def roll_out(history: History, rates: RateBook, within_s: float) -> None:
    """Each sidecar that runs hears of a catalog within some seconds; one that starts later has it at once."""
    world = history.world
    world.rates, world.rates_version = rates, world.rates_version + 1
    for life in [pod.life for pod in world.pods if pod.life is not None]:
        later(history, history.rng.uniform(0, within_s), partial(life.reprice, rates, world.rates_version))


@fault
async def move(history: History, _pod: Pod) -> None:
    """L35: a node is put elsewhere while it is leased; its new department has another budget."""
    to, book = history.rng.choice(DEPARTMENTS), history.world.book
    lent = bool(book.rows("SELECT 1 FROM accounts WHERE leased > 0 LIMIT 1"))
    node = NodeMove(f"{CUSTOMER}/team:data", f"{CUSTOMER}/department:{to}", "reorganised")
    before = book.rows("SELECT path FROM nodes WHERE id = 'data'")
    await history.act(lambda s, act: s.move_node(node, act))
    after = book.rows("SELECT path FROM nodes WHERE id = 'data'")
    history.world.happened["node moved while it was lent to"] += lent and before != after


@fault
async def freeze(history: History, _pod: Pod) -> None:
    """L35: a team may not spend for a while."""
    node = NodeAct(f"{CUSTOMER}/team:data", "looking into it")
    await history.act(lambda s, act: s.freeze(node, act))
    history.world.happened["team frozen"] += 1
    later(history, history.rng.uniform(3, 30), lambda: history.do(lambda s, act: s.unfreeze(node, act)))


@fault
async def grant(history: History, _pod: Pod) -> None:
    """L10, L13: another grant, which may end soon; or one is voided."""
    rng, world = history.rng, history.world
    if not history.mix.wallet:
        return
    if rng.random() < (0.5 if history.mix.bites else 0.3):
        ((name,),) = world.book.rows(
            "SELECT account FROM accounts WHERE account LIKE 'grant:%' ORDER BY leased DESC, account LIMIT 1"
        )
        found = world.book.rows("SELECT grant_id FROM grants ORDER BY sequence")
        name = name.removeprefix("grant:") if history.mix.bites else rng.choice(found)[0]
        voided = GrantVoid(CUSTOMER, name, "a mistake")
        lent = world.book.rows("SELECT leased FROM accounts WHERE account = ?", f"grant:{voided.grant_id}")
        world.happened["grant voided while it was lent"] += bool(lent) and lent[0][0] > 0
        await history.act(lambda s, act: s.void_grant(voided, act))
        return
    ends_ms = world.ledger_clock.true_ms() + rng.randint(10, 120) * 1000
    new = NewGrant(CUSTOMER, usd(history.mix.limit // 4), expires_at_ms=rng.choice((None, ends_ms)))
    await history.act(lambda s, act: s.add_grant(new, act))
