"""The SQL that both engines, and those that spread one PostgreSQL over many machines, agree on; and nothing else.

Held against every statement in the code and every migration. What only one engine has stands in that
engine's own module, or in its migrations.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.unit.source_tree import ROOT, modules

MIGRATIONS = ROOT / "sidecar" / "storage" / "migrations"

BANNED = {
    "advisory locks": r"pg_(try_)?advisory\w*",  # silently do nothing on some engines
    "LISTEN and NOTIFY": r"\b(UN)?LISTEN\s+\w|\bNOTIFY\s+\w|\bpg_notify\b",
    "sequences": r"\b(CREATE|ALTER|DROP)\s+SEQUENCE\b|\bnextval\b",
    "numbers that count by themselves": r"\b(small|big)?serial\d?\b|\bAS\s+IDENTITY\b|\bAUTOINCREMENT\b",
    "locks of whole tables": r"\bLOCK\s+TABLE\b|^\s*LOCK\s+\w",
    "SKIP LOCKED": r"\bSKIP\s+LOCKED\b|\bNOWAIT\b",
    "two-phase commit": r"\bPREPARE\s+TRANSACTION\b|\b(COMMIT|ROLLBACK)\s+PREPARED\b",
    "deferred constraints": r"\bDEFERRABLE\b|\bINITIALLY\s+DEFERRED\b|\bSET\s+CONSTRAINTS\b",
    "floating point": r"\b(REAL|FLOAT\d?|DOUBLE\s+PRECISION|NUMERIC|DECIMAL)\b",  # amounts are whole
}
"""What stands nowhere."""

OF_ONE_ENGINE = {
    "row locks": r"\bFOR\s+(NO\s+KEY\s+)?(UPDATE|SHARE|KEY\s+SHARE)\b",
    "transactions": r"^\s*(BEGIN|START\s+TRANSACTION|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b",
    "settings": r"^\s*(PRAGMA|SET|SHOW|VACUUM)\b",
    "arrays": r"\bunnest\b|\bANY\s*\(|\bARRAY\b|\[\]",
    "JSON operators": r"->>?|\bjsonb?_\w+|@>",
    "triggers and functions": r"\bCREATE\s+(TRIGGER|FUNCTION)\b",
    "CTEs that write": r"\bWITH\b.*\bAS\s+\(\s*(INSERT|UPDATE|DELETE)\b",
    "PostgreSQL's casts": r"\w::\w",
    "SQLite's own": r"\bINSERT\s+OR\b|\bREPLACE\s+INTO\b|\browid\b|\bGLOB\b|\bIFNULL\b|\bdatetime\(",
    "PostgreSQL's own": r"\bILIKE\b|\bnow\(\)|\bclock_timestamp\b|\bCOPY\s+\w|\btxid_\w+|\bDISTINCT\s+ON\b",
    "sums of no certain type": r"(?<!CAST\()\bsum\(",  # PostgreSQL's of BIGINT is no integer
}
"""What stands in `storage` alone, or in the migrations of an engine."""

STATEMENT = re.compile(
    r"\s*(SELECT|INSERT (INTO|OR)|UPDATE \w+ SET|DELETE FROM|WITH \w+|CREATE|ALTER|DROP|BEGIN|COMMIT|ROLLBACK|"
    r"SAVEPOINT|RELEASE|PRAGMA|LOCK|LISTEN|NOTIFY|PREPARE|SET \w+|VACUUM|REPLACE INTO)\b",
)
KEYED_OTHERWISE = {"meta", "incarnations", "calls", "migrations", "fleet"}
"""Tables of no customer; and calls, which are found by their id alone, the customer being the rest of the key."""


class Statement(NamedTuple):
    """A text of SQL: the module or file in which it stands, and where."""

    name: str
    where: str
    sql: str


def in_the_code() -> Iterator[Statement]:
    """Every text in the code that begins as a statement does; docstrings are none."""
    for module in modules():
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(module.tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                text = node.value
            else:
                continue
            if STATEMENT.match(text):
                yield Statement(module.name, module.where(node), text)


def in_the_migrations() -> list[Statement]:
    """Each file, without its comments."""
    files = sorted(MIGRATIONS.glob("*.sql"))
    return [Statement(one.name, one.name, re.sub(r"--.*", "", one.read_text("utf-8"))) for one in files]


def found(rules: dict[str, str], sql: str) -> list[str]:
    """The rules that a text breaks."""
    flags = re.IGNORECASE | re.DOTALL | re.MULTILINE
    return [name for name, pattern in rules.items() if re.search(pattern, sql, flags)]


def test_there_is_sql_to_read() -> None:
    """In the rooms that have any, and of both engines."""
    rooms = [statement.name.split(".")[0] for statement in in_the_code()]
    assert rooms.count("ledger") > 50
    assert rooms.count("storage") > 10
    names = {statement.name.split(".")[1] for statement in in_the_migrations()}
    assert names == {"sqlite", "postgres"}


def test_what_some_engine_lacks_stands_nowhere() -> None:
    """Neither in the code nor in a migration."""
    wrong = [
        f"{one.where}: {name}" for one in (*in_the_code(), *in_the_migrations()) for name in found(BANNED, one.sql)
    ]
    assert wrong == []


def test_what_one_engine_has_stands_in_its_module() -> None:
    """The ledger's statements are one text for all engines."""
    wrong = [
        f"{one.where}: {name}"
        for one in in_the_code()
        if not one.name.startswith("storage.")
        for name in found(OF_ONE_ENGINE, one.sql)
    ]
    assert wrong == []


def test_every_table_is_keyed_by_its_customer() -> None:
    """So that an engine which spreads one database over machines can keep a customer in one place."""
    tables = {}
    for statement in in_the_migrations():
        for name, body in re.findall(r"CREATE TABLE (\w+) \((.*?)\n\)", statement.sql, re.DOTALL):
            key = re.search(r"PRIMARY KEY \(([\w, ]+)\)", body) or re.search(r"(\w+) [\w \"]+ PRIMARY KEY", body)
            tables[statement.name, name] = key[1].split(", ") if key else []
    assert len(tables) > 20
    wrong = {table: key for table, key in tables.items() if key[:1] != ["customer"] and table[1] not in KEYED_OTHERWISE}
    assert wrong == {}
    assert all("customer" in key for (_, name), key in tables.items() if name == "calls")


def test_both_engines_have_the_same_columns() -> None:
    """Of each table, in the same order, whichever migration added them."""
    columns: dict[str, dict[str, list[str]]] = {"sqlite": {}, "postgres": {}}
    for statement in in_the_migrations():
        tables = columns[statement.name.split(".")[1]]
        for name, body in re.findall(r"CREATE TABLE (\w+) \((.*?)\n\)", statement.sql, re.DOTALL):
            tables[name] = re.findall(r"^\s+([a-z_0-9]+) [A-Z]", body, re.MULTILINE)
        for name, column in re.findall(r"ALTER TABLE (\w+) ADD COLUMN (\w+)", statement.sql):
            tables[name].append(column)
    assert columns["sqlite"] == columns["postgres"]
    assert {"customer", "sequence", "body", "calls"} <= set(columns["postgres"]["entries"])


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("SELECT pg_advisory_xact_lock(1)", "advisory locks"),
        ("SELECT pg_try_advisory_lock(1)", "advisory locks"),
        ("LISTEN changes", "LISTEN and NOTIFY"),
        ("SELECT pg_notify('a', 'b')", "LISTEN and NOTIFY"),
        ("CREATE TABLE t (id BIGSERIAL)", "numbers that count by themselves"),
        ("CREATE TABLE t (id BIGINT GENERATED ALWAYS AS IDENTITY)", "numbers that count by themselves"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)", "numbers that count by themselves"),
        ("SELECT nextval('s')", "sequences"),
        ("LOCK TABLE t", "locks of whole tables"),
        ("SELECT a FROM t FOR UPDATE SKIP LOCKED", "SKIP LOCKED"),
        ("PREPARE TRANSACTION 'x'", "two-phase commit"),
        ("CREATE TABLE t (a TEXT UNIQUE DEFERRABLE INITIALLY DEFERRED)", "deferred constraints"),
        ("CREATE TABLE t (a DOUBLE PRECISION)", "floating point"),
        ("SELECT a FROM t WHERE b = ? FOR UPDATE", "row locks"),
        ("SELECT a FROM t FOR SHARE", "row locks"),
        ("BEGIN", "transactions"),
        ("PRAGMA foreign_keys = ON", "settings"),
        ("SELECT * FROM unnest(?)", "arrays"),
        ("SELECT a FROM t WHERE b = ANY (?)", "arrays"),
        ("SELECT a->>'b' FROM t", "JSON operators"),
        ("SELECT json_extract(a, '$.b') FROM t", "JSON operators"),
        ("CREATE TRIGGER t BEFORE UPDATE ON t", "triggers and functions"),
        ("WITH gone AS (DELETE FROM t RETURNING *) SELECT 1", "CTEs that write"),
        ("SELECT a::text FROM t", "PostgreSQL's casts"),
        ("INSERT OR IGNORE INTO t VALUES (1)", "SQLite's own"),
        ("SELECT a FROM t WHERE b > now()", "PostgreSQL's own"),
        ("SELECT sum(a) FROM t", "sums of no certain type"),
    ],
)
def test_each_rule_finds_what_it_is_for(sql: str, rule: str) -> None:
    """The rules above can fail."""
    assert rule in found(BANNED | OF_ONE_ENGINE, sql)
    assert STATEMENT.match(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t (a) VALUES (?) ON CONFLICT (a) DO UPDATE SET a = excluded.a RETURNING a",
        "WITH RECURSIVE up AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM up) SELECT n FROM up",
        "SELECT a, count(*) FILTER (WHERE b IS NOT DISTINCT FROM ?) FROM t WHERE (a, b) > (?, ?) GROUP BY a",
        "SELECT CAST(sum(a) AS BIGINT) FROM t",
        "UPDATE t SET serial_number = ? WHERE locked = ? AND notify_at < ?",
    ],
)
def test_what_all_engines_have_is_let_through(sql: str) -> None:
    """And a rule that refuses everything would be found out."""
    assert found(BANNED | OF_ONE_ENGINE, sql) == []
