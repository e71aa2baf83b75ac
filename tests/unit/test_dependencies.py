"""What the product imports is what it says that it needs: a fresh machine has no more than that."""

from __future__ import annotations

import re
import sys
import tomllib

from tests.unit.source_tree import ROOT, modules

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

DISTRIBUTIONS = {"prometheus_client": "prometheus-client", "yaml": "pyyaml", "backports": "backports.zstd"}
"""What a module comes in, where that has another name."""

LATE = {"asyncpg": "postgres", "splintr-rs": "tokenizers"}
"""What only an extra brings: nothing imports it but what the extra is for, and late."""

OF_OTHERS = {"tzdata": "the zones of `zoneinfo`", "hiredis": "the parser that `redis` takes where it is there"}
"""What is needed and no line of ours imports."""


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[\s<>=!~;\[]", one, maxsplit=1)[0] for one in requirements}


def imported() -> dict[str, str]:
    """Each distribution that is not Python's own nor ours, and where it is imported."""
    found: dict[str, str] = {}
    for module in modules():
        for name, node in module.imports():
            top = name.partition(".")[0]
            if not top or top == "sidecar" or top in sys.stdlib_module_names or top == "compression":
                continue
            distribution = {"splintr": "splintr-rs"}.get(top, DISTRIBUTIONS.get(top, top))
            found.setdefault(distribution, module.where(node))
    return found


def test_every_import_is_declared_and_nothing_else_is() -> None:
    """In the product's own dependencies, or in the extra that it is for; what is declared is used."""
    base = named(PROJECT["dependencies"])
    uses = imported()
    assert {name: where for name, where in uses.items() if name not in base and name not in LATE} == {}
    assert base - set(uses) == set(OF_OTHERS)
    extras = PROJECT["optional-dependencies"]
    assert {name: extra for name, extra in LATE.items() if name in named(extras[extra])} == LATE
    assert set(extras) - {"test", "fuzz"} == set(LATE.values())
    assert not base & set(LATE)
