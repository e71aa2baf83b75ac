"""The figure of `make bench-refusals`: what cannot be told apart, and what can, is called so."""

from __future__ import annotations

import random

from tests.benchmarks.refusals import result_of


def test_the_same_cannot_be_told_apart_and_a_small_difference_can() -> None:
    """Of times that scatter by half, a tenth is found with a thousand samples of each; none is not."""
    chance = random.Random(34)

    def times(middle: float) -> list[float]:
        return [chance.lognormvariate(0, 0.4) * middle for _ in range(1000)]

    assert not result_of(times(500), times(500)).is_told
    slower = result_of(times(550), times(500))
    assert slower.is_told
    assert slower.share > 0.5
    assert result_of([2.0], [1.0]).share == 1.0
    assert result_of([1.0], [2.0]).share == 0.0
