"""`spend limits`: how fast, and at once; what is typed wrong says what to type."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import Shell


def test_they_are_set_listed_and_removed(acme: Shell) -> None:
    """In words, and as JSON for programs; a minute where nothing else is said, and no window for calls at once."""
    done = acme.run("limits", "set", "acme", "--requests", "600")
    assert "acme may use 600 requests in any 1m" in done.stdout
    acme.run(
        "limits", "set", "acme/user:ada", "--tokens", "9", "--per", "10s", "--match", "model=gpt-*", "--each", "agent"
    )
    at_once = acme.run("limits", "set", "acme", "--concurrent", "2").stdout
    assert "acme may have 2 calls under way at once" in at_once
    table = acme.run("limits", "list", "acme").stdout.splitlines()
    assert table[0].split() == ["PATH", "COUNTS", "LIMIT", "PER", "CALLS", "RATE", "LIMIT"]
    assert table[2].split() == ["acme/user:ada", "tokens", "9", "10s", "model=gpt-*", "each", "agent", "rate_2"]
    rows = acme.json("limits", "list", "acme")
    assert [(row["counts"], row["window_s"]) for row in rows] == [("requests", 60), ("tokens", 10), ("concurrent", 0)]
    assert "rate_1 is removed" in acme.run("limits", "remove", "acme", "rate_1", "--reason", "too narrow").stdout
    assert len(acme.json("limits", "list", "acme")) == 2


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ((), "--requests N"),
        (("--requests", "1", "--tokens", "1"), "Say one of"),
        (("--concurrent", "1", "--per", "1m"), "leave --per out"),
        (("--requests", "-1"), "x>=0"),
    ],
)
def test_mistakes_say_what_to_type(acme: Shell, said: tuple[str, ...], told: str) -> None:
    """Exit code 2, and nothing is set."""
    assert told in acme.run("limits", "set", "acme", *said, code=2).stderr
    assert "spend limits set acme" in acme.run("limits", "list", "acme").stdout
