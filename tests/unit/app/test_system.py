"""The machine's clock and randomness."""

from __future__ import annotations

import re
import time

from sidecar.app.system import RandomIds, SystemClock


def test_ids_are_fresh_and_well_formed() -> None:
    """L43: names never meet, across many batches of randomness."""
    ids = RandomIds()
    made = {ids.new("req") for _ in range(20_000)}
    assert len(made) == 20_000
    assert all(re.fullmatch(r"req_[0-9a-z]{26}", name) for name in made)


def test_every_letter_is_as_likely() -> None:
    """The alphabet has 32 letters, so that a byte's remainder favours none."""
    text = "".join(RandomIds().new("x")[2:] for _ in range(4000))
    counts = [text.count(letter) for letter in set(text)]
    assert len(counts) == 32
    assert max(counts) < 1.2 * min(counts)


def test_clocks() -> None:
    """One goes forward, the other is of this century."""
    clock = SystemClock()
    assert clock.monotonic() <= clock.monotonic()
    if hasattr(time, "CLOCK_BOOTTIME"):  # which counts the machine's sleep (L41)
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert before <= clock.monotonic() <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 1_700_000_000_000 < clock.wall_ms() < 4_102_444_800_000
