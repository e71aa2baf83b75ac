"""The OpenAPI document of /spend/v1/, made from the types that are read and written."""

from __future__ import annotations

from typing import Any

import msgspec

from sidecar.core.governance.tenancy import ID_PATTERN
from sidecar.proxy.local_api_problems import STATUSES
from sidecar.proxy.local_api_types import BalanceAnswer, CheckAnswer, CheckRequest, Problem, UsageAnswer, UsageReport

_REF = "#/components/schemas/{name}"
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "Names this report: with the same body it is charged once, however often it is sent.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
_REQUEST_ID = {
    "name": "request_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[a-z0-9_]{1,64}$"},
}


def openapi(version: str, shown: type) -> dict[str, Any]:
    """The document.

    Args:
        version: of the product.
        shown: the type of an explained decision.
    """
    kinds = (CheckRequest, CheckAnswer, UsageReport, UsageAnswer, BalanceAnswer, Problem, shown)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF, schema_hook=_anything)
    refs = dict(zip(kinds, schemas, strict=True))
    who = [{"$ref": f"#/components/parameters/{name}"} for name in _parameters()]
    document = {"type": "object", "required": ["openapi", "info", "paths"]}

    def operation(name: str, summary: str, gives: type, *more: dict[str, Any], takes: type | None = None) -> Any:
        found: dict[str, Any] = {
            "operationId": name,
            "summary": summary,
            "parameters": [*who, *more],
            "responses": _responses(refs[gives], refs[Problem]),
        }
        if takes is not None:
            found["requestBody"] = {"required": True, "content": {"application/json": {"schema": refs[takes]}}}
        return found

    check = operation("check", "May this be done now? Takes nothing.", CheckAnswer, takes=CheckRequest)
    usage = operation("usage", "Charge usage that is no model call.", UsageAnswer, _KEY, takes=UsageReport)
    this = {"operationId": "openapi", "summary": "This document.", "responses": _responses(document, refs[Problem])}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Spend Sidecar, local API",
            "version": version,
            "description": "For the application beside the sidecar. Who is spending is said as for a model call.",
        },
        "paths": {
            "/spend/v1/check": {"post": check},
            "/spend/v1/usage": {"post": usage},
            "/spend/v1/balance": {"get": operation("balance", "What the subject may still spend.", BalanceAnswer)},
            "/spend/v1/requests/{request_id}": {
                "get": operation("explain", "Why was it admitted or denied?", shown, _REQUEST_ID)
            },
            "/spend/v1/openapi.json": {"get": this},
        },
        "components": {"schemas": components, "parameters": _parameters()},
    }


def _anything(kind: type) -> dict[str, Any]:
    """The schema of what may hold any value: an entry's facts."""
    if kind is object:
        return {"description": "Any value."}
    raise NotImplementedError(kind.__name__)


def _responses(good: dict[str, Any], problem: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": "The answer.", "content": {"application/json": {"schema": good}}}}
    for status in STATUSES:
        content = {"application/problem+json": {"schema": problem}}
        found[str(status)] = {"description": "A problem; `code` says which.", "content": content}
    return found


def _parameters() -> dict[str, dict[str, Any]]:
    """Who is spending, as headers."""
    found: dict[str, dict[str, Any]] = {}
    for field in ("Customer", "Path", "User", "Agent", "Session", "Product"):
        schema: dict[str, Any] = {"type": "string", "pattern": f"^{ID_PATTERN}$"}
        if field == "Path":
            schema = {"type": "string", "maxLength": 1024}
        found[f"Spend{field}"] = {"name": f"Spend-{field}", "in": "header", "required": False, "schema": schema}
    return found
