"""The laws can fail: each variant of the product that must not be breaks the law that it is against."""

from __future__ import annotations

import pytest

from tests.scenarios.history import directed, run, run_mutant
from tests.scenarios.mutants import MUTANTS

TRIES = 40
"""Histories in which a mutant must show itself."""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_found_by_its_law(name: str) -> None:
    """Within some histories of its kind, which the product as it is passes."""
    for seed in range(TRIES):
        broken = run_mutant(name, seed).broken
        if broken is not None:
            assert broken.law in MUTANTS[name].laws, broken
            assert run(seed, directed(name, seed)).broken is None
            return
    pytest.fail(f"{TRIES} histories found nothing wrong with {name}: {MUTANTS[name].why}")
