"""Variants of the product that must not be: each is a thought that looks harmless, and a way to lose money.

They are patched in for one history and stand nowhere in the product. Each names the laws that may find it, and
what a history must be made of for it to matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.scenarios import spoilt


@dataclass(frozen=True)
class Mutant:
    """One variant: what to patch, which laws find it, and by which faults."""

    patches: Callable[[], list[Any]]
    laws: frozenset[str]
    faults: dict[str, int]
    why: str

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The product is so while the block runs."""
        with ExitStack() as stack:
            for one in self.patches():
                stack.enter_context(one)
            yield


MUTANTS = {
    "refund_at_expiry": Mutant(
        spoilt.refund_at_expiry,
        frozenset({"L48", "L0"}),
        {"cut_off": 3, "pause": 1},
        "a lease that has run out is free again: its holder may have spent it, and has not said so",
    ),
    "absolute_totals": Mutant(
        spoilt.absolute_totals,
        frozenset({"L42", "L48", "L0"}),
        {"storm": 1},
        "a message says how a lease stands, and the last one to arrive is right",
    ),
    "counter_identities": Mutant(
        spoilt.counter_identities,
        frozenset({"L48", "L42", "L0", "L29"}),
        {"twin": 2, "crash": 1},
        "a start is known by its number: on a copy of a volume another has the same",
    ),
    "crash_at_zero": Mutant(
        spoilt.crash_at_zero,
        frozenset({"book", "L48"}),
        {"crash": 1},
        "a call whose end nobody saw has cost nothing",
    ),
    "closing_from_a_copy": Mutant(
        spoilt.closing_from_a_copy,
        frozenset({"L48", "L42", "L0"}),
        {"twin": 1},
        "whoever has the files may close the leases: also while the one who wrote them runs on",
    ),
    "closing_after_a_power_loss": Mutant(
        spoilt.closing_after_a_power_loss,
        frozenset({"L48", "L0"}),
        {"lose_power": 1, "fail_sync": 1},
        "the files are trusted although their end was lost: what it told of is given back unspent",
    ),
    "take_before_check": Mutant(
        spoilt.take_before_check,
        frozenset({"L21"}),
        {},
        "a denial has taken from those leases that came before the one that was short",
    ),
    "learning_of_one_round": Mutant(
        spoilt.learning_of_one_round,
        frozenset({"L0"}),
        {"put_back": 3, "cut_off": 2, "pause": 1},
        "after a loss the ledger lends again once somebody has told what it knows",
    ),
    "machines_stamps": Mutant(
        spoilt.machines_stamps,
        frozenset({"L37"}),
        {"set_clock": 3, "cut_off": 2},
        "a call is stamped by its machine's clock: set between a call and its report, it moves the call to another day",
    ),
    "todays_prices": Mutant(
        spoilt.todays_prices,
        frozenset({"book", "L48"}),
        {"publish": 1},
        "a call is charged by the catalog in force when it ends: also by one that was rolled back meanwhile",
    ),
    "nameless_files": Mutant(
        spoilt.nameless_files,
        frozenset({"L49"}),
        {"lose_power": 1},
        "a file that was synced is safe: until its folder is too, its name may be lost, and it with that",
    ),
    "grace_for_each": Mutant(
        spoilt.grace_for_each,
        frozenset({"L47", "L39"}),
        {"cut_off": 1},
        "each sidecar may spend a budget's overdraft by itself: as many times as there are sidecars, and starts",
    ),
    "outliving_the_period": Mutant(
        spoilt.outliving_the_period,
        frozenset({"L37"}),
        {"cut_off": 1},
        "a lease lasts as long as any other, although its hour ends sooner",
    ),
    "returning_what_is_held": Mutant(
        spoilt.returning_what_is_held,
        frozenset({"L42", "L48", "L0"}),
        {"change_limit": 1, "deploy": 1},
        "what goes back includes what open calls hold: they will spend it after it was lent to others",
    ),
    "escrow_of_what_is_posted": Mutant(
        spoilt.escrow_of_what_is_posted,
        frozenset({"L6", "L9"}),
        {},
        "what is kept aside for a lease is not lessened by what was booked on it: it counts twice",
    ),
    "holder_knows_what_was_granted": Mutant(
        spoilt.holder_knows_what_was_granted,
        frozenset({"L42", "L48", "L0"}),
        {"storm": 1},
        "a holder that reports less than was granted will never hear of the rest: the answer may be on its way",
    ),
    "answered_before_the_commit": Mutant(
        spoilt.answered_before_the_commit,
        frozenset({"L42", "L48", "L49", "L0"}),
        {"stumble": 1},
        "what was worked out is told before it is committed, and then the commit fails",
    ),
    "refilled_overdraft": Mutant(
        spoilt.refilled_overdraft,
        frozenset({"L47", "L39"}),
        {"cut_off": 2, "crash": 1},
        "an overdraft is full again for whoever comes back: as often as there are outages",
    ),
    "next_period_at_once": Mutant(
        spoilt.next_period_at_once,
        frozenset({"L37"}),
        {},
        "what was lent for the next hour is spent in this one",
    ),
    "outliving_the_grant": Mutant(
        spoilt.outliving_the_grant,
        frozenset({"L37"}),
        {"grant": 2, "cut_off": 1},
        "a lease on a grant lasts as long as any other, although the grant ends sooner",
    ),
    "nobody_awaited": Mutant(
        spoilt.nobody_awaited,
        frozenset({"L0", "L48"}),
        {"put_back": 3, "cut_off": 2, "pause": 1},
        "after a loss the ledger lends at once, by what it still knows",
    ),
    "unwritten_admissions": Mutant(
        spoilt.unwritten_admissions,
        frozenset({"L49", "L48"}),
        {"crash": 1},
        "a call is recorded when it ends: of one that its process did not outlive nobody knows",
    ),
    "one_for_all": Mutant(
        spoilt.one_for_all,
        frozenset({"L0", "L48"}),
        {},
        "a call that fits the first budget fits the others",
    ),
    "lending_by_the_old_limit": Mutant(
        spoilt.lending_by_the_old_limit,
        frozenset({"L39"}),
        {"change_limit": 1},
        "what is available in an account is lent, although its limit has been lowered since",
    ),
}
