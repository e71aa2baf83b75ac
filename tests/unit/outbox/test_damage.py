"""An outbox damaged in random ways: nothing whole is lost, and no spending power is gained (L46, L49, F-42, F-43).

What no reader can see is left out, and is what only a mark beside the files could tell: that the last file ends at the
end of an earlier record, or is gone. A process that is killed leaves no such file.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from sidecar.outbox.frames import MAGIC, scan
from sidecar.outbox.records import Settled, read_record
from sidecar.outbox.recovery import open_spool
from sidecar.outbox.segments import segment_numbers, segment_path
from sidecar.outbox.spool import SpoolOptions
from tests.scenarios.world import scratch
from tests.support.calls import admission, event
from tests.support.clock import FakeClock
from tests.support.scripted_ledger import AccountBook, CustomerBook, Lent, ScriptedLedger

LEASE: Final = "i1/budget:b:lifetime:"
GRANTED: Final = 100_000
OPTIONS: Final = SpoolOptions(ballast_bytes=0, segment_bytes=4_000)
HISTORIES: Final = 300

Damage = Callable[[list[Path], random.Random], None]


def flip(files: list[Path], rng: random.Random) -> None:
    """Some bits are others."""
    path = rng.choice(files)
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut_short(files: list[Path], rng: random.Random) -> None:
    """A file ends within a record."""
    path = rng.choice(files)
    data = path.read_bytes()
    ends = {0} | {span.end for span in scan(data)}
    path.write_bytes(data[: rng.choice([at for at in range(len(data)) if at not in ends])])


def zero(files: list[Path], rng: random.Random) -> None:
    """Some of it is zeros, as a file system leaves them."""
    path = rng.choice(files)
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    end = min(len(data), at + rng.randint(1, 600))
    data[at:end] = bytes(end - at)
    path.write_bytes(data)


def repeat(files: list[Path], rng: random.Random) -> None:
    """A stretch stands there twice."""
    path = rng.choice(files)
    data = path.read_bytes()
    at, end = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    path.write_bytes(data[:end] + data[at:end] + data[end:])


def put_garbage_in(files: list[Path], rng: random.Random) -> None:
    """Bytes of nobody's, with the marks of frames among them."""
    path = rng.choice(files)
    data, at = path.read_bytes(), rng.randrange(path.stat().st_size)
    path.write_bytes(data[:at] + rng.randbytes(rng.randint(1, 40)) + MAGIC + rng.randbytes(12) + data[at:])


def swap(files: list[Path], rng: random.Random) -> None:
    """Two files have each other's name."""
    one, other = rng.sample(files, 2)
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def swap_contents(files: list[Path], rng: random.Random) -> None:
    """Two files have each other's contents."""
    one, other = rng.sample(files, 2)
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)


def take_anothers_header(files: list[Path], rng: random.Random) -> None:
    """A file begins as another does."""
    one, other = rng.sample(files, 2)
    data, theirs = one.read_bytes(), other.read_bytes()
    one.write_bytes(theirs[: scan(theirs)[0].end] + data[scan(data)[0].end :])


def lose_one_from_among(files: list[Path], rng: random.Random) -> None:
    """A file from between others is gone."""
    rng.choice(files[1:-1]).unlink()


def lose_the_first(files: list[Path], rng: random.Random) -> None:
    """The file that all began with is gone, and nothing of it was acknowledged."""
    files[0].unlink()


DAMAGES: Final = (
    flip, cut_short, zero, repeat, put_garbage_in, swap, swap_contents, take_anothers_header, lose_one_from_among,
    lose_the_first,
)  # fmt: skip


def life(directory: Path, rng: random.Random) -> int:
    """Some calls, of which some stay open; gives what the lease has to bear."""
    spool = open_spool(directory, FakeClock(), OPTIONS, sidecar="s", incarnation="i1").spool
    spool.note_lease("acme", LEASE, GRANTED, 0)
    spent = 0
    for number in range(rng.randint(16, 40)):
        held = rng.randint(1, 900)
        call = admission(f"r{number}", held, budgets=(LEASE,))
        spool.admit(call)
        if rng.random() < 0.85:
            charge = rng.randint(0, held)
            spool.settle(event(call, charge))
            spent += charge
        else:
            spent += held
    spool._lock.release()
    return spent


def settled(directory: Path) -> dict[str, bytes]:
    """The calls whose settlement a reader finds, each with its frame."""
    found: dict[str, bytes] = {}
    for number in segment_numbers(directory):
        data = segment_path(directory, number).read_bytes()
        for span in scan(data):
            record = None if span.payload is None else read_record(span.payload)
            if isinstance(record, Settled):
                found[record.brief.admission.request_id] = data[span.start : span.end]
    return found


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
async def test_nothing_whole_is_lost_and_no_spending_power_gained(damage: Damage) -> None:
    """L46, L49, F-42, F-43: whole records are read, each admission found is settled, and a doubtful lease stays out."""
    for seed in range(HISTORIES // len(DAMAGES)):
        rng = random.Random(f"{damage.__name__} {seed}")
        with scratch() as name:
            directory = Path(name)
            spent = life(directory, rng)
            before = settled(directory)
            files = [segment_path(directory, number) for number in segment_numbers(directory)]
            for _ in range(rng.randint(1, 3) if damage in (flip, zero, repeat, put_garbage_in) else 1):
                damage(files, rng)
            left = b"".join(path.read_bytes() for path in files if path.exists())
            whole = {request for request, found in before.items() if found in left}

            recovery = open_spool(directory, FakeClock(), OPTIONS, sidecar="s", incarnation="i2")
            assert whole <= settled(directory).keys(), seed
            ledger = ScriptedLedger(FakeClock())
            account = AccountBook(10 * GRANTED, leases={LEASE: Lent(GRANTED)})
            ledger.customers["acme"] = CustomerBook(accounts={LEASE.partition("/")[2]: account})
            assert await recovery.close_leases(ledger, all_booked=lambda _incarnation: False)
            lent = account.leases[LEASE]
            assert lent.returned <= GRANTED - spent, seed
            recovery.spool.close()


async def test_an_undamaged_one_is_closed_to_the_atom() -> None:
    """L46: the same without damage: so the above does not pass because nothing is ever closed."""
    for seed in range(10):
        with scratch() as name:
            spent = life(Path(name), random.Random(f"whole {seed}"))
            recovery = open_spool(Path(name), FakeClock(), OPTIONS, sidecar="s", incarnation="i2")
            ledger = ScriptedLedger(FakeClock())
            account = AccountBook(10 * GRANTED, leases={LEASE: Lent(GRANTED)})
            ledger.customers["acme"] = CustomerBook(accounts={LEASE.partition("/")[2]: account})
            assert await recovery.close_leases(ledger, all_booked=lambda _incarnation: False)
            assert account.leases[LEASE].returned == GRANTED - spent
            recovery.spool.close()
