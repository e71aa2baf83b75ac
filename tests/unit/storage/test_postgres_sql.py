"""The ledger's statements, as PostgreSQL takes them."""

from __future__ import annotations

import pytest

from sidecar.storage.postgres_sql import locking, numbered, over_columns


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", "SELECT 1"),
        ("SELECT a FROM t WHERE b = ? AND c IN (?, ?)", "SELECT a FROM t WHERE b = $1 AND c IN ($2, $3)"),
        ("SELECT a FROM t WHERE b = '?' AND c = ?", "SELECT a FROM t WHERE b = '?' AND c = $1"),
        ("SELECT '' || ? || 'it''s ?' || ?", "SELECT '' || $1 || 'it''s ?' || $2"),
    ],
)
def test_parameters_are_numbered_outside_of_texts(sql: str, expected: str) -> None:
    """In the order in which they stand; what is quoted is left alone."""
    assert numbered(sql) == expected


def test_an_insert_takes_columns() -> None:
    """One array for each parameter; what follows the values stays."""
    sql = "INSERT INTO t (a, b) VALUES (?, ?) ON CONFLICT (a) DO UPDATE SET b = excluded.b"
    expected = (
        "INSERT INTO t (a, b) SELECT * FROM unnest($1::text[], $2::int8[]) ON CONFLICT (a) DO UPDATE SET b = excluded.b"
    )
    assert over_columns(sql, ("text", "int8")) == expected


def test_an_update_takes_columns() -> None:
    """Rows are told apart by the keys of the WHERE."""
    assert over_columns("UPDATE t SET a = ?, b = ? WHERE c = ? AND d = ?", ("int8", "text", "text", "text")) == (
        "UPDATE t SET a = new.v0, b = new.v1"
        " FROM unnest($1::int8[], $2::text[], $3::text[], $4::text[]) AS new (v0, v1, v2, v3)"
        " WHERE t.c = new.v2 AND t.d = new.v3"
    )


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t (a) VALUES (? + 1)",
        "UPDATE t SET a = a + ? WHERE b = ?",
        "UPDATE t SET a = ? WHERE b = ? OR c = ?",
        "DELETE FROM t WHERE a = ?",
    ],
)
def test_what_is_no_plain_row_is_left_alone(sql: str) -> None:
    """It is then done once for each set of values."""
    assert over_columns(sql, ("int8",) * sql.count("?")) is None


def test_a_lock_is_one_of_two() -> None:
    """Against any other, or only against changes."""
    assert locking("SELECT 1 FROM t", share=False) == "SELECT 1 FROM t FOR UPDATE"
    assert locking("SELECT 1 FROM t", share=True) == "SELECT 1 FROM t FOR SHARE"
