"""What can go wrong, one function each; and how it heals. Ids are those of `FAULTS.md`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from sidecar.core.pricing.rate_cards import RateBook
from sidecar.ledger.administration import GrantVoid, NewBudget, NewGrant, NodeAct, NodeMove
from tests.scenarios.machine import Volume
from tests.scenarios.pods import DEARER, RATES, Pod
from tests.scenarios.world import CUSTOMER, DEPARTMENTS
from tests.support.ledger import usd

if TYPE_CHECKING:
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
            pod.life.process.go_on()
        pod.start_if_down()
        later(history, 30.0, pod.start_if_down)  # one that was being stopped when it fell asleep
    await history.act(lambda s, act: s.unfreeze(NodeAct(f"{CUSTOMER}/team:data", "well again"), act))


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
        later(history, history.rng.choice((3, 30, 80)) * history.rng.uniform(0.5, 1.5), life.process.go_on)


@fault
async def sleep(history: History, pod: Pod) -> None:
    """F-36: its machine sleeps, and where it cannot tell the monotonic clock with it."""
    life, fell_asleep_s = pod.life, history.world.now_s
    if life is None or not life.is_running:
        return
    life.process.pause()

    def wake() -> None:
        if not pod.clock.counts_sleep:
            pod.clock.slept_s += history.world.now_s - fell_asleep_s

    life.process.on_resume = wake
    later(history, history.rng.uniform(5, 100), life.process.go_on)


@fault
async def set_clock(history: History, pod: Pod) -> None:
    """F-35: somebody sets its wall clock."""
    pod.clock.jump_ms = history.rng.choice((-86_400_000, -3_600_000, -20_000, 0, 20_000, 3_600_000, 86_400_000))


@fault
async def lose_volume(history: History, pod: Pod) -> None:
    """F-32: the pod is deleted, and its outbox with it; another takes its place, under another name."""
    pod.kill()
    history.world.lost_for_good(pod.volume)
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
    pod.volume.lose_power(history.rng)


@fault
async def tear(history: History, pod: Pod) -> None:
    """F-42, F-43: some bytes of its outbox are damaged while it is down."""
    pod.kill()
    history.world.not_to_be_trusted(pod.volume)
    pod.volume.tear(history.rng)
    later(history, history.rng.uniform(0.5, 20), pod.start_if_down)


@fault
async def twin(history: History, pod: Pod) -> None:
    """F-44: another sidecar is started on a copy of its volume, under the same name, while it runs on."""
    world = history.world
    if pod.life is None or len(world.pods) > MAX_PODS:
        return
    world.copied(pod.volume)
    other = world.add_pod(pod.volume.copy(*world.new_volume()))
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
    host.process.kill()
    later(history, history.rng.uniform(1, 60), host.start_if_down)


@fault
async def stall_ledger(history: History, _pod: Pod) -> None:
    """F-02: a ledger process stands still, and answers late."""
    host = history.rng.choice(history.world.ledgers)
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
    world.ledger_clock.jump_ms = history.rng.choice((-86_400_000, -200_000, -30_000, 0, 30_000, 200_000, 86_400_000))
    world.clock_error_ms = max(world.clock_error_ms, abs(world.ledger_clock.jump_ms))


@fault
async def put_back(history: History, _pod: Pod) -> None:
    """F-08, F-18: an earlier copy takes the book's place: by a failover that lost its end, or restored by a person."""
    world = history.world
    if not history.mix.loses_book:
        return
    copy = world.book.copy()
    lost_s, is_restored = history.rng.uniform(0.5, 40), history.rng.random() < 0.5

    def lose() -> None:
        for host in world.ledgers:
            host.process.kill()
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
    limit = limit * history.rng.choice((1, 5, 10, 15)) // 10
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
    to = history.rng.choice(DEPARTMENTS)
    node = NodeMove(f"{CUSTOMER}/team:data", f"{CUSTOMER}/department:{to}", "reorganised")
    await history.act(lambda s, act: s.move_node(node, act))


@fault
async def freeze(history: History, _pod: Pod) -> None:
    """L35: a team may not spend for a while."""
    node = NodeAct(f"{CUSTOMER}/team:data", "looking into it")
    await history.act(lambda s, act: s.freeze(node, act))
    later(history, history.rng.uniform(3, 30), lambda: history.do(lambda s, act: s.unfreeze(node, act)))


@fault
async def grant(history: History, _pod: Pod) -> None:
    """L10, L13: another grant, which may end soon; or one is voided."""
    rng, world = history.rng, history.world
    if not history.mix.wallet:
        return
    if rng.random() < 0.3:
        found = world.book.rows("SELECT grant_id FROM grants ORDER BY sequence")
        voided = GrantVoid(CUSTOMER, rng.choice(found)[0], "a mistake")
        await history.act(lambda s, act: s.void_grant(voided, act))
        return
    ends_ms = world.ledger_clock.true_ms() + rng.randint(10, 120) * 1000
    new = NewGrant(CUSTOMER, usd(history.mix.limit // 4), expires_at_ms=rng.choice((None, ends_ms)))
    await history.act(lambda s, act: s.add_grant(new, act))
