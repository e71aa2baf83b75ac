"""The command line against a running product: sums, a watch, a simulation and a doctor that agree with the book."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.llm_provider import Plan, running_provider
from tests.support.product import Product, provider_environment, running_product
from tests.unit.source_tree import ROOT

README = ROOT / "README.md"
ASK = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
GROUPINGS = ("day", "hour", "month", "model", "team", "department", "user", "agent", "session", "feature", "provider",
             "customer", "product", "node:team")  # fmt: skip


def call(product: Product, body: Mapping[str, Any] = ASK, **said: str) -> httpx.Response:
    """One call; `said` are Spend- headers."""
    headers = {"authorization": "Bearer x", "spend-customer": "acme"}
    headers |= {f"spend-{name}": value for name, value in said.items()}
    return httpx.post(f"{product.proxy}/v1/chat/completions", json=body, headers=headers, timeout=30)


def lines(product: Product, *arguments: str) -> list[dict[str, Any]]:
    """A command's objects."""
    return [json.loads(line) for line in product.spend(*arguments, "--json").stdout.splitlines()]


@pytest.fixture(scope="module")
def trading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product with two customers: acme's six calls stay as they are, globex makes more from test to test.

    acme's are of three users and two models, two of them from within a tree.
    """
    data = tmp_path_factory.mktemp("trading") / "data"
    with running_provider() as provider, running_product(data, provider_environment(provider.address)) as product:
        provider.plan = Plan(usage=lambda body, _raw: (10 + len(body["messages"][0]["content"]), 5))
        product.spend("customers", "add", "acme", "--wallet", "none")
        product.spend("nodes", "add", "acme/department:analytics/team:data")
        product.spend("budgets", "set", "acme", "--limit", "1", "--per", "day")
        product.spend("customers", "add", "globex")
        product.spend("grants", "add", "globex", "5")
        product.spend("budgets", "set", "globex", "--limit", "1", "--per", "day")
        for number in range(6):
            message = {"role": "user", "content": "x" * number}
            body = ASK | {"model": ("gpt-4o-mini", "gpt-4o")[number % 2], "messages": [message]}
            place = {"path": "team:data"} if number < 2 else {}
            assert call(product, body, user=f"u{number % 3}", **place).status_code == 200
        assert call(product, customer="globex").status_code == 200
        yield product


@pytest.mark.parametrize("by", GROUPINGS)
def test_sums_are_the_list_added_up(trading: Product, by: str) -> None:
    """To the atom and to the token, as objects and as a table, and to what the balances say."""
    calls = lines(trading, "usage")
    charged = sum(one["charge"]["atoms"] for one in calls)
    sums = lines(trading, "usage", "--by", by)
    assert sum(one["charge"]["atoms"] for one in sums) == charged
    assert sum(one["calls"] for one in sums) == len(calls) >= 7
    for counter in ("input_tokens", "output_tokens"):
        assert sum(one["usage"][counter] for one in sums) == sum(one["usage"][counter] for one in calls)
    total = trading.spend("usage", "--by", by).stdout.splitlines()[-1].split()
    assert total[:2] == ["total", str(len(calls))]


def test_groups(trading: Product) -> None:
    """Each call in its own; what has none, under -; one customer's only; and the same as comma-separated lines."""
    teams = {one["group"]: one["calls"] for one in lines(trading, "usage", "--by", "team", "--customer", "acme")}
    assert teams == {"data": 2, None: 4}
    text = trading.spend("usage", "--by", "user", "--customer", "acme", "--csv").stdout
    rows = {row["user"]: row for row in csv.DictReader(io.StringIO(text))}
    assert {user: row["calls"] for user, row in rows.items()} == {"u0": "2", "u1": "2", "u2": "2"}
    consumed = trading.balance("acme")["consumed"][0]["atoms"]
    assert sum(int(row["atoms"]) for row in rows.values()) == consumed > 0
    assert "\n-  " in trading.spend("usage", "--by", "agent").stdout
    assert lines(trading, "usage", "--by", "day", "--since", "2035-01-01") == []
    refused = trading.spend("usage", "--by", "node:", check=False)
    assert (refused.returncode, "expected one of day, hour" in refused.stderr) == (1, True)
    assert "spend customers add" in trading.spend("usage", "--by", "day", "--customer", "nobody", check=False).stderr


def test_three_questions_are_three_commands(trading: Product) -> None:
    """Those of the README, as they stand there: each team's use, what is left, what one job may use."""
    trading.spend("budgets", "set", "acme/department:analytics", "--limit", "0.5", "--per", "month")
    trading.spend("budgets", "set", "acme", "--limit", "500", "--per", "lifetime", "--match", "agent=pipeline",
                  "--each", "session")  # fmt: skip
    trading.spend("budgets", "set", "acme", "--limit", "300", "--per", "lifetime", "--match", "agent=other",
                  "--each", "session")  # fmt: skip
    asked = re.findall(r"^\$ spend (usage .*--this .*|budgets list .*)$", README.read_text("utf-8"), re.MULTILINE)
    each_team, left, one_job = (trading.spend(*words.split()).stdout for words in asked)
    rows = {line.split()[0]: line.split() for line in each_team.splitlines()}
    assert (rows["data"][1], rows["-"][1], rows["total"][1]) == ("2", "4", "6")
    used = lines(trading, "usage", "--customer", "acme", "--this", "month", "--by", "team")
    of_data = next(one["charge"]["atoms"] for one in used if one["group"] == "data")
    (remaining,) = re.findall(r"^Left now: (\S+) usd, by the budget of acme/department:analytics per month", left, re.M)
    leased = next(row for row in lines(trading, "budgets", "list", "acme/department:analytics") if "/" in row["path"])
    assert round(float(remaining) * 10**9) == 500_000_000 - of_data - leased["children"][0]["leased"]["atoms"]
    assert "One session at most: 500.00 usd, by the budget of acme for agent=pipeline in its lifetime." in one_job
    assert "agent=other" not in one_job


def test_a_simulation_is_what_the_sidecar_does(trading: Product, tmp_path: Path) -> None:
    """The ceiling is that which was decided by, and the charge that which was booked."""
    answer = call(trading, customer="globex")
    ask, usage = tmp_path / "ask.json", tmp_path / "answer.json"
    ask.write_bytes(answer.request.content)
    usage.write_bytes(answer.content)
    command = [sys.executable, "-m", "sidecar.cli.main", "simulate", str(ask), "--usage", str(usage), "--json"]
    done = subprocess.run(command, env=trading.environment, capture_output=True, text=True, timeout=60, check=True)
    simulated = json.loads(done.stdout)
    (explained,) = lines(trading, "explain", answer.headers["spend-request-id"])
    assert simulated["ceiling"] == explained["ceiling"]
    assert simulated["charge"] == explained["charge"]
    assert simulated["charge"]["atoms"] > 0


def test_a_watch_sees_spend_holds_and_denials(trading: Product) -> None:
    """While it runs: what a call costs, and that another was denied, with the reason."""
    command = [sys.executable, "-m", "sidecar.cli.main", "watch", "--interval", "0.2", "--json"]
    with subprocess.Popen(
        [*command, "--data", str(trading.data)], env=trading.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        before = json.loads(process.stdout.readline())
        assert call(trading, customer="globex").status_code == 200
        assert call(trading, customer="nobody").status_code == 403
        after = before
        for _ in range(50):
            after = json.loads(process.stdout.readline())
            if after["sidecar"]["denied"] and used_and_leased(after)[0] > used_and_leased(before)[0]:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        process.stdout.read()
    assert after["sidecar"]["denied"] == {"customer_unknown": 1}
    assert after["sidecar"]["admitted"] == before["sidecar"]["admitted"] + 1
    assert used_and_leased(after)[0] > used_and_leased(before)[0] > 0
    assert used_and_leased(after)[1] > 0
    assert "customer_unknown 1" in trading.spend("watch", "--once").stdout.splitlines()[0]


def used_and_leased(tick: Mapping[str, Any]) -> tuple[int, int]:
    """Of globex's budget, in atoms."""
    globex = next(one for one in tick["customers"] if one["customer"] == "globex")
    account = globex["budgets"][0]["children"][0]
    return account["used"]["atoms"], account["leased"]["atoms"]


def doctor(product: Product, said: Mapping[str, str]) -> tuple[int, dict[str, dict[str, Any]], set[str]]:
    """Exit code, findings by check, and which of them are problems; in a shell that says these variables."""
    command = [sys.executable, "-m", "sidecar.cli.main", "doctor", "--json", "--data", str(product.data)]
    environment = {**product.environment, **said}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    found = {one["check"]: one for one in map(json.loads, done.stdout.splitlines())}
    return done.returncode, found, {check for check, one in found.items() if one["state"] == "problem"}


def test_a_doctor_for_what_is_well(trading: Product) -> None:
    """Nothing is a problem, everything answers, and looking leaves no trace in the sidecar's counts."""
    said = {
        "OPENAI_BASE_URL": f"{trading.proxy}/v1",
        "ANTHROPIC_BASE_URL": trading.proxy,
        "SPEND_DOOR__MAX_CONNECTIONS": "50",
    }
    code, found, problems = doctor(trading, said)
    assert (code, problems) == (0, set())
    for check in ("ledger", "clock", "sidecar", "health", "outbox", "folder", "upstream openai", "OPENAI_BASE_URL",
                  "customers", "models", "leases"):  # fmt: skip
        assert found[check]["state"] == "ok", found[check]
    assert "of the running process" in found["files"]["what"]
    assert "spend_unfit_requests_total{" not in httpx.get(f"{trading.health}/metrics").text


def test_a_doctor_for_what_is_not(product: Product) -> None:
    """Each thing that was made wrong is found, with what to type; typed, the next look finds it well."""
    product.spend("customers", "add", "free", "--wallet", "none")
    aside = product.data / "outbox" / "refused"
    aside.mkdir(mode=0o700)
    (aside / "1").touch()
    (aside / "1").chmod(0o644)
    code, found, problems = doctor(product, {"OPENAI_BASE_URL": f"{product.proxy}/v1/v1"})
    assert (code, problems) == (1, {"customer free", "OPENAI_BASE_URL", "put aside", "folder"})
    assert str(aside / "1") in found["folder"]["what"]
    product.spend(*found["customer free"]["next"].split()[1:])
    subprocess.run(found["folder"]["next"], shell=True, check=True)
    shutil.rmtree(aside)
    mended = {"OPENAI_BASE_URL": found["OPENAI_BASE_URL"]["next"].partition("=")[2]}
    assert doctor(product, mended)[::2] == (0, set())
    product.stop()
    code, _, problems = doctor(product, mended)
    assert code == 1
    assert {"ledger", "sidecar", "health"} <= problems


def test_bash_completes_the_installed_command(tmp_path: Path) -> None:
    """The script that `spend completion bash` prints, in a real bash, on a real line."""
    bash, spend = shutil.which("bash"), Path(sys.executable).with_name("spend")
    if bash is None or not spend.exists():
        pytest.skip("needs bash and an installed `spend`")
    code = (
        'eval "$(spend completion bash)"; COMP_WORDS=(spend usage --by mo); COMP_CWORD=3; '
        '_spend_completion spend mo --by; echo "${COMPREPLY[@]}"; complete -p spend'
    )
    done = subprocess.run(
        [bash, "--norc", "-c", code],
        env={"PATH": f"{spend.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    offered, registered = done.stdout.splitlines()
    assert offered == "month model"
    assert registered.endswith("_spend_completion spend")
