"""Each command: what it asks of the ledger, what people read, and what programs read."""

from __future__ import annotations

import json
import time
from typing import Any

import click
import pytest

from sidecar.cli.budgets import PERIODS, WEEKDAYS
from sidecar.cli.main import COMMANDS, main
from sidecar.core.governance.decisions import Consulted, Decision, Source
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.periods import Weekday
from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState
from sidecar.ledger.http_problems import RequestRefused
from sidecar.ledger.views import EntryView, ExplainView, HoldersView, Leg, money
from tests.support.administration import USD, usage_view
from tests.unit.cli.conftest import Shell

DAY_MS = 86_400_000


def test_customers(shell: Shell) -> None:
    """Added with a wallet, listed, and told what to do next; twice is once."""
    assert "spend grants add acme" in shell.run("customers", "add", "acme").stdout
    assert "spend budgets set globex" in shell.run("customers", "add", "globex", "--wallet", "none").stdout
    shell.run("customers", "add", "acme")
    assert [(row["customer"], row["wallet"]) for row in shell.json("customers", "list")] == [
        ("acme", "required"),
        ("globex", "none"),
    ]
    table = shell.run("customers", "list").stdout.splitlines()
    assert table[0].split() == ["CUSTOMER", "WALLET", "TIMEZONE", "CREATED", "ENTRIES"]
    assert table[1].startswith("acme    ")


def test_a_customers_time_zone(shell: Shell) -> None:
    """Said with the customer or later; people are told from when it acts."""
    assert "time zone Asia/Tokyo" in shell.run("customers", "add", "acme", "--timezone", "Asia/Tokyo").stdout
    text = shell.run("customers", "timezone", "acme", "Europe/Berlin").stdout
    assert "follow Europe/Berlin, each from its next one on" in text
    assert "spend budgets list acme" in text
    assert [row["timezone"] for row in shell.json("customers", "list")] == ["Europe/Berlin"]


def test_the_words_for_periods_are_the_ledgers() -> None:
    """What the command line offers is what there is."""
    assert list(PERIODS) == [cadence.value for cadence in Cadence]
    assert list(WEEKDAYS) == [day.value for day in Weekday]


def test_customers_are_listed_over_pages(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a page: all are shown, once each."""
    monkeypatch.setattr("sidecar.cli.ledger_client.PAGE_ROWS", 2)
    for number in range(5):
        shell.run("customers", "add", f"c{number}")
    assert [row["customer"] for row in shell.json("customers", "list")] == [f"c{number}" for number in range(5)]


def test_nodes(acme: Shell) -> None:
    """Every node of a path."""
    acme.run("nodes", "add", "acme/department:analytics/team:data")
    assert [row["path"] for row in acme.json("nodes", "list", "acme")] == [
        "acme/department:analytics",
        "acme/department:analytics/team:data",
    ]
    assert "team" in acme.run("nodes", "list", "acme").stdout


def test_freezing(acme: Shell) -> None:
    """L35: what is frozen, since when and why; the answer says how many sidecars go by it, and waits for them."""
    acme.run("nodes", "add", "acme/team:data")
    waiting = HoldersView("acme", 3, 2, 1, ("checkout",))
    acme.administration.held = [waiting, HoldersView("acme", 3, 2, 2)]
    text = acme.run("nodes", "freeze", "acme/team:data", "--reason", "a runaway job").stdout
    assert "acme/team:data is frozen. `spend nodes unfreeze acme/team:data --reason WHY` ends that." in text
    assert "2 of 2 sidecars that hold anything of acme go by it." in text
    (row,) = acme.json("nodes", "freeze", "acme/user:ada", "--reason", "a leaked key")
    assert (row["path"], row["frozen"], row["reason"]) == ("acme/user:ada", True, "a leaked key")
    assert row["heard"] == {"holders": 2, "acknowledged": 2, "waiting": []}
    assert [node["frozen"] for node in acme.json("nodes", "list", "acme")] == [True]
    table = acme.run("nodes", "list", "acme", "--frozen").stdout
    assert "acme/user:ada" in table
    assert "a runaway job" in table
    acme.run("nodes", "unfreeze", "acme/user:ada", "--reason", "key changed")
    assert [one["path"] for one in acme.json("nodes", "list", "acme", "--frozen")] == ["acme/team:data"]


def test_moving(acme: Shell) -> None:
    """What moved, where it stands now, and who goes by it."""
    acme.run("nodes", "add", "acme/department:a/team:data")
    acme.run("nodes", "add", "acme/department:b")
    move = ("nodes", "move", "acme/department:a/team:data", "--to", "acme/department:b", "--reason", "reorganised")
    text = acme.run(*move).stdout
    assert "Node acme/department:b/team:data." in text
    assert "2 of 2 sidecars" in text
    (row,) = acme.json(
        "nodes", "move", "acme/department:b/team:data", "--to", "acme/department:a", "--reason", "by mistake"
    )
    assert [one["path"] for one in row["rows"]] == ["acme/department:a/team:data"]
    assert row["heard"]["acknowledged"] == 2
    assert "--to" in acme.run("nodes", "move", "acme/team:data", "--reason", "x", code=2).stderr


def test_who_has_not_heard(acme: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while it is not waited for any more: who it is, and what to type."""
    monkeypatch.setattr("sidecar.cli.heard.WAIT_S", 0.0)
    acme.administration.held = [HoldersView("acme", 3, 9, 2, tuple(f"s{n}" for n in range(7)))]
    for arguments in (("nodes", "freeze", "acme", "--reason", "x"), ("customers", "holders", "acme")):
        text = acme.run(*arguments).stdout
        assert "2 of 9" in text
        assert "s0, s1, s2, s3, s4, …" in text
        assert "`spend customers holders acme` counts again" in text
    assert acme.json("customers", "holders", "acme")[0]["acknowledged"] == 2
    acme.administration.held = [HoldersView("acme", 3, 0, 0)]
    assert "No sidecar holds anything of acme" in acme.run("customers", "holders", "acme").stdout


def test_who_may_not_see_the_holders_is_told_what_was_done(acme: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of one node: the act is done, and its answer is shown, to people and to programs."""

    async def forbidden(_customer: str) -> HoldersView:
        raise RequestRefused("forbidden", "this token is of one node")

    monkeypatch.setattr(acme.administration, "holders", forbidden)
    own = ("budgets", "set", "acme/user:ada", "--limit", "5", "--per", "day", "--guardrail")
    assert (
        acme.run(*own).stdout
        == "Budget budget_1: acme/user:ada may spend 5.00 usd per day (hard, its own guardrail).\n"
    )
    assert acme.json(*own)[0]["guardrail"]


def test_ending_what_was_given(acme: Shell) -> None:
    """A grant voided, a budget removed, by the names that their lists show; programs get the ledger's words."""
    for number in (1, 2):
        acme.run("grants", "add", "acme", "12.5")
        acme.run("budgets", "set", "acme", "--limit", "5", "--per", "day")
        grant, budget = f"grant_{number}", f"budget_{number}"
        assert grant in acme.run("grants", "list", "acme").stdout
        assert budget in acme.run("budgets", "list", "acme").stdout
        void = ("grants", "void", "acme", grant, "--reason", "given by mistake")
        remove = ("budgets", "remove", "acme", f"budget_{number}", "--reason", "no longer needed")
        if number == 1:
            text = acme.run(*void).stdout
            assert "Grant grant_1 of acme is void: of 12.50 usd, 0.00 were consumed, 12.50 are revoked" in text
            assert "2 of 2 sidecars" in text
            assert "void" in acme.run("grants", "list", "acme").stdout
            assert "Budget budget_1 is removed. It was: acme may spend 5.00 usd per day" in acme.run(*remove).stdout
        else:
            assert (acme.json(*void)[0]["voided"], acme.json(*remove)[0]["budget_id"]) == (True, budget)
    assert acme.json("budgets", "list", "acme") == []


def test_an_act_without_a_reason(acme: Shell) -> None:
    """Exit 2, and nothing is sent: an entry says why."""
    for act in (("nodes", "freeze", "acme"), ("grants", "void", "acme", "g"), ("budgets", "remove", "acme", "b")):
        assert "--reason" in acme.run(*act, code=2).stderr
    assert len(acme.administration.acts) == 1


def test_grants(acme: Shell) -> None:
    """All that can be said of a grant reaches the ledger; durations are from now."""
    acme.run("grants", "add", "acme", "12.5")
    before_ms = int(time.time() * 1000)
    acme.run(
        "grants", "add", "acme", "3", "--category", "promotional", "--priority", "-2", "--expires", "30d",
        "--effective", "2026-12-01", "--model", "gpt-4o*", "--model", "claude-*", "--feature", "chat",
    )  # fmt: skip
    plain, scoped = acme.json("grants", "list", "acme")
    assert (plain["issued"]["text"], plain["category"], plain["expires_at_ms"]) == ("12.50", "paid", None)
    assert (scoped["category"], scoped["priority"]) == ("promotional", -2)
    assert (scoped["models"], scoped["features"]) == (["gpt-4o*", "claude-*"], ["chat"])
    assert 0 <= scoped["expires_at_ms"] - (before_ms + 30 * DAY_MS) < 10_000
    assert scoped["effective_at_ms"] == 1_796_083_200_000
    assert "12.50 usd" in acme.run("grants", "list", "acme").stdout


def test_budgets(acme: Shell) -> None:
    """All that can be said of a budget reaches the ledger."""
    acme.run("budgets", "set", "acme", "--limit", "500", "--per", "month")
    acme.run(
        "budgets", "set", "acme/team:data", "--limit", "0.25", "--per", "lifetime",
        "--match", "agent=pipeline,model=gpt-*", "--each", "session", "--soft",
    )  # fmt: skip
    plain, scoped = acme.json("budgets", "list", "acme")
    assert (plain["limit"]["text"], plain["per"], plain["hard"], plain["each"]) == ("500.00", "month", True, "")
    assert scoped["path"] == "acme/team:data"
    assert (scoped["match"], scoped["each"], scoped["hard"]) == (
        {"agent": "pipeline", "model": "gpt-*"},
        "session",
        False,
    )
    acme.run("budgets", "set", "acme", "--limit", "5", "--per", "week", "--week-start", "sunday")
    assert (
        "per week from sunday"
        in acme.run("budgets", "set", "acme", "--limit", "5", "--per", "week", "--week-start", "sunday").stdout
    )
    acme.run("budgets", "set", "acme", "--limit", "5", "--per", "year", "--anchor", "2026-04-06")
    windowed = acme.run("budgets", "set", "acme/user:ada", "--limit", "5", "--per", "window", "--length", "5h").stdout
    assert "per window of 5h" in windowed
    assert acme.json("budgets", "list", "acme")[-1]["window_s"] == 5 * 3600
    parts = ("budgets", "set", "acme/team:data", "--limit", "5", "--per", "week", "--kind", "allocation")
    assert "a part of the budget above it" in acme.run(*parts).stdout
    own = ("budgets", "set", "acme/user:ada", "--limit", "5", "--per", "week", "--guardrail")
    assert "its own guardrail" in acme.run(*own).stdout
    assert [(row["kind"], row["guardrail"]) for row in acme.json("budgets", "list", "acme")[-2:]] == [
        ("allocation", False),
        ("cap", True),
    ]
    assert [row["anchor"] for row in acme.json("budgets", "list", "acme")[2:5]] == ["sunday", "sunday", "2026-04-06"]
    table = acme.run("budgets", "list", "acme").stdout
    assert "year from 2026-04-06" in table
    assert "agent=pipeline,model=gpt-* each session" in table
    assert "soft" in table


def test_balance(acme: Shell) -> None:
    """One object for programs; for people the amounts, the grants and the budgets."""
    acme.run("grants", "add", "acme", "7")
    acme.run("budgets", "set", "acme", "--limit", "5", "--per", "day")
    balance = acme.json("balance", "acme")[0]
    assert balance["available"] == [{"currency": "usd", "atoms": 7_000_000_000, "scale": 9, "text": "7.00"}]
    text = acme.run("balance", "acme").stdout
    assert "available  7.00 usd" in text
    assert "grant_1" in text
    assert "5.00 usd" in text


def test_usage(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """One object a line over all pages, with what scripts rely on; unknown is shown as unknown, not as zero."""
    monkeypatch.setattr("sidecar.cli.ledger_client.PAGE_ROWS", 2)
    shell.administration.calls = [usage_view(number) for number in range(1, 5)]
    shell.administration.calls.append(
        usage_view(5, customer="globex", charge=None, usage={}, flags=("estimated",), model="who\x1b[2Jknows")
    )
    rows = shell.json("usage")
    assert [row["request_id"] for row in rows] == [f"req_{number}" for number in range(1, 6)]
    wanted = {"request_id", "customer", "path", "user", "agent", "session", "feature", "provider", "model", "state"}
    assert wanted | {"usage", "charge"} <= set(rows[0])
    assert rows[0]["charge"] == {"currency": "usd", "atoms": 4500, "scale": 9, "text": "0.0000045"}
    assert rows[4]["charge"] is None
    assert [row["customer"] for row in shell.json("usage", "--customer", "globex")] == ["globex"]
    assert shell.json("usage", "--since", "2035-01-01") == []
    table = shell.run("usage", "--customer", "globex").stdout
    assert "who\N{REPLACEMENT CHARACTER}[2Jknows" in table
    last = table.splitlines()[-1].split()
    assert last[-4:] == ["?", "final", "estimated", "-"]
    assert shell.run("usage", "--since", "2035-01-01").stdout == "No settled calls.\n"


CONSULTED = Consulted(
    kind="budget", id="b1", owner="acme/team:data", currency="usd", limit=300_000, used=100_000, held=50_000,
    elsewhere=0, remaining=150_000, cadence=Cadence.DAY, resets_in_ms=7_200_000, lease_age_ms=340,
)  # fmt: skip


def explained(**changes: Any) -> ExplainView:
    """A settled call."""
    decision = Decision(
        source=Source.LEASE, ceiling_atoms=50_000, standing_age_ms=12, lease_age_ms=340, plan="default@1",
        rate_card="openai/gpt-4o-mini", catalog_sha256="c0ffee", consulted=(CONSULTED,),
    )  # fmt: skip
    facts: dict[str, Any] = {
        "request_id": "req_1",
        "outcome": "settled",
        "customer": "acme",
        "subject": {"customer": "acme", "path": "team:data", "user": "ada"},
        "provider": "openai",
        "model": "gpt-4o-mini",
        "ceiling": money(50_000, USD),
        "held": money(50_000, USD),
        "charge": money(4_500, USD),
        "decision": decision,
        "usage": Usage(UsageState.FINAL, (Line(Tokens(input_tokens=10, output_tokens=5)),)),
    }
    return ExplainView(**facts | changes)


def test_explain(shell: Shell) -> None:
    """L34, L50: the ceiling, the hold, the charge, and every budget consulted, with its figures and lease age."""
    shell.administration.explained["req_1"] = explained()
    shell.administration.explained["req_2"] = explained(
        request_id="req_2", outcome="denied", reason="budget_exceeded", detail="the day's budget is spent", charge=None
    )
    text = shell.run("explain", "req_1").stdout
    for words in ("settled", "0.00005 usd", "0.0000045 usd", "input 10, output 5 (final)", "340 ms", "c0ffee"):
        assert words in text
    row = text.splitlines()[-1].split("  ")
    cells = [cell.strip() for cell in row if cell.strip()]
    figures = ["0.0003 usd", "day", "hard", "0.0001", "0.00005", "0.00", "0.00015", "in 2.0 h", "340 ms"]
    assert cells == ["budget", "acme/team:data", "b1", *figures]
    denial = shell.run("explain", "req_2").stdout
    assert "denied, budget_exceeded" in denial
    assert "the day's budget is spent" in denial
    assert shell.json("explain", "req_1")[0]["decision"]["consulted"][0]["limit"] == 300_000


def test_journal(acme: Shell) -> None:
    """Entries of a kind, with their moves."""
    legs = (Leg("grant:g", "available", "usd", -5), Leg("grant:g", "consumed", "usd", 5))
    acme.administration.journal = [
        EntryView("acme", 1, "grant_issued", "k1", "admin", 1, 1, (), {"a": 1}, "aa" * 32),
        EntryView("acme", 2, "usage", "k2", "sidecar", 1, 1, legs, {}, "bb" * 32),
    ]
    assert [row["sequence"] for row in acme.json("journal", "acme")] == [1, 2]
    assert [row["sequence"] for row in acme.json("journal", "acme", "--kind", "usage")] == [2]
    assert "grant:g.available-5 grant:g.consumed+5" in acme.run("journal", "acme").stdout


def test_verify_fails_where_the_book_does(acme: Shell) -> None:
    """L8: exit code 1, and every problem named, in both manners."""
    assert "all well" in acme.run("verify", "acme").stdout
    assert acme.json("verify", "acme")[0]["problems"] == []
    acme.administration.problems = ("entry 3 does not follow entry 2",)
    assert "entry 3" in acme.run("verify", "acme", code=1).stderr
    assert json.loads(acme.run("verify", "acme", "--json", code=1).stdout)["problems"] == [
        "entry 3 does not follow entry 2"
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(shell: Shell, command: str) -> None:
    """The list in the help is the list of modules, and each tells what it is for."""
    text = shell.run(command, "--help").stdout
    assert text.startswith("Usage: ")
    assert "Options:" in text
    assert command in shell.run("--help").stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is_for(command: str) -> None:
    """Of each command, and of those below it."""
    waiting = [main.get_command(click.Context(main), command)]
    while waiting:
        one = waiting.pop()
        assert one is not None
        assert [param.opts for param in one.params if isinstance(param, click.Option) and not param.help] == []
        waiting += one.commands.values() if isinstance(one, click.Group) else ()


def test_a_choice_that_was_not_made_is_told_in_a_line(shell: Shell) -> None:
    """Its words, one after another."""
    told = shell.run("budgets", "set", "acme", "--limit", "1", code=2).stderr
    assert told.rstrip().endswith(f"'--per'. Choose from {', '.join(PERIODS)}.")
