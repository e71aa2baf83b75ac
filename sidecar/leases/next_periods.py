"""Which leases' periods end soon, so that the next ones' are fetched before they begin (L41)."""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.leases.accounts import Lease
from sidecar.leases.options import KeeperOptions
from sidecar.leases.verdicts import Plan


def ending_soon(leases: Iterable[Lease], options: KeeperOptions, now: float, most: int) -> list[Plan]:
    """The plans in use, at most so many, a period of which ends within a few refreshes and was not asked ahead for.

    Each account of theirs is noted to be asked for at `now` (monotonic).
    """
    plans: dict[int, Plan] = {}
    for lease in leases:
        account = lease.account
        plan = account.plan
        is_near = now < lease.over_at <= now + options.ahead_refreshes * options.refresh_every_s
        asked = now - account.ahead_asked_at < options.refresh_every_s
        idle = now - lease.used_at >= options.idle_after_s
        if not is_near or asked or idle or plan is None or account.ahead is not None or account.lease is not lease:
            continue
        if len(plans) < most or id(plan) in plans:
            account.ahead_asked_at = now
            plans.setdefault(id(plan), plan)
    return list(plans.values())
