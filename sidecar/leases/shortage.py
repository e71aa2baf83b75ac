"""Whether being short means no, and which no: from what is free here and what the book last said."""

from __future__ import annotations

from sidecar.core.governance.decisions import PRECEDENCE, Consulted, Reason
from sidecar.leases.accounts import NEVER, Account
from sidecar.leases.standings import Known
from sidecar.leases.verdicts import Plan, Short, Uncovered


def judge(short: Short, known: Known, *, now: float, believed_since: float, changed_at: float) -> Uncovered | None:
    """A denial, if the figures prove that asking again could not help; None: ask the ledger.

    An account is proven short if what is free on our lease and what the ledger could still lend,
    by a reading taken since `believed_since` and asked for after `changed_at` (both monotonic),
    are together less than the call needs.
    """
    plan, atoms = short.plan, short.atoms

    def is_believed(account: Account) -> bool:
        return account.read_at >= believed_since and account.read_sent_at >= changed_at

    found: list[tuple[Reason, Consulted | None]] = []
    consulted = plan.consulted(now)
    for (budget, account), told in zip(plan.budgets, consulted, strict=False):
        if budget.hard and is_believed(account) and _within_reach(account, now) < atoms:
            found.append((_reason(account.limit, account.settled(), atoms), told))
    if plan.wallet and known.asked_at >= changed_at and all(map(is_believed, plan.grants)):
        # Without any grant it is the standing's own age that counts.
        recent = bool(plan.grants) or known.asked_at >= believed_since
        if recent and sum(_within_reach(account, now) for account in plan.grants) < atoms:
            found.append(_credit(plan, consulted[len(plan.budgets) :], atoms))
    if not found:
        return None
    reason, binding = min(found, key=lambda each: PRECEDENCE[each[0]])  # of equals the outermost
    return Uncovered(
        reason,
        binding=binding,
        consulted=consulted,
        standing=known.standing,
        standing_age_ms=known.age_ms(now),
        affordable_atoms=_affordable(plan, now),
    )


def crowded(short: Short | None, known: Known | None, *, now: float, changed_at: float) -> Uncovered:
    """Why there is nothing for a call whose questions were answered, and whose answers served others.

    By the last figures they have all of it; or there is more, and they come faster than it is lent.
    """
    if short is not None and known is not None:
        found = judge(short, known, now=now, believed_since=-NEVER, changed_at=changed_at)
        if found is not None:
            return found
    return Uncovered(
        Reason.OVERLOADED,
        detail="too many calls want the same credit at once",
        standing=None if known is None else known.standing,
        standing_age_ms=None if known is None else known.age_ms(now),
        retry_after_ms=1000,
    )


def _within_reach(account: Account, now: float) -> int:
    """What our lease on an account can be made to bear: what it lacks already is lent first, if it is at all."""
    return max(0, account.free(now) + account.unlent - account.unbooked_excess())


def _reason(limit: int, settled: int, atoms: int) -> Reason:
    if atoms > limit:
        return Reason.REQUEST_EXCEEDS_BUDGET
    if settled + atoms <= limit:  # what is spent would leave room: only open holds, here or elsewhere, do not
        return Reason.BUDGET_IN_FLIGHT
    return Reason.BUDGET_EXCEEDED


def _credit(plan: Plan, facts: tuple[Consulted, ...], atoms: int) -> tuple[Reason, Consulted | None]:
    """The grants together, as one: no single one of them is what is short."""
    if not facts:
        return Reason.CREDITS_EXHAUSTED, None
    limit, used, held, elsewhere = (
        sum(getattr(fact, name) or 0 for fact in facts) for name in ("limit", "used", "held", "elsewhere")
    )
    binding = Consulted(
        "grant",
        facts[0].id if len(facts) == 1 else "",
        plan.standing.customer,
        plan.standing.currency,
        limit,
        used=used,
        held=held,
        elsewhere=elsewhere,
        remaining=max(0, limit - used - held - elsewhere),
    )
    return (Reason.BUDGET_IN_FLIGHT if used + atoms <= limit else Reason.CREDITS_EXHAUSTED), binding


def _affordable(plan: Plan, now: float) -> int | None:
    """The largest ceiling that would have passed by these figures; None where one was never read."""
    reaches: list[int] = []
    for account in (*plan.hard, *plan.grants):
        if account.read_at == -NEVER:
            return None
    reaches.extend(_within_reach(account, now) for account in plan.hard)
    if plan.wallet:
        reaches.append(sum(_within_reach(account, now) for account in plan.grants))
    return min(reaches, default=None)
