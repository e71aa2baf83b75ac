"""The import map, held against the real imports: which room may know which, and which library stands where.

The map is data here, so that a change of it is a change that somebody reads.
"""

from __future__ import annotations

import pytest

from tests.unit.source_tree import Module, modules

CORE = ("core.credits", "core.pricing", "core.governance")
PURE = (*CORE, "core", "providers", "contract")

KNOWS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "core": (),
    "core.credits": (),
    "core.pricing": ("core.credits",),
    "core.governance": ("core.credits", "core.pricing"),
    "providers": CORE,
    "contract": CORE,
    "ports": (*CORE, "providers", "contract"),
    "telemetry": (*CORE, "contract", "ports"),
    "leases": (*CORE, "providers", "contract", "ports"),
    "outbox": (*CORE, "providers", "contract", "ports"),
    "catalog": (*CORE, "providers", "contract", "ports"),
    "proxy": (*CORE, "providers", "contract", "ports"),
    "ledger": (*CORE, "providers", "contract", "ports"),
    "storage": (*CORE, "providers", "contract", "ports"),
}
"""What each room may import, beside itself and `errors`. Rooms of one line do not know each other."""

MIDDLE = (*CORE, "providers", "contract", "ports", "leases", "outbox", "catalog", "proxy", "ledger", "storage")
KNOWS["demo"] = MIDDLE
KNOWS["app"] = (*MIDDLE, "demo", "telemetry")
KNOWS["cli"] = (*MIDDLE, "demo", "telemetry", "app")

EXCEPTIONS = {("proxy", "leases.table")}
"""The one place where a room sees a single module of its neighbour: the decision is made on the table itself."""

LIBRARIES: dict[str, tuple[str, ...]] = {
    "aiohttp": ("proxy", "ledger.http_", "demo", "app"),
    "httptools": ("proxy",),
    "uvloop": ("app",),
    "splintr": ("app.tokenizing",),
    "sqlite3": ("storage.sqlite",),
    "asyncpg": ("storage.postgres",),
    "redis": ("storage.redis_",),
    "yaml": ("catalog", "app"),
    "click": ("cli",),
    "prometheus_client": ("telemetry", "app"),
}
"""Beginnings of the names of modules that may import a library; one that is not named here may be anywhere."""

NOT_IN_PURE_ROOMS = {
    "asyncio", "time", "random", "secrets", "uuid", "os", "sys", "socket", "ssl", "threading", "subprocess",
    "multiprocessing", "logging", "pathlib", "io", "tempfile", "shutil", "sqlite3", "signal", "select", "http",
    "urllib.request", "aiohttp", "httptools", "prometheus_client", "yaml", "uvloop", "importlib",
}  # fmt: skip
"""Doors to the world: I/O, clocks, randomness, logs."""


def room_of(name: str) -> str:
    """The room of a module, by its name without `sidecar.`."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "core" and len(parts) > 1 else parts[0]


def may_import(importer: str, imported: str) -> bool:
    """Whether the map lets one module of ours import another."""
    here, there = room_of(importer), room_of(imported)
    if there in (here, "errors") or here == "":
        return True
    if any(here == room and (imported + ".").startswith(module + ".") for room, module in EXCEPTIONS):
        return True
    if there == "telemetry":
        return here not in PURE and here not in ("errors", "ports")
    return there in KNOWS[here]


def ours() -> list[tuple[Module, str, str]]:
    """Every import of one module of ours by another: importer, imported, place."""
    return [
        (module, name.removeprefix("sidecar").removeprefix("."), module.where(node))
        for module in modules()
        for name, node in module.imports()
        if name.split(".")[0] == "sidecar"
    ]


def test_imports_follow_the_map() -> None:
    """Each room knows those before it and no other; and there were imports to read."""
    found = ours()
    assert len(found) > 100
    wrong = [
        f"{place}: {module.name} imports {name}" for module, name, place in found if not may_import(module.name, name)
    ]
    assert wrong == []


def test_every_room_is_on_the_map() -> None:
    """A new room is put there by somebody who has thought about it."""
    rooms = {room_of(module.name) for module in modules()} - {""}
    assert rooms <= set(KNOWS)
    assert len(rooms) > 12


def test_imports_are_absolute() -> None:
    """A relative import would slip through the map."""
    assert [module.where(node) for module in modules() for name, node in module.imports() if name.startswith(".")] == []


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("core.credits.grants", "core.credits.scopes", True),
        ("core.credits.grants", "core.pricing.usage", False),
        ("core.pricing.usage", "core.governance.budgets", False),
        ("core.credits.grants", "telemetry.logs", False),
        ("contract.codec", "errors", True),
        ("proxy.authorize", "leases.table", True),
        ("proxy.authorize", "leases.keeper", False),
        ("ledger.service", "leases.table", False),
        ("ledger.service", "storage.sqlite", False),
        ("outbox.shipper", "telemetry.metrics", True),
        ("app.up", "cli.main", False),
        ("cli.up", "app.up", True),
    ],
)
def test_the_map_says_what_it_should(importer: str, imported: str, allowed: bool) -> None:
    """Spot checks of the map itself: a map that allows everything would keep every rule."""
    assert may_import(importer, imported) is allowed


def test_libraries_stay_where_they_belong() -> None:
    """HTTP at the doors, each driver in its one module, the command line's library in the command line."""
    wrong = [
        f"{module.where(node)}: {name}"
        for module in modules()
        for name, node in module.imports()
        for library, places in LIBRARIES.items()
        if name.split(".")[0] == library and not module.name.startswith(places)
    ]
    assert wrong == []


def test_pure_rooms_have_no_doors() -> None:
    """No I/O, clock, randomness or log in the rooms whose answers must depend on their arguments alone."""
    pure = [module for module in modules() if room_of(module.name) in PURE]
    assert len(pure) > 10
    wrong = [
        f"{module.where(node)}: {name}"
        for module in pure
        for name, node in module.imports()
        if name in NOT_IN_PURE_ROOMS or name.split(".")[0] in NOT_IN_PURE_ROOMS
    ]
    assert wrong == []
