"""Who may do what over the ledger's API: every route, tried with every role, against the documented table."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession

from sidecar.core.governance.checked_tokens import digest_of
from sidecar.core.governance.rights import Reach, Right, Role, Scope, read_scope
from sidecar.ledger.http_access import Access, admin_access, admin_token, api_token, sidecar_token
from sidecar.ledger.http_api import AdminAPI
from sidecar.ledger.http_server import serve_admin_api
from tests.support.administration import FakeAdministration, FakeBackups, NumberedIds, usage_view

DOCUMENTED = """
right          platform_admin org_owner finance team_manager member auditor app
tenants        all            -         -       -            -      -       -
catalog        all            -         -       -            -      -       -
credits        all            -         all     -            -      -       -
hard limits    all            all       all     own          -      -       -
soft limits    all            all       all     own          -      -       -
own limits     all            all       all     own          own    -       -
usage          all            all       all     own          own    all     own
journal        all            all       all     -            -      all     -
audit          all            all       -       -            -      all     -
users          all            all       -       own          -      -       -
tokens         all            all       -       own          -      -       -
"""
"""The table of roles and rights: all that is in the token's reach, or only the token's own node and what is below."""

ROUTES = {
    "GET /v1/version": ("any", Reach.NODE),
    "GET /v1/openapi.json": ("any", Reach.NODE),
    "GET /v1/clock": ("any", Reach.NODE),
    "GET /v1/customers": ("usage", Reach.CUSTOMER),
    "POST /v1/customers": ("tenants", Reach.LEDGER),
    "POST /v1/customers/timezone": ("hard limits", Reach.CUSTOMER),
    "GET /v1/customers/{customer}": ("usage", Reach.CUSTOMER),
    "POST /v1/nodes": ("users", Reach.NODE),
    "POST /v1/nodes/freeze": ("hard limits", Reach.NODE),
    "POST /v1/nodes/unfreeze": ("hard limits", Reach.NODE),
    "POST /v1/nodes/move": ("users", Reach.CUSTOMER),
    "POST /v1/grants": ("credits", Reach.CUSTOMER),
    "POST /v1/grants/void": ("credits", Reach.CUSTOMER),
    "POST /v1/budgets": ("hard limits", Reach.NODE),
    "POST /v1/guardrails": ("own limits", Reach.NODE),
    "POST /v1/budgets/remove": ("hard limits", Reach.CUSTOMER),
    "GET /v1/customers/{customer}/frozen": ("usage", Reach.NODE),
    "GET /v1/customers/{customer}/holders": ("usage", Reach.CUSTOMER),
    "GET /v1/customers/{customer}/nodes": ("usage", Reach.NODE),
    "GET /v1/customers/{customer}/grants": ("usage", Reach.CUSTOMER),
    "GET /v1/customers/{customer}/budgets": ("usage", Reach.NODE),
    "GET /v1/customers/{customer}/budgets/{budget_id}": ("usage", Reach.NODE),
    "GET /v1/customers/{customer}/balance": ("usage", Reach.NODE),
    "GET /v1/customers/{customer}/entries": ("journal", Reach.CUSTOMER),
    "GET /v1/customers/{customer}/verify": ("journal", Reach.CUSTOMER),
    "POST /v1/rate-limits": ("hard limits", Reach.NODE),
    "POST /v1/rate-limits/remove": ("hard limits", Reach.CUSTOMER),
    "GET /v1/customers/{customer}/rate-limits": ("usage", Reach.NODE),
    "GET /v1/usage": ("usage", Reach.NODE),
    "GET /v1/usage/sums": ("usage", Reach.NODE),
    "GET /v1/customers/{customer}/exposure": ("usage", Reach.NODE),
    "GET /v1/sidecars": ("tenants", Reach.LEDGER),
    "GET /v1/leases/silent": ("usage", Reach.CUSTOMER),
    "GET /v1/leases": ("usage", Reach.CUSTOMER),
    "POST /v1/leases/resolve": ("credits", Reach.CUSTOMER),
    "GET /v1/learning": ("tenants", Reach.LEDGER),
    "POST /v1/learning/accept-loss": ("tenants", Reach.LEDGER),
    "POST /v1/clock/accept": ("tenants", Reach.LEDGER),
    "GET /v1/sidecar-tokens": ("tenants", Reach.LEDGER),
    "POST /v1/sidecar-tokens": ("tenants", Reach.LEDGER),
    "POST /v1/sidecar-tokens/revoke": ("tenants", Reach.LEDGER),
    "GET /v1/customers/{customer}/keys": ("tokens", Reach.NODE),
    "POST /v1/keys": ("tokens", Reach.NODE),
    "POST /v1/keys/revoke": ("tokens", Reach.CUSTOMER),
    "GET /v1/tokens": ("tokens", Reach.NODE),
    "POST /v1/tokens": ("tokens", Reach.NODE),
    "POST /v1/tokens/revoke": ("tokens", Reach.NODE),
    "GET /v1/audit": ("audit", Reach.CUSTOMER),
    "POST /v1/backups": ("tenants", Reach.LEDGER),
    "GET /v1/backups/{name}": ("tenants", Reach.LEDGER),
    "GET /v1/requests/{request_id}": ("usage", Reach.NODE),
}
"""The row of the table that each route is of, and the least that a token must reach for it."""

HOW_TO_ADD = """
Every route of the ledger's API stands in ROUTES of this test as well: with the row of DOCUMENTED that
it is of, and the least that a token must reach. In `AdminAPI._routes` its row says the same:
    get(pattern, Right.…, handler, TypeOfAnswer, reach=Reach.…, listing=…, query=…)
    post(pattern, Right.…, handler, TypeOfBody, TypeOfAnswer, reach=Reach.…)
Without `reach` only tokens of the whole ledger may ask. Reach.CUSTOMER: the customer must stand in the
path ({customer}), the query (customer=) or the body (`customer`, or the beginning of `path`), and each
row of the answer must have `customer`. Reach.NODE: rows have `path` too. A body of its own type needs
an example in BODIES here. Parameters of a query are described in `http_openapi._QUERY`.
"""

PATHS = {
    Role.PLATFORM_ADMIN: "",
    Role.ORG_OWNER: "acme",
    Role.FINANCE: "acme",
    Role.TEAM_MANAGER: "acme/team:data",
    Role.MEMBER: "acme/user:ada",
    Role.AUDITOR: "acme",
    Role.APP: "acme/team:data",
}
BELOW = "acme/team:data/project:x"
BODIES: dict[str, dict[str, Any]] = {
    "NewCustomer": {"customer": "new"},
    "NewNodes": {"path": BELOW},
    "NewTimezone": {"customer": "acme", "timezone": "Europe/Berlin"},
    "NodeAct": {"path": BELOW, "reason": "why"},
    "NodeMove": {"path": BELOW, "to": "acme", "reason": "why"},
    "GrantVoid": {"customer": "acme", "grant_id": "grant_1", "reason": "why"},
    "BudgetRemoval": {"customer": "acme", "budget_id": "budget_1", "reason": "why"},
    "NewGrant": {"customer": "acme", "amount": "1"},
    "NewBudget": {"path": BELOW, "limit": "1", "per": "day"},
    "NewRateLimit": {"path": BELOW, "counts": "requests", "limit": 60},
    "RateLimitRemoval": {"customer": "acme", "limit_id": "rate_1", "reason": "why"},
    "Nothing": {},
    "NewSidecarToken": {"name": "pod", "token_sha256": "ab" * 32},
    "SidecarName": {"name": "pod"},
    "NewKey": {"path": BELOW, "sha256": "ab" * 32},
    "NamedKey": {"customer": "acme", "key_id": "key_1"},
    "NewToken": {"name": "ci", "role": "team_manager", "path": BELOW, "token_sha256": "cd" * 32},
    "LeaseResolution": {"customer": "acme", "lease_id": "inc_1/budget:b:lifetime:", "how": "spent", "reason": "why"},
    "LossAcceptance": {"reason": "its machine is gone", "sidecar": ""},
    "NamedToken": {"name": "ci", "path": BELOW},
}
DEPTH = {Reach.LEDGER: 0, Reach.CUSTOMER: 1, Reach.NODE: 2}
ROWS_OF = {
    "any": Right.ANY,
    "tenants": Right.PLATFORM,
    "catalog": Right.CATALOG,
    "credits": Right.CREDIT,
    "hard limits": Right.LIMITS,
    "soft limits": Right.LIMITS,
    "own limits": Right.GUARDRAIL,
    "usage": Right.USAGE,
    "journal": Right.JOURNAL,
    "audit": Right.AUDIT,
    "users": Right.MEMBERS,
    "tokens": Right.TOKENS,
}


def documented() -> dict[tuple[str, Role], str]:
    """The table's cells."""
    head, *rows = DOCUMENTED.strip().splitlines()
    roles = [Role(name) for name in head.split()[1:]]
    cells = {}
    for row in rows:
        *words, last = row.rsplit(maxsplit=len(roles) - 1)
        name, first = words[0].rsplit(maxsplit=1)
        for role, cell in zip(roles, [first, *words[1:], last], strict=True):
            cells[name.strip(), role] = cell
    return cells


TOKENS = {role: admin_token(bytes([place + 1]) * 32) for place, role in enumerate(Role)}
OTHER = admin_token(b"\xff" * 32)


@dataclass
class Ledger:
    """A served API over an administration with two customers, and a token for each role."""

    address: str
    administration: FakeAdministration
    api: AdminAPI
    client: ClientSession

    async def ask(self, token: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request; status and decoded body."""
        headers = {"Authorization": f"Bearer {token}"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        async with self.client.request(method, self.address + path, data=data, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def ledger() -> AsyncIterator[Ledger]:
    """Customers acme and other, each with a team `data`; acme's has a project, and there is a team `ops`."""
    administration = FakeAdministration()
    accesses = [Access(digest_of(TOKENS[role]), role.value, role, read_scope(PATHS[role])) for role in Role]
    accesses.append(Access(digest_of(OTHER), "stranger", Role.ORG_OWNER, Scope("other")))
    root = admin_token(b"\xfe" * 32)
    api = AdminAPI(administration, [*accesses, admin_access(root)], NumberedIds(), version="1", backups=FakeBackups())
    address, close = await serve_admin_api(api, "127.0.0.1", 0)
    async with ClientSession() as client:
        one = Ledger(address, administration, api, client)
        for customer in ("acme", "other"):
            await one.ask(root, "POST", "/v1/customers", {"customer": customer})
            await one.ask(root, "POST", "/v1/grants", {"customer": customer, "amount": "5"})
            for path in ("team:data", "team:ops"):
                await one.ask(root, "POST", "/v1/nodes", {"path": f"{customer}/{path}"})
                await one.ask(root, "POST", "/v1/budgets", {"path": f"{customer}/{path}", "limit": "9", "per": "day"})
        await one.ask(root, "POST", "/v1/nodes", {"path": BELOW})
        administration.calls = [
            usage_view(1, path="acme/team:data", user="ada"),
            usage_view(2, path="acme/team:ops", user="bob"),
            usage_view(3, path="other/team:data", user="ada", customer="other"),
        ]
        yield one
    await close()


def filled(pattern: str) -> str:
    """A path that a pattern matches, of acme."""
    for name, value in (("customer", "acme"), ("request_id", "req_1"), ("budget_id", "budget_1")):
        pattern = pattern.replace(f"{{{name}}}", value)
    return pattern


async def test_every_route_is_documented(ledger: Ledger) -> None:
    """S-17: the router is enumerated; a route that nobody has thought about fails here."""
    assert [route.pattern for route in ledger.api.table.routes if route.right is Right.PUBLIC] == ["/v1/health"]
    found = {f"{route.method} {route.pattern}": route for route in ledger.api.table.routes}
    del found["GET /v1/health"]
    missing = sorted(set(found) ^ set(ROUTES))
    assert not missing, f"{missing}{HOW_TO_ADD}"
    for name, route in found.items():
        row, reach = ROUTES[name]
        assert route.right is ROWS_OF[row], f"{name} needs {route.right.value}, documented as {row}"
        assert route.right is Right.ANY or route.reach is reach, f"{name} is for a {route.reach.value} and wider"
        assert route.takes is None or route.takes.__name__ in BODIES, f"{name}: no example of its body{HOW_TO_ADD}"
        assert (route.takes is None) == (route.method == "GET")


@pytest.mark.parametrize("role", list(Role))
async def test_every_role_on_every_route(ledger: Ledger, role: Role) -> None:
    """6.4: 403 exactly where the table has no right, or the token does not reach far enough."""
    cells = documented()
    scope = read_scope(PATHS[role])
    refused = 0
    for route in ledger.api.table.routes:
        if route.right is Right.PUBLIC:
            continue
        row, reach = ROUTES[f"{route.method} {route.pattern}"]
        allowed = row == "any" or (cells[row, role] != "-" and DEPTH[scope.reach] <= DEPTH[reach])
        body = None if route.takes is None else BODIES[route.takes.__name__]
        status, answer = await ledger.ask(TOKENS[role], route.method, filled(route.pattern), body)
        assert (status != 403) == allowed, f"{role.value} {route.method} {route.pattern}: {status} {answer}"
        assert status in (200, 403, 404), f"{route.method} {route.pattern}: {status} {answer}"
        refused += status == 403
    assert (refused > 0) == (role is not Role.PLATFORM_ADMIN)


async def test_a_member_sets_a_guardrail_of_its_own_and_no_other_limit(ledger: Ledger) -> None:
    """L36: on itself, whatever the body says of it; on nobody else, and nothing that is not one."""
    member, body = TOKENS[Role.MEMBER], {"path": "acme/user:ada", "limit": "1", "per": "day", "guardrail": False}
    status, view = await ledger.ask(member, "POST", "/v1/guardrails", body)
    assert (status, view["guardrail"], view["path"]) == (200, True, "acme/user:ada")
    for path in ("acme/user:bob", "acme", "acme/team:data", "acme/team:data/user:bob"):
        assert (await ledger.ask(member, "POST", "/v1/guardrails", body | {"path": path}))[0] == 404
    for guardrail in (True, False):
        assert (await ledger.ask(member, "POST", "/v1/budgets", body | {"guardrail": guardrail}))[0] == 403


async def test_only_tokens_of_the_api_open_it(ledger: Ledger) -> None:
    """A sidecar's token, a virtual key, a well-formed token that nobody made, and none: 401 on every route."""
    strangers = [sidecar_token(b"1" * 32), api_token(b"2" * 32), "sk-spend-abc", ""]
    for stranger in strangers:
        for route in ledger.api.table.routes:
            if route.right is not Right.PUBLIC:
                status, _ = await ledger.ask(stranger, route.method, filled(route.pattern))
                assert status in (401, 429), route.pattern


async def test_another_customer_does_not_exist(ledger: Ledger) -> None:
    """S-31, S-34, B-A04: in path, query and body, and in the very words for a customer that nobody has."""
    owner = TOKENS[Role.ORG_OWNER]
    for route in ledger.api.table.routes:
        if route.right in (Right.PUBLIC, Right.ANY) or route.reach is Reach.LEDGER:
            continue
        answers = []
        for name in ("other", "nobody"):
            path = filled(route.pattern.replace("{customer}", name))
            if "customer" in route.query:
                path += f"?customer={name}"
            body = None
            if route.takes is not None:
                body = json.loads(json.dumps(BODIES[route.takes.__name__]).replace("acme", name))
            if "{customer}" not in route.pattern and "customer" not in route.query and body is None:
                break  # it names no customer: see the next test
            status, problem = await ledger.ask(owner, route.method, path, body)
            problem.pop("request_id", None)
            answers.append((status, json.dumps(problem).replace(name, "?")))
        if answers and route.right in (Right.USAGE, Right.JOURNAL, Right.LIMITS, Right.MEMBERS, Right.TOKENS):
            assert answers[0] == answers[1], route.pattern
            assert answers[0][0] == 404, route.pattern


async def test_lists_show_the_tokens_own(ledger: Ledger) -> None:
    """Customers, calls, budgets and nodes: those of a customer for its owner, those below a node for its manager."""
    seen: dict[str, tuple[list[Any], list[Any]]] = {}
    for path in ("/v1/usage", "/v1/customers/acme/budgets", "/v1/customers/acme/nodes"):
        lists = []
        for role in (Role.ORG_OWNER, Role.TEAM_MANAGER):
            status, page = await ledger.ask(TOKENS[role], "GET", path)
            assert status == 200
            lists.append([row["path"] for row in page["rows"]])
        seen[path] = (lists[0], lists[1])
    assert seen["/v1/usage"] == (["acme/team:data", "acme/team:ops"], ["acme/team:data"])
    assert seen["/v1/customers/acme/budgets"] == (["acme/team:data", "acme/team:ops"], ["acme/team:data"])
    assert seen["/v1/customers/acme/nodes"][1] == ["acme/team:data", "acme/team:data", BELOW]
    _, mine = await ledger.ask(TOKENS[Role.MEMBER], "GET", "/v1/usage")
    assert [row["user"] for row in mine["rows"]] == ["ada"]
    _, customers = await ledger.ask(TOKENS[Role.AUDITOR], "GET", "/v1/customers")
    assert [row["customer"] for row in customers["rows"]] == ["acme"]
    _, balance = await ledger.ask(TOKENS[Role.TEAM_MANAGER], "GET", "/v1/customers/acme/balance")
    assert balance["grants"] == balance["available"] == []
    assert [budget["path"] for budget in balance["budgets"]] == ["acme/team:data"]


@pytest.mark.parametrize("path", ["acme/team:ops", "acme", "acme/user:bob", "acme/team:data/user:bob", "acme/team:no",
                                  "acme/team:ops/project:x", "acme/team:no/project:x", "acme/project:y"])  # fmt: skip
async def test_a_manager_names_only_what_is_below(ledger: Ledger, path: str) -> None:
    """A node beside or above is no node; a team before somebody's user gives no power over that user."""
    for where, body in (
        ("/v1/budgets", BODIES["NewBudget"]),
        ("/v1/tokens", BODIES["NewToken"]),
        ("/v1/keys", BODIES["NewKey"]),
    ):
        acts = len(ledger.administration.acts)
        status, problem = await ledger.ask(TOKENS[Role.TEAM_MANAGER], "POST", where, body | {"path": path})
        assert (status, problem["code"]) == (404, "not_found"), where
        assert len(ledger.administration.acts) == acts


async def test_a_managers_limits_stand_below_those_above(ledger: Ledger) -> None:
    """6.4: not the limit of its own node, and none above it; at it and below is its own affair."""
    manager = TOKENS[Role.TEAM_MANAGER]
    at_node = {"path": "acme/team:data", "limit": "1", "per": "day"}
    for body, status in (
        (at_node, 403),
        ({"path": BELOW, "limit": "9.01", "per": "day"}, 403),
        ({"path": BELOW, "limit": "9", "per": "day"}, 200),
        ({"path": BELOW, "limit": "99", "per": "month"}, 200),
        ({"path": BELOW, "limit": "99", "per": "day", "hard": False}, 200),
        ({"path": BELOW, "limit": "NaN", "per": "day"}, 422),
    ):
        got, problem = await ledger.ask(manager, "POST", "/v1/budgets", body)
        assert got == status, (body, problem)


async def test_a_manager_does_not_thaw_its_own_node(ledger: Ledger) -> None:
    """S-30, L35: who is of a node may stop it, but a freeze is above whom it stops; below it is its own affair."""
    manager = TOKENS[Role.TEAM_MANAGER]
    for token, act, path, status in (
        (manager, "freeze", "acme/team:data", 200),
        (manager, "unfreeze", "acme/team:data", 403),
        (TOKENS[Role.ORG_OWNER], "unfreeze", "acme/team:data", 200),
        (manager, "freeze", BELOW, 200),
        (manager, "unfreeze", BELOW, 200),
    ):
        got, problem = await ledger.ask(token, "POST", f"/v1/nodes/{act}", {"path": path, "reason": "a test"})
        assert got == status, (act, path, problem)


async def test_nobody_makes_more_than_himself(ledger: Ledger) -> None:
    """S-30: each role tries to make, and to revoke, a token of each; only with rights that it has."""
    made = {
        (maker, role)
        for maker in Role
        for role in Role
        if (await ledger.ask(TOKENS[maker], "POST", "/v1/tokens", token_of(role, maker)))[0] == 200
    }
    assert {role for maker, role in made if maker is Role.PLATFORM_ADMIN} == set(Role)
    managed = {Role.TEAM_MANAGER, Role.MEMBER, Role.APP}
    assert {role for maker, role in made if maker is Role.ORG_OWNER} == managed | {Role.ORG_OWNER, Role.AUDITOR}
    assert {role for maker, role in made if maker is Role.TEAM_MANAGER} == managed
    assert {maker for maker, _ in made} == {Role.PLATFORM_ADMIN, Role.ORG_OWNER, Role.TEAM_MANAGER}
    revoke = {"name": f"{Role.FINANCE}-{Role.PLATFORM_ADMIN}", "path": "acme"}
    assert (await ledger.ask(TOKENS[Role.ORG_OWNER], "POST", "/v1/tokens/revoke", revoke))[0] == 403
    assert (await ledger.ask(OTHER, "POST", "/v1/tokens/revoke", revoke))[0] == 404
    assert (await ledger.ask(TOKENS[Role.PLATFORM_ADMIN], "POST", "/v1/tokens/revoke", revoke))[0] == 200


def token_of(role: Role, maker: Role) -> dict[str, Any]:
    """A token to make, with a reach that its role may have and, where that is possible, its maker's."""
    path = {"acme/user:ada": BELOW, "acme/team:data": BELOW}.get(PATHS[role], PATHS[role])
    digest = digest_of(f"{role} {maker}").hex()
    return {"name": f"{role}-{maker}", "role": role.value, "path": path, "token_sha256": digest}


async def test_a_token_acts_in_its_own_name(ledger: Ledger) -> None:
    """What a token brings about has its name for an actor."""
    await ledger.ask(TOKENS[Role.FINANCE], "POST", "/v1/grants", BODIES["NewGrant"])
    assert ledger.administration.acts[-1].actor == "finance"


def test_an_example_is_of_its_type() -> None:
    """The examples are bodies that the routes take: a 403 is not a 422 in disguise."""
    api = AdminAPI(FakeAdministration(), [], NumberedIds(), version="1")
    for route in api.table.routes:
        if route.takes is not None:
            msgspec.convert(BODIES[route.takes.__name__], route.takes)
