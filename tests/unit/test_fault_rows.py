"""Every row of the project's table of faults has a test that names it, or stands here with the reason why not."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).resolve().parents[2]

NOT_TESTED_HERE: Final = {
    "F-39": "prices are a file that is read at the start: there is no publishing yet that could be staged or confirmed",
    "F-55": "that an application cannot go past its sidecar is the cluster's egress policy: no code of ours is asked",
    "F-58": "there are no webhooks yet; a console that is down is a reader that does not read",
}
"""Rows without a test, and why."""

_ROW: Final = re.compile(r"^\| (F-\d\db?) \|", re.MULTILINE | re.ASCII)
_ID: Final = re.compile(r"\bF-\d\db?\b", re.ASCII)


def table() -> set[str]:
    """The rows there are; skips where the table is not beside this repository, as for whoever cloned it alone."""
    path = HERE.parent / "shared" / "FAULTS.md"
    if not path.exists():
        pytest.skip("the table of faults is not here")
    return set(_ROW.findall(path.read_text(encoding="utf-8")))


def named() -> set[str]:
    """The rows that tests name in their docstrings or names."""
    found: set[str] = set()
    for path in (HERE / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
                found.update(_ID.findall(f"{node.name} {ast.get_docstring(node) or ''}"))
    return found


def test_every_row_has_a_test_or_a_reason() -> None:
    """And no test names a row that is none."""
    rows = table()
    assert len(rows) > 60
    assert rows - named() - NOT_TESTED_HERE.keys() == set()
    assert (named() | NOT_TESTED_HERE.keys()) - rows == set()


def test_a_reason_is_a_sentence() -> None:
    """Nobody is put off with a word."""
    assert all(len(reason.split()) > 8 for reason in NOT_TESTED_HERE.values())
