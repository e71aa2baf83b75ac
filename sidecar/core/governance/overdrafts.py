"""What a hard budget may spend beyond its limit while the ledger is away (L47).

A budget with `on_outage: grace` has an overdraft: an account of its own in each of its periods, of
`grace_atoms`, shared by all its children. It behaves as a budget's account does, so it is one: of a budget
that is made from the first and stands in no list. Sidecars are lent its shares beforehand, and each may spend
its own when nobody answers. So an outage costs at most the overdraft, however many sidecars, restarts and
outages there are; and what was spent of it counts in the budget itself too, as everything does (L31).
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.governance.budgets import Budget, Each, OnOutage, budget_id_of

SUFFIX: Final = "+grace"
"""What the id of an overdraft has behind its budget's; no id of a budget has a `+` in it."""

GRACE: Final = "grace"
"""The flag of a call that ran on an overdraft."""


def overdraft_of(budget: Budget) -> Budget | None:
    """A budget's overdraft, as the budget it behaves as; None where there is none."""
    if budget.on_outage is not OnOutage.GRACE or not budget.grace_atoms or not budget.hard:
        return None
    return msgspec.structs.replace(
        budget,
        budget_id=budget.budget_id + SUFFIX,
        limit_atoms=budget.grace_atoms,
        each=Each.NONE,
        on_outage=OnOutage.DENY,
        grace_atoms=0,
        thresholds_percent=(),
    )


def is_overdraft(budget_id: str) -> bool:
    """Whether an id is an overdraft's."""
    return budget_id.endswith(SUFFIX)


def is_overdraft_account(account: str) -> bool:
    """Whether an account is of an overdraft."""
    return account.startswith("budget:") and is_overdraft(budget_id_of(account))


def owning_id(budget_id: str) -> str:
    """The id of the budget that an overdraft is of; any other budget's is its own."""
    return budget_id.removesuffix(SUFFIX)
