"""Sentences that tell a person why a call was denied and what to do, and nothing they did not ask."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from sidecar.core.credits.amounts import Currency, format_amount
from sidecar.core.governance.decisions import Consulted, Reason
from sidecar.core.governance.limits import Cadence

_PERIODS: Mapping[Cadence, str] = {
    Cadence.HOUR: " this hour",
    Cadence.DAY: " this day",
    Cadence.WEEK: " this week",
    Cadence.MONTH: " this month",
    Cadence.QUARTER: " this quarter",
    Cadence.YEAR: " this year",
    Cadence.ANNIVERSARY: " this month",
    Cadence.WINDOW: " in this window",
    Cadence.LIFETIME: "",
}


MONEY: Final = frozenset(
    {Reason.BUDGET_EXCEEDED, Reason.REQUEST_EXCEEDS_BUDGET, Reason.BUDGET_IN_FLIGHT, Reason.CREDITS_EXHAUSTED}
)
"""Reasons that `money_detail` has words for."""

RESET_SLACK_MS: Final = 100
"""By so much an instant may be past a whole second and still be told as that one."""

_PLAIN: Mapping[Reason, str] = {
    Reason.NO_LIMIT_APPLIES: (
        "Nothing limits this call: the customer has no wallet and no hard budget applies. Set a budget, or make the "
        "wallet `required`."
    ),
    Reason.LEDGER_UNAVAILABLE: "The ledger does not answer, and nothing lent to this sidecar covers the call.",
    Reason.OUTBOX_FULL: "The sidecar's disk is full or failing: what cannot be recorded may not run.",
    Reason.OVERLOADED: "The sidecar has too much to do; try again in a moment.",
    Reason.CUSTOMER_UNKNOWN: "The ledger does not know this customer, or a part of its path.",
    Reason.TOO_MANY_SUBJECTS: "Too many new users, agents or sessions of this customer within an hour.",
    Reason.DEBT_LIMIT: "The customer owes more than it may; a paid grant repays the debt first.",
}


def plain_detail(reason: Reason) -> str:
    """A sentence for a reason about which nothing more is known."""
    return _PLAIN.get(reason, f"This call may not run: {reason.value}.")


def money_detail(
    reason: Reason, binding: Consulted | None, ceiling_atoms: int, currency: Currency, *, affordable_tokens: int | None
) -> str:
    """Why money denies a call: what is left of which limit, what the call could cost, when that changes.

    Args:
        reason: one of the reasons for money.
        binding: the budget or grant that said no; None where no grant applies at all.
        ceiling_atoms: the most that the call could cost.
        currency: of both.
        affordable_tokens: the output limit with which the call would pass, where known and not 0.
    """
    cost = f"this call could cost up to {format_amount(ceiling_atoms, currency)}"
    if binding is None:
        return f"No credit of this customer covers the call; {cost} {currency.code}. Add a grant."
    limit = format_amount(binding.limit, currency)
    if binding.kind == "grant":
        left = "no" if not binding.remaining else format_amount(binding.remaining, currency)
        sentence = f"{binding.owner} has {left} {currency.code} of credit left, {cost}"
    elif reason is Reason.REQUEST_EXCEEDS_BUDGET:
        sentence = (
            f"{_name(binding)}: {cost}, more than its whole limit of {limit} {currency.code}{_PERIODS[binding.cadence]}"
        )
    else:
        left = "an unknown part" if binding.remaining is None else format_amount(binding.remaining, currency)
        sentence = f"{_name(binding)}: {left} of {limit} {currency.code} is left{_PERIODS[binding.cadence]}, {cost}"
    if reason is Reason.BUDGET_IN_FLIGHT:
        return f"{sentence}; calls under way hold the rest, so try again in a moment."
    if binding.resets_in_ms is not None and reason is not Reason.REQUEST_EXCEEDS_BUDGET:
        sentence += f"; resets in {duration(binding.resets_in_ms)}"
    if affordable_tokens:
        sentence += f". With an output limit of {affordable_tokens} tokens it would pass"
    return sentence + "."


def duration(ms: int) -> str:
    """A duration in its two largest units: `3 h 12 min`, `16 d 2 h`, `45 s`; rounded up to the smaller one."""
    seconds = -(-max(0, ms) // 1000)
    if seconds < 60:
        return f"{seconds} s"
    minutes = -(-seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return _two(minutes, 60, "h", "min")
    return _two(-(-minutes // 60), 24, "d", "h")


def _two(count: int, per: int, large: str, small: str) -> str:
    whole, rest = divmod(count, per)
    return f"{whole} {large} {rest} {small}" if rest else f"{whole} {large}"


def resets_at(now_ms: int, resets_in_ms: int) -> str:
    """When a limit starts anew: ISO 8601, UTC, to the second, rounded up but for RESET_SLACK_MS.

    Periods end on whole seconds, and the wait is counted on a clock that is not the wall's: rounded up alone, one and
    the same end would be told now as midnight and now as a second past it (L34).

    Args:
        now_ms: the wall clock (Unix ms).
        resets_in_ms: how long until then.
    """
    seconds = -(-(now_ms + resets_in_ms - RESET_SLACK_MS) // 1000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _name(binding: Consulted) -> str:
    child = f" for {binding.child}" if binding.child else ""
    return f"Budget {binding.owner}{child}"
