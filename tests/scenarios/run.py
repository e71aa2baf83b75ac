"""Runs histories by hand: `python -m tests.scenarios.run --seed N` shows one, `--seeds N` looks for one that fails."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.scenarios.coverage import table
from tests.scenarios.history import Outcome, mix_of, run, run_mutant
from tests.scenarios.mutants import MUTANTS


def main() -> int:
    """The command; exit code 1 where a law broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios.run", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the history to run, or the first of them")
    parser.add_argument("--seeds", type=int, default=1, help="how many; more than one are run without their traces")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="run a variant that a law must find")
    parser.add_argument("--bites", action="store_true", help="more of what otherwise seldom meets anything")
    parser.add_argument("--coverage", action="store_true", help="also print what happened in them, and how often")
    parser.add_argument("--last", type=int, default=200, help="lines of the trace to show, from its end")
    options = parser.parse_args()
    if options.seeds == 1:
        outcome = _run(options.seed, options)
        show(outcome, options.last)
        return int(outcome.broken is not None)
    began, failed = time.monotonic(), 0
    happened: list[Counter[str]] = []
    for seed in range(options.seed, options.seed + options.seeds):
        outcome = _run(seed, options)
        happened.append(outcome.history.world.happened)
        if outcome.broken is not None:
            failed += 1
            print(f"seed {seed}: {outcome.broken}", flush=True)
    print(f"{options.seeds} histories in {time.monotonic() - began:.0f} s, {failed} broke a law")
    if options.coverage:
        print(table(happened))
    return int(failed > 0)


def _run(seed: int, options: argparse.Namespace) -> Outcome:
    return run_mutant(options.mutant, seed) if options.mutant else run(seed, mix_of(seed, bites=options.bites))


def show(outcome: Outcome, last: int) -> None:
    """The trace, and what became of it."""
    world = outcome.history.world
    for at_s, who, what in list(world.trace)[-last:]:
        print(f"{at_s:9.3f}  {who:<9} {what}")
    print(f"\nseed {outcome.seed}: {outcome.history.mix}")
    print(f"{len(world.truth.made)} calls made, denied {dict(world.denials)}, {len(world.lives)} starts of sidecars")
    print(f"{world.book.commits} commits")
    if outcome.broken is None:
        print("every law held")
        return
    print(f"BROKEN {outcome.broken}")
    if outcome.broken.__cause__ is not None:
        traceback.print_exception(outcome.broken.__cause__)


if __name__ == "__main__":
    sys.exit(main())
