"""What people do to what stands: freeze it, move it, end it. Each act is an entry with actor and reason."""

from __future__ import annotations

import msgspec

from sidecar.core.governance.tenancy import Node
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.ledger import ending, forms, freezing, moving
from sidecar.ledger.administration import Act, BudgetRemoval, GrantVoid, NodeAct, NodeMove
from sidecar.ledger.doing import Done, do, known, place
from sidecar.ledger.idempotency import Asked
from sidecar.ledger.journal import Journal
from sidecar.ledger.showing import Shower
from sidecar.ledger.views import BudgetView, FrozenView, GrantView, NodeView
from sidecar.ports import Transaction


class TreeActs:
    """The acts, each within one transaction on its customer's book."""

    def __init__(self, rates: RateBook) -> None:
        self._show = Shower(rates)

    async def freeze(self, tx: Transaction, wall_ms: int, form: NodeAct, act: Act) -> Done:
        """Let no call of a customer, node or user run."""
        customer, named = forms.owner(form.path, form.reason)

        async def effect(journal: Journal | None) -> FrozenView:
            journal = known(journal, customer)
            node = await _named(tx, customer, named)
            await freezing.freeze(journal, node, actor=act.actor, reason=form.reason)
            await journal.write()
            return await self._show.frozen(tx, customer, str(node or freezing.THE_CUSTOMER))

        return await do(tx, wall_ms, Asked(customer, "freeze", act, msgspec.structs.asdict(form)), effect, FrozenView)

    async def unfreeze(self, tx: Transaction, wall_ms: int, form: NodeAct, act: Act) -> Done:
        """Let its calls run again."""
        customer, named = forms.owner(form.path, form.reason)

        async def effect(journal: Journal | None) -> FrozenView:
            journal = known(journal, customer)
            node = await _named(tx, customer, named)
            await freezing.unfreeze(journal, node, actor=act.actor, reason=form.reason)
            await journal.write()
            return await self._show.frozen(tx, customer, str(node or freezing.THE_CUSTOMER))

        return await do(tx, wall_ms, Asked(customer, "unfreeze", act, msgspec.structs.asdict(form)), effect, FrozenView)

    async def move_node(self, tx: Transaction, wall_ms: int, form: NodeMove, act: Act) -> Done:
        """Put a node, with all below it, to another place of the tree."""
        customer, named, to = forms.move(form)

        async def effect(journal: Journal | None) -> list[NodeView]:
            journal = known(journal, customer)
            old, target = await place(tx, customer, named), await place(tx, customer, to)
            new = await moving.move(journal, self._show, old, target, actor=act.actor, reason=form.reason)
            await journal.write()
            return await self._show.nodes(tx, customer, below=new)

        asked = Asked(customer, "move_node", act, msgspec.structs.asdict(form))
        return await do(tx, wall_ms, asked, effect, list[NodeView])

    async def void_grant(self, tx: Transaction, wall_ms: int, form: GrantVoid, act: Act) -> Done:
        """Revoke what is left of a grant."""
        forms.about(form.customer, form.reason)

        async def effect(journal: Journal | None) -> GrantView:
            journal = known(journal, form.customer)
            await ending.void_grant(journal, form.grant_id, actor=act.actor, reason=form.reason)
            await journal.write()
            return (await self._show.grants(tx, form.customer, journal.now_ms, form.grant_id))[0]

        asked = Asked(form.customer, "void_grant", act, msgspec.structs.asdict(form))
        return await do(tx, wall_ms, asked, effect, GrantView)

    async def remove_budget(self, tx: Transaction, wall_ms: int, form: BudgetRemoval, act: Act) -> Done:
        """Limit by a budget no more."""
        forms.about(form.customer, form.reason)

        async def effect(journal: Journal | None) -> BudgetView:
            journal = known(journal, form.customer)
            view = await ending.remove_budget(journal, self._show, form.budget_id, actor=act.actor, reason=form.reason)
            await journal.write()
            return view

        asked = Asked(form.customer, "remove_budget", act, msgspec.structs.asdict(form))
        return await do(tx, wall_ms, asked, effect, BudgetView)


async def _named(tx: Transaction, customer: str, named: tuple[Node, ...]) -> Node | None:
    """The node that a path names, None for the customer itself; raises as `place`."""
    whole = await place(tx, customer, named)
    return whole[-1] if whole else None
