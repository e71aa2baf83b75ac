"""Budgets over HTTP: a change says which version it changes, and nobody raises what was set above them."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

from sidecar.errors import NotFound
from sidecar.ledger.administration import Administration, NewBudget
from sidecar.ledger.conditions import Condition
from sidecar.ledger.http_problems import RequestRefused
from sidecar.ledger.http_routes import Answer, Call
from sidecar.ledger.views import BudgetView

_ETAG: Final = re.compile(r'"([1-9][0-9]{0,15})"', re.ASCII)


async def set_budget(administration: Administration, call: Call) -> Answer:
    """Set a budget; 428 where it would change one without saying which version, 412 where that is not the version."""
    form = call.read(NewBudget)
    condition = read_condition(call)
    if call.scope.node is not None:
        await _check_below(administration, form, call)
    view = await administration.set_budget(form, call.act, condition)
    return Answer(view, {"ETag": etag(view)})


async def set_guardrail(administration: Administration, call: Call) -> Answer:
    """Set a further limit that only tightens (L36): of the token's own node too, and without a version to say."""
    form = msgspec.structs.replace(call.read(NewBudget), guardrail=True)
    view = await administration.set_budget(form, call.act)
    return Answer(view, {"ETag": etag(view)})


async def budget(administration: Administration, call: Call) -> Answer:
    """One budget.

    Raises:
        NotFound: the customer has none of this id.
    """
    wanted = call.parts["budget_id"]
    for view in await administration.budgets(call.parts["customer"]):
        if view.budget_id == wanted:
            if not call.scope.holds(view.customer, tuple(view.path.split("/")[1:])):
                break
            return Answer(view, {"ETag": etag(view)})
    raise NotFound("budget", wanted)


def etag(view: BudgetView) -> str:
    """The version of a budget as it was set. What it has used meanwhile is not part of it."""
    return f'"{view.version}"'


def read_condition(call: Call) -> Condition:
    """What a request's If-Match or If-None-Match asks for.

    Raises:
        RequestRefused: neither `*` nor an ETag as it was given (`invalid_parameter`).
    """
    match, none_match = call.headers.get("if-match"), call.headers.get("if-none-match")
    if none_match is not None:
        if none_match != "*" or match is not None:
            expected = "expected * and no If-Match"
            raise RequestRefused(
                "invalid_parameter", f"If-None-Match: {expected}", problems={"If-None-Match": expected}
            )
        return Condition(absent=True)
    if match is None:
        return Condition(told=True)
    if match == "*":
        return Condition(version=0)
    found = _ETAG.fullmatch(match)
    if found is None:
        expected = 'expected * or an ETag as it was given, such as "3"'
        raise RequestRefused("invalid_parameter", f"If-Match: {expected}", problems={"If-Match": expected})
    return Condition(version=int(found[1]))


async def _check_below(administration: Administration, form: NewBudget, call: Call) -> None:
    """Who is of a node sets limits below it, and none above the hard limits that stand over them.

    Raises:
        RequestRefused: `forbidden`.
    """
    own = str(call.scope.node)
    if form.path.rpartition("/")[2] == own:
        raise RequestRefused("forbidden", f"the limits of {own} itself are set above it")
    places = [view.path for view in await administration.nodes(call.scope.customer) if view.path.endswith(f"/{own}")]
    place = places[0] if places else f"{call.scope.customer}/{own}"
    for one in await administration.budgets(call.scope.customer):
        if form.hard and _stands_over(one, form, place) and _exceeds(form.limit, one):
            raise RequestRefused("forbidden", f"this is above the limit of {one.path}, {one.limit.text}")


def _stands_over(one: BudgetView, form: NewBudget, place: str) -> bool:
    """Whether a budget is a hard one over all calls, of the same period and currency, at a node or above it."""
    over = f"{place}/".startswith(f"{one.path}/")
    same = (one.per, one.limit.currency) == (form.per, form.currency)
    return over and same and one.hard and not one.match and not one.each


def _exceeds(limit: str, over: BudgetView) -> bool:
    """Whether a limit, as it was written, is above another; what is no amount is not, and is refused later."""
    try:
        return Decimal(limit) > Decimal(over.limit.atoms).scaleb(-over.limit.scale)
    except InvalidOperation:
        return False
