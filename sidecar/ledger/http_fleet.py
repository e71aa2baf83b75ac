"""The API's rows about sidecars: what they hold, and what the ledger waits for before it lends again."""

from __future__ import annotations

from sidecar.core.governance.rights import Reach, Right
from sidecar.ledger.administration import Administration, LeaseResolution, LossAcceptance
from sidecar.ledger.fleet_views import ExposureView, LearningView, LeaseView, SidecarView
from sidecar.ledger.http_fields import page_of, read_cursor, read_limit
from sidecar.ledger.http_routes import PAGE, Call, Route, get, post
from sidecar.ledger.views import Page, SilentLeaseView


def routes(administration: Administration) -> tuple[Route, ...]:
    """Rows of the one table; see `http_api`."""
    return _Fleet(administration).routes()


class _Fleet:
    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    def routes(self) -> tuple[Route, ...]:
        usage, platform, theirs = Right.USAGE, Right.PLATFORM, Reach.CUSTOMER
        return (
            get("/v1/leases/silent", usage, self._silent, SilentLeaseView, query=PAGE, listing=True, reach=theirs),
            get(
                "/v1/leases",
                usage,
                self._leases,
                LeaseView,
                query=PAGE | {"customer"},
                listing=True,
                reach=theirs,
            ),
            get(
                "/v1/customers/{customer}/exposure",
                usage,
                self._exposure,
                ExposureView,
                query=PAGE | {"node"},
                listing=True,
                reach=Reach.NODE,
            ),
            get("/v1/sidecars", platform, self._sidecars, SidecarView, query=PAGE, listing=True),
            post("/v1/leases/resolve", Right.CREDIT, self._resolve, LeaseResolution, LeaseView, reach=theirs),
            get("/v1/learning", platform, self._learning, LearningView),
            post("/v1/learning/accept-loss", platform, self._accept_loss, LossAcceptance, LearningView),
        )

    async def _silent(self, call: Call) -> object:
        return page_of(await self._administration.silent_leases(call.scope.customer), "lease_id", call)

    async def _leases(self, call: Call) -> object:
        return page_of(await self._administration.leases(call.query.get("customer", "")), "lease_id", call)

    async def _exposure(self, call: Call) -> object:
        own, limit = call.scope.node, read_limit(call)
        rows = await self._administration.exposure(
            call.parts["customer"],
            node=call.query.get("node", "") or ("" if own is None else str(own)),
            evenly=own is not None,
            after=read_cursor(call),
            limit=limit,
        )
        return Page(tuple(rows), rows[-1].account if len(rows) == limit else "")

    async def _sidecars(self, call: Call) -> object:
        return page_of(await self._administration.list_sidecars(), "sidecar", call)

    async def _resolve(self, call: Call) -> object:
        return await self._administration.resolve_lease(call.read(LeaseResolution), call.act)

    async def _learning(self, _call: Call) -> object:
        return await self._administration.learning()

    async def _accept_loss(self, call: Call) -> object:
        return await self._administration.accept_loss(call.read(LossAcceptance), call.act)
