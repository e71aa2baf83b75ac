"""Rules of the source that no linter keeps: sizes, guards, SQL, clocks, and what stands at the top."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.unit.source_tree import ROOT, modules
from tests.unit.test_architecture import PURE, room_of

MAX_LINES = 450
MAX_FUNCTION_LINES = 80

TOP_LEVEL = {
    "sidecar", "config", "deploy", "tests", "helm", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md",
    "Makefile", "Dockerfile", "constraints.txt",
}  # fmt: skip
GENERATED = {"build", "dist", "data"}

EXECUTES = {"execute", "execute_many", "executemany", "executescript", "fetch", "fetch_one", "fetchval"}
CLOCKS = {"now", "utcnow", "today", "time_ns", "monotonic"}


def test_modules_tell_one_story() -> None:
    """None is longer than MAX_LINES: a longer one has a second story inside."""
    assert [f"{module.name}: {module.lines}" for module in modules() if module.lines > MAX_LINES] == []


def test_functions_fit_a_screen_or_nearly() -> None:
    """Their code does: a docstring and the arguments, one a line, are not counted."""
    long = []
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{module.where(node)}: {node.name} {lines}")
    assert long == []


def test_nothing_is_guarded_by_assert() -> None:
    """`python -O` strips them: a guard of money must be an `if` that raises."""
    asserts = [
        module.where(node) for module in modules() for node in ast.walk(module.tree) if isinstance(node, ast.Assert)
    ]
    assert asserts == []


def built_sql(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that execute a text put together on the spot: f-strings, `+`, `%`, `.format`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
            continue
        text = node.args[0]
        built = isinstance(text, ast.JoinedStr | ast.BinOp) or (
            isinstance(text, ast.Call) and isinstance(text.func, ast.Attribute) and text.func.attr == "format"
        )
        if node.func.attr in EXECUTES and built:
            yield node


def test_sql_is_never_put_together() -> None:
    """S-12: every statement is a constant, every value a parameter."""
    assert [module.where(node) for module in modules() for node in built_sql(module.tree)] == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("t.execute(f'select {x}')", 1),
        ("t.execute('select ' + x)", 1),
        ("t.fetch('select %s' % x, [1])", 1),
        ("t.executescript('{}'.format(x))", 1),
        ("t.execute('select ?', [x])", 0),
        ("t.execute(SELECT, [x])", 0),
    ],
)
def test_put_together_sql_would_be_found(code: str, found: int) -> None:
    """The rule above can fail."""
    assert len(list(built_sql(ast.parse(code)))) == found


def test_pure_rooms_never_ask_what_time_it_is() -> None:
    """Time is an argument there, so that a day can be simulated in a second."""
    asked = [
        module.where(node)
        for module in modules()
        if room_of(module.name) in PURE
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS
    ]
    assert asked == []


def test_the_top_level_stays_small() -> None:
    """A stranger sees at a glance what there is: nothing new stands at the top without a decision."""
    there = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".") and not path.name.endswith(".egg-info") and path.name not in GENERATED
    }
    assert there <= TOP_LEVEL
    assert {"sidecar", "tests", "README.md", "Makefile"} <= there


def test_every_law_that_is_named_is_written_down() -> None:
    """A number without a sentence tells a reader nothing; tests name laws as the product does."""
    laws = (ROOT / "sidecar" / "LAWS.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^- \*\*(L[0-9]+a?)\*\*", laws, re.MULTILINE))
    unwritten = {
        f"{path.relative_to(ROOT)}: {law}"
        for folder in ("sidecar", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for law in re.findall(r"\bL[0-9]+a?\b", path.read_text(encoding="utf-8"))
        if law not in known
    }
    assert unwritten == set()
