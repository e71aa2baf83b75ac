"""`spend usage --by`: sums that add up, in three forms, and the list of calls left as it was."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys

import pytest

from sidecar.cli.sums import COUNTERS
from sidecar.cli.usage import GROUPINGS, THIS
from sidecar.core.pricing.usage import Tokens
from sidecar.ledger import summing
from sidecar.ledger.views import SumView, money
from tests.support.administration import USD, usage_view
from tests.unit.cli.conftest import Shell


def part(group: str | None, calls: int, atoms: int | None, *, by: str = "model", **usage: int | None) -> SumView:
    """One group of one page."""
    counted: dict[str, int | None] = dict.fromkeys(summing.COUNTERS) | {"input_tokens": 10 * calls} | usage
    return SumView(by, group, calls, 0, counted, None if atoms is None else money(atoms, USD))


@pytest.fixture
def summed(shell: Shell) -> Shell:
    """Three pages in which one model comes twice, one call has no model, and one no price."""
    shell.administration.summed = [
        [part("gpt-4o", 2, 75_001), part("who", 1, None)],
        [part("gpt-4o", 3, 25_000, output_tokens=7), part("claude", 1, 1)],
        [part(None, 1, 500)],
    ]
    return shell


def test_the_groupings_are_the_ledgers() -> None:
    """They are named twice, so that the help needs none of the ledger."""
    assert GROUPINGS == summing.GROUPINGS
    assert COUNTERS == summing.COUNTERS
    assert set(COUNTERS) <= set(Tokens.__struct_fields__)


def test_the_running_periods_are_the_ledgers(summed: Shell) -> None:
    """Named twice as well; what is asked for is asked of the ledger, and only with what it needs."""
    assert list(THIS) == [cadence.value for cadence in summing.THIS]
    summed.run("customers", "add", "acme")
    summed.run("usage", "--by", "model", "--customer", "acme", "--this", "month")
    assert summed.administration.asked_by[0] == "model this month"
    for missing in (("--by", "model"), ("--customer", "acme")):
        assert (
            "spend usage --customer C --this month --by team"
            in summed.run("usage", "--this", "month", *missing, code=2).stderr
        )


def test_pages_become_one_table(summed: Shell) -> None:
    """Each group once, the dearest first, what has no price last; the totals are the sums of the rows."""
    lines = [line.split() for line in summed.run("usage", "--by", "model").stdout.splitlines()]
    assert lines[0] == ["MODEL", "CALLS", "INPUT", "CACHED", "OUTPUT", "CHARGE"]
    assert lines[1:] == [
        ["gpt-4o", "5", "50", "-", "7", "0.000100001", "usd"],
        ["-", "1", "10", "-", "-", "0.0000005", "usd"],
        ["claude", "1", "10", "-", "-", "0.000000001", "usd"],
        ["who", "1", "10", "-", "-", "-"],
        ["total", "7", "70", "-", "7", "0.000100502", "usd"],
        ["total", "1", "10", "-", "-", "-"],
    ]
    assert summed.administration.asked_by == ["model"] * 3


def test_bars(summed: Shell) -> None:
    """Only when asked for where there is no terminal; the dearest is full, and whatever cost something shows."""
    assert "█" not in summed.run("usage", "--by", "model").stdout
    rows = summed.run("usage", "--by", "model", "--bars").stdout.splitlines()
    assert [len(row.split()[-1]) for row in rows[1:2]] == [24]
    assert rows[3].endswith("▏")
    assert not re.search("[█▏]", "".join(rows[4:]))


def test_objects(summed: Shell) -> None:
    """Null for what a group does not have, whole atoms, one object a line."""
    rows = summed.json("usage", "--by", "model")
    assert [row["group"] for row in rows] == ["gpt-4o", None, "claude", "who"]
    assert rows[0]["charge"] == {"currency": "usd", "atoms": 100_001, "scale": 9, "text": "0.000100001"}
    assert (rows[3]["charge"], rows[3]["usage"]["output_tokens"]) == (None, None)


def test_comma_separated(shell: Shell) -> None:
    """Titles, a line each, no totals; a name that a spreadsheet would compute is made harmless."""
    shell.administration.summed = [[part("=1+1", 1, 5), part("@x", 1, 4), part('a,"b', 1, 3), part(None, 1, 2)]]
    rows = list(csv.DictReader(io.StringIO(shell.run("usage", "--by", "model", "--csv").stdout)))
    assert [row["model"] for row in rows] == ["'=1+1", "'@x", 'a,"b', "-"]
    assert [int(row["atoms"]) for row in rows] == [5, 4, 3, 2]
    assert (rows[0]["charge"], rows[0]["currency"], rows[0]["output_tokens"]) == ("0.000000005", "usd", "-")


def test_time_goes_forward(shell: Shell) -> None:
    """Days in their order, whatever they cost."""
    shell.administration.summed = [[part("2026-11-24", 1, 9, by="day"), part("2026-11-23", 1, 1, by="day")]]
    assert [row["group"] for row in shell.json("usage", "--by", "day")] == ["2026-11-23", "2026-11-24"]


def test_sums_larger_than_any_page(shell: Shell) -> None:
    """Pages are bounded so that each is a number; their sum may be larger, and is exact."""
    shell.administration.summed = [[part("m", 1, 2**62 - 1)], [part("m", 1, 2**62 - 1)], [part("m", 1, 2**62 - 1)]]
    assert shell.json("usage", "--by", "model")[0]["charge"]["atoms"] == 3 * (2**62 - 1)


def test_nothing_to_sum(shell: Shell) -> None:
    """A sentence, and for programs nothing."""
    assert "No settled calls" in shell.run("usage", "--by", "day").stdout
    assert shell.run("usage", "--by", "day", "--json").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--by", "modle"), "Did you mean model?"),
        (("--by", "project"), "node:KIND"),
        (("--csv",), "add --by"),
        (("--bars",), "add --by"),
        (("--by", "day", "--csv", "--json"), "two forms"),
    ],
)
def test_mistakes(shell: Shell, arguments: tuple[str, ...], words: str) -> None:
    """Exit 2, and what to type."""
    assert words in shell.run("usage", *arguments, code=2).stderr
    assert shell.administration.asked_by == []


def test_the_list_of_calls_is_what_it_was(shell: Shell) -> None:
    """`spend usage --json`: the ledger's own bytes, one settled call a line; scripts rely on it."""
    shell.administration.calls = [usage_view(1)]
    assert shell.run("usage", "--json").stdout == (
        '{"request_id":"req_1","sequence":1,"recorded_at_ms":1795000000001,"occurred_at_ms":1795000000000,'
        '"customer":"acme","path":"team:data","user":"ada","agent":"pipeline","session":"s1","feature":"",'
        '"product":"","provider":"openai","protocol":"openai_chat","model":"gpt-4o-mini","state":"final",'
        '"status":200,"ending":"complete","usage":{"input_tokens":10,"output_tokens":5},"charge":{"currency":"usd",'
        '"atoms":4500,"scale":9,"text":"0.0000045"},"flags":[]}\n'
    )


def test_bars_where_the_output_has_no_blocks(summed: Shell) -> None:
    """A terminal without UTF-8 gets plain signs, not an error."""
    done = subprocess.run(
        [sys.executable, "-m", "sidecar.cli.main", "usage", "--by", "model", "--bars", "--data", str(summed.data)],
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "#" * 24 in done.stdout
