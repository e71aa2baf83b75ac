"""What people may ask of the ledger about its sidecars: a part of `administration.Administration`."""

from __future__ import annotations

from typing import Protocol

from sidecar.ledger.fleet_views import ExposureView, SidecarView


class FleetAdministration(Protocol):
    """Who holds what, as the book has it."""

    async def list_sidecars(self) -> list[SidecarView]:
        """The sidecars that were heard in the last day, and all that hold anything, by name."""
        ...

    async def exposure(
        self, customer: str, *, node: str = "", evenly: bool = False, after: str = "", limit: int = 100
    ) -> list[ExposureView]:
        """What can be spent of a customer without asking the ledger, and by whom, by account (L48).

        `node`, `kind:id`: of the budgets of that node and of those below it; `` of all, and of grants.
        `evenly`: a node that does not exist is one of which nothing is out: for who may not know which there are.

        Raises:
            NotFound: there is no such customer, or no such node.
        """
        ...
