"""Puts /spend/v1/ together: decisions of the past are found here, and then in the book if it is in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from sidecar.app.explaining import explain_recent, with_expected
from sidecar.core.credits.amounts import Currency
from sidecar.errors import NotFound
from sidecar.ledger.views import ExplainView
from sidecar.proxy.expectations import Expectations
from sidecar.proxy.local_api_types import Amount
from sidecar.proxy.local_api_usage import Past, PastDecisions
from sidecar.proxy.recent import RecentDecisions

Explain = Callable[[str], Awaitable[ExplainView]]
"""The ledger's word on a settled call; raises NotFound, LedgerUnavailable."""


def past_decisions(
    recent: RecentDecisions,
    currencies: Mapping[str, Currency],
    explain: Explain | None,
    settle_up: Callable[[], Awaitable[None]],
    expected: Expectations,
) -> PastDecisions:
    """Finds decisions.

    Args:
        recent: what is remembered here.
        currencies: by code.
        explain: asked for what is not; None: only what is remembered here is found.
        settle_up: brings what was settled until now into the book.
        expected: what calls were learned to cost.
    """

    async def find(request_id: str) -> Past | None:
        view = explain_recent(request_id, recent, currencies)
        if view is None and explain is not None:
            await settle_up()
            try:
                view = await explain(request_id)
            except NotFound:
                return None
        return None if view is None else _past(with_expected(view, expected, currencies))

    return find


def _past(view: ExplainView) -> Past:
    charge, view = view.charge, msgspec.structs.replace(view, entry=None)  # which books others' calls as well
    return Past(
        view,
        view.customer,
        b"" if view.usage is None else view.usage.raw,
        None if charge is None else Amount(charge.currency, charge.atoms, charge.scale, charge.text),
        view.consulted if view.decision is None else view.decision.told().consulted,
        view.subject,
    )
