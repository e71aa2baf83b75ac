"""The OpenAPI 3.1 document of the ledger's API, made from its one table of routes and their types."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sidecar.core.governance.rights import RIGHTS, Reach, Right
from sidecar.core.governance.tenancy import ID_PATTERN
from sidecar.ledger.forms import MAX_REASON
from sidecar.ledger.http_fields import MAX_CURSOR_LENGTH, MAX_NUMBER, MAX_PAGE_ROWS
from sidecar.ledger.http_problems import STATUSES, ProblemBody
from sidecar.ledger.http_routes import Route

_REF: Final = "#/components/schemas/{name}"
_ID: Final = {"type": "string", "pattern": f"^{ID_PATTERN}$"}

_QUERY: Final[dict[str, dict[str, Any]]] = {
    "cursor": {"type": "string", "maxLength": MAX_CURSOR_LENGTH, "description": "`next_cursor` of the page before."},
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_ROWS, "description": "Rows of a page, at most."},
    "since_ms": {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER, "description": "Recorded since (Unix ms)."},
    "customer": _ID | {"description": "Whose; by default all that the token reaches."},
    "until_ms": {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER, "description": "Recorded before (Unix ms)."},
    "actor": {"type": "string", "maxLength": 255, "description": "By this one only: the name of a token."},
    "kind": {"type": "string", "maxLength": 64, "description": "Entries of this kind only."},
    "this": {"type": "string", "maxLength": 16, "description": "The running day, week, month … of one customer only."},
    "node": {"type": "string", "maxLength": 300, "description": "`kind:id`: of that node and those below it."},
    "by": {"type": "string", "maxLength": 64, "description": "day, hour, model, team, user … or node:KIND."},
}
"""Every parameter of a query that some route takes."""

_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "With the same body the same answer, and the effect once; with another body 409.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
_REASON: Final = {
    "name": "Spend-Reason",
    "in": "header",
    "required": False,
    "description": "Why: it stands in the entry that tells of this. A `reason` in the body is the same.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_REASON, "pattern": "^[!-~]([ -~]*[!-~])?$"},
}
_IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of what this changes, or *. To change what is there without one is 428.",
    "schema": {"type": "string", "pattern": '^(\\*|"[1-9][0-9]{0,15}")$'},
}
_IF_NONE_MATCH: Final = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "Only if it is not there yet.",
    "schema": {"type": "string", "enum": ["*"]},
}


def openapi(version: str, routes: Sequence[Route]) -> dict[str, Any]:
    """The document.

    Args:
        version: of the product.
        routes: the table.
    """
    kinds: list[Any] = [ProblemBody]
    for route in routes:
        kinds += [kind for kind in (route.gives, route.takes) if kind is not None and kind not in kinds]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF, schema_hook=_anything)
    refs = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.pattern, {})[route.method.lower()] = _operation(route, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Spend Sidecar, the ledger's API",
            "version": version,
            "description": "For people and their scripts. `x-right` is what the token's role must have, `x-reach` the"
            " least that it must reach; what it does not reach does not exist for it.",
            "x-roles": {role.value: sorted(rights) for role, rights in RIGHTS.items()},
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(route: Route, refs: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _ID} for name in re.findall(r"{(\w+)}", route.pattern)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": _QUERY[name]} for name in sorted(route.query)
    ]
    if route.method != "GET":
        parameters += [_KEY, _REASON]
    if route.conditional:
        parameters += [_IF_MATCH, _IF_NONE_MATCH]
    found: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{re.sub(r'[^a-z]+', '_', route.pattern.lower()).strip('_')}",
        "summary": route.summary or _summary(route),
        "parameters": parameters,
        "responses": _responses(refs[route.gives], refs[ProblemBody], listing=route.listing),
        "x-right": route.right.value,
        "x-reach": route.reach.value if route.right is not Right.ANY else Reach.NODE.value,
    }
    if route.right is Right.PUBLIC:
        found["security"] = []
    if route.takes is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": refs[route.takes]}}}
    return found


def _summary(route: Route) -> str:
    """The first sentence of what the handler's types say of themselves."""
    kind = route.takes or route.gives
    said = (kind.__doc__ or "").strip().partition("\n")[0]
    return str(said)


def _responses(shown: dict[str, Any], problem: dict[str, Any], *, listing: bool) -> dict[str, Any]:
    if listing:
        shown = {
            "type": "object",
            "required": ["rows", "next_cursor"],
            "properties": {"rows": {"type": "array", "items": shown}, "next_cursor": {"type": "string"}},
        }
    found: dict[str, Any] = {"200": {"description": "Done.", "content": {"application/json": {"schema": shown}}}}
    for status, title in STATUSES.items():
        content = {"application/problem+json": {"schema": problem}}
        found[str(status)] = {"description": f"{title}; `code` says more.", "content": content}
    return found


def _anything(kind: type) -> dict[str, Any]:
    """The schema of what may hold any value: an entry's facts, this document."""
    if kind is object:
        return {"description": "Any value."}
    raise NotImplementedError(kind.__name__)
