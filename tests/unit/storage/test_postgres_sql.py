"""The ledger's statements, as PostgreSQL takes them."""

from __future__ import annotations

import pytest

from sidecar.storage.postgres_sql import (
    NUMBERS,
    TEXTS,
    locking,
    numbered,
    over_columns,
    over_rows,
    owners,
    with_one,
    written,
)


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


def test_a_list_becomes_one_value() -> None:
    """Of one column, and of several."""
    assert with_one("SELECT a FROM t WHERE b = ? AND c IN ({})", 1) == "SELECT a FROM t WHERE b = ? AND c = (?)"
    assert with_one("SELECT a FROM t WHERE (b, c) IN (VALUES {})", 2) == "SELECT a FROM t WHERE (b, c) = (?, ?)"


def test_a_query_takes_rows() -> None:
    """One array for each parameter; each row says for which of them it is."""
    assert over_rows("SELECT a FROM t WHERE b = ? AND c = '?' LIMIT ?", ("text", "int8")) == (
        'SELECT found.*, given.number AS "#"'
        " FROM unnest($1::text[], $2::int8[]) WITH ORDINALITY AS given (v1, v2, number)"
        " CROSS JOIN LATERAL (SELECT a FROM t WHERE b = given.v1 AND c = '?' LIMIT given.v2) AS found"
    )


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM customers WHERE customer = ? FOR UPDATE", (0,)),
        ("SELECT a FROM g JOIN a ON a.customer = g.customer WHERE x = 'a ?' AND y = ? AND g.customer = ?", (1,)),
        ("SELECT 1 FROM t WHERE customer = ? AND (a, b) = (?, ?) AND customer = ?", (0, 3)),
        ("SELECT incarnation, sidecar FROM incarnations WHERE ended_at_ms IS NULL AND incarnation = (?)", ()),
        (
            "SELECT i.a, (SELECT m.b FROM meta AS m WHERE m.c = 'x') FROM incarnations AS i WHERE i.a = (?) FOR SHARE",
            (),
        ),
        ("INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", ()),
        ("SELECT i.a, (SELECT c.b FROM customers AS c) FROM incarnations AS i WHERE i.a = ?", None),
        ("SELECT name FROM meta AS m, customers WHERE name = ?", None),
        ("SELECT name FROM meta m, customers WHERE name = ?", None),
        ("SELECT name FROM meta JOIN customers ON name = customer", None),
        ("SELECT * FROM leases WHERE lease_id = ?", None),
        ("SELECT * FROM leases WHERE their_customer = ?", None),
        ("INSERT INTO calls (request_id, customer, sequence) VALUES (?, ?, ?) ON CONFLICT (a) DO NOTHING", (1,)),
        ("INSERT INTO calls (request_id, customer) VALUES (?, 'x')", None),
        ("UPDATE leases SET posted = ? WHERE customer = ? AND lease_id = ?", (1,)),
        ("UPDATE nodes SET customer = ?", None),
        ("UPDATE nodes SET customer = ? WHERE id = ?", None),
        ("DELETE FROM frozen WHERE customer = ? AND node = ?", (0,)),
    ],
)
def test_whose_rows_a_statement_means_is_read_from_it(sql: str, expected: tuple[int, ...] | None) -> None:
    """Which of its parameters say so; none of a table that is nobody's; None where it cannot be told."""
    assert owners(sql) == expected


def test_many_values_are_one_text() -> None:
    """Of texts and whole numbers, with and without NULL; true is 1."""
    assert written("text", ("a", "", "c")) == "a\x1f\x1fc"
    assert written("text", ("a", None)) == "a\x1f\x1e"
    assert written("int8", (1, -(2**63), None, True)) == "{1,-9223372036854775808,NULL,1}"
    insert = over_columns("INSERT INTO t (a, b, c) VALUES (?, ?, ?)", (TEXTS, NUMBERS, "bytea"))
    assert insert == (
        "INSERT INTO t (a, b, c)"
        " SELECT * FROM unnest(string_to_array($1, E'\\x1f', E'\\x1e'), $2::text::int8[], $3::bytea[])"
    )


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", ("a\x1fb", "c")),
        ("text", ("a\x1e", "c")),
        ("text", ("\x1e", None)),
        ("text", ("a", 5)),
        ("int8", (1, "2")),
        ("int8", (1, 2.0)),
        ("bytea", (b"a", b"b")),
    ],
)
def test_what_one_text_cannot_say_is_left_to_the_driver(kind: str, values: tuple[object, ...]) -> None:
    """A text with our own marks in it, and values of other types."""
    assert written(kind, values) is None
