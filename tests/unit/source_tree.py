"""Reads this repository's own source, for tests that hold it against its rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sidecar"


@dataclass(frozen=True)
class Module:
    """One module of the product: its dotted name without `sidecar.`, its tree, its lines."""

    name: str
    path: Path
    tree: ast.Module
    lines: int

    def where(self, node: ast.AST) -> str:
        """A place in it, as editors take it."""
        return f"{self.path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"

    def imports(self) -> Iterator[tuple[str, ast.AST]]:
        """Every module it imports, wherever in it the import stands; `sidecar` alone for the package itself."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name, node
            elif isinstance(node, ast.ImportFrom):
                base = "." * node.level + (node.module or "")
                for alias in node.names:
                    # `from sidecar import errors` imports a module, `from sidecar.errors import Conflict` a name
                    yield (f"sidecar.{alias.name}" if base == "sidecar" else base), node


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the product."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found.append(Module(name, path, ast.parse(text), len(text.splitlines())))
    return tuple(found)
