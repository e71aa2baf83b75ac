"""Holding a request, and its answer, against where its token reaches.

A token of a customer, or of a node, asks for its own: what lies elsewhere does not exist for it, and
is refused in the words for what does not exist (S-34). Rows are looked at once more on their way
out, so that a handler that forgot to ask shows nothing (S-31): a row that does not say whose it is
is shown only to whoever reaches everywhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from sidecar.core.governance.decisions import Consulted
from sidecar.core.governance.rights import RIGHTS, Reach, Right, Role, Scope
from sidecar.core.governance.tenancy import Node, parse_path
from sidecar.errors import NotFound, Rejected
from sidecar.ledger.http_problems import RequestRefused
from sidecar.ledger.http_routes import Route
from sidecar.ledger.views import BalanceView, ExplainView, NodeView, Page, SumView, UsageView

Nodes = Callable[[str], Awaitable[Sequence[NodeView]]]
"""All nodes of a customer."""

ABOVE: Final = "A limit or the credit above this node may have stood in the way; who is of the customer sees which."
"""What is said of a denial to who may not see all that was consulted."""

_DEPTH: Final = {Reach.LEDGER: 0, Reach.CUSTOMER: 1, Reach.NODE: 2}


def check_reach(route: Route, scope: Scope) -> None:
    """Refuse a token whose reach is too short for a route.

    Raises:
        RequestRefused: `forbidden`.
    """
    if route.right is not Right.ANY and _DEPTH[scope.reach] > _DEPTH[route.reach]:
        raise RequestRefused("forbidden", f"this token is of one {scope.reach.value}; this needs a {route.reach.value}")


def own_query(route: Route, query: dict[str, str], scope: Scope) -> dict[str, str]:
    """A query, asking for the token's own customer where it names none."""
    if scope.customer and "customer" in route.query and not query.get("customer"):
        return query | {"customer": scope.customer}
    return query


async def check_named(
    scope: Scope, parts: dict[str, str], query: dict[str, str], form: msgspec.Struct | None, nodes: Nodes
) -> None:
    """Refuse what names another's.

    Args:
        scope: where the token reaches.
        parts: of the path.
        query: the parameters.
        form: the body.
        nodes: the tree, asked for only if a node must be placed.

    Raises:
        NotFound: a customer or a node that is not this token's, in the words for one that does not exist.
        Rejected: a path that is none.
    """
    if not scope.customer:
        return
    named = [parts.get("customer"), query.get("customer"), getattr(form, "customer", None)]
    path = getattr(form, "path", None)
    if path is not None:
        named.append(path.partition("/")[0])
    for customer in named:
        if customer is not None and customer != scope.customer:
            raise NotFound("customer", customer)
    if scope.node is None:
        return
    if form is not None and path is None:
        raise RequestRefused("forbidden", "this token is of a node, and this is of a whole customer")
    if path is not None and str(scope.node) not in await _whole(path, nodes):
        raise NotFound("node", path)


async def _whole(path: str, nodes: Nodes) -> tuple[str, ...]:
    """Every node that a path's last one is at or below, also those that it leaves out; none for a contradiction.

    A user that has no place in the tree is below nothing, whatever the path says: naming a team
    before it must not give power over somebody else's user.
    """
    customer, _, rest = path.partition("/")
    try:
        named = parse_path(rest)
    except ValueError as problem:
        raise Rejected("invalid_path", {"path": str(problem)}) from None
    there = {Node(view.kind, view.id): tuple(view.path.split("/")[1:]) for view in await nodes(customer)}
    if named and named[-1].kind == "user" and named[-1] not in there:
        return (str(named[-1]),)
    for place in range(len(named) - 1, -1, -1):
        above = there.get(named[place])
        if above is not None:
            stated = {str(node) for node in named[:place]}
            return (*above, *map(str, named[place + 1 :])) if stated <= set(above) else ()
    return ()


def within(answer: object, scope: Scope, role: Role) -> object:
    """As much of an answer as its asker may see.

    Raises:
        NotFound: none of it.
    """
    if isinstance(answer, ExplainView) and (Right.JOURNAL not in RIGHTS[role] or scope.node is not None):
        answer = msgspec.structs.replace(answer, entry=None)  # it books others' calls as well
    if isinstance(answer, ExplainView) and scope.node is not None:
        answer = _from_node(answer, scope.node)
    if not scope.customer:
        return answer
    if isinstance(answer, Page):
        return Page(tuple(row for row in answer.rows if _is_of(row, scope)), answer.next_cursor)
    if isinstance(answer, BalanceView) and scope.node is not None and answer.customer == scope.customer:
        budgets = tuple(budget for budget in answer.budgets if _is_of(budget, scope))
        # Credit is the customer's: what a node may spend of it, its budgets say.
        nothing = dict.fromkeys(("available", "leased", "consumed", "debt", "grants"), ())
        return msgspec.structs.replace(answer, budgets=budgets, **nothing)
    if not _is_of(answer, scope):
        raise NotFound(*_name(answer))
    return answer


def _from_node(call: ExplainView, node: Node) -> ExplainView:
    """A call as who is of a node sees it: without the figures of budgets above that, and of the credit."""
    nodes = _nodes_of(call)
    seen = nodes[nodes.index(str(node)) :] if str(node) in nodes else ()

    def theirs(consulted: tuple[Consulted, ...]) -> tuple[Consulted, ...]:
        return tuple(one for one in consulted if one.kind == "budget" and one.owner.partition("/")[2] in seen)

    consulted, decision = theirs(call.consulted), call.decision
    if decision is not None:
        told = decision.told()
        decision = msgspec.structs.replace(told, consulted=theirs(told.consulted))
    ids = {f"budget:{one.id}:" for one in (*consulted, *(decision.consulted if decision is not None else ()))}
    legs = tuple(leg for leg in call.legs if leg.account.startswith(tuple(ids)))
    # The words of a denial name the limit that stood in its way, which may be one of those left out.
    detail = call.detail if len(consulted) == len(call.consulted) else ABOVE if call.detail else ""
    return msgspec.structs.replace(call, decision=decision, consulted=consulted, legs=legs, detail=detail)


def _is_of(row: object, scope: Scope) -> bool:
    if isinstance(row, SumView):
        return True  # it does not say whose it is: the ledger was asked for the token's own alone
    customer = getattr(row, "customer", None)
    if customer is None:
        return False
    return scope.holds(customer, _nodes_of(row))


def _nodes_of(row: object) -> tuple[str, ...]:
    """The nodes that a row says it is of."""
    path, user = getattr(row, "path", ""), ""
    if isinstance(row, UsageView):
        user = row.user
    elif isinstance(row, ExplainView):
        path, user = row.subject.get("path", ""), row.subject.get("user", "")
    nodes = path.split("/")[1:]
    return (*nodes, f"user:{user}") if user else tuple(nodes)


def _name(answer: object) -> tuple[str, str]:
    """What a 404 calls an answer."""
    if isinstance(answer, ExplainView):
        return "request", answer.request_id
    return "customer", getattr(answer, "customer", "")
