"""The README says what the product does: its commands, refusals, routes and settings are held against the code."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator

import pytest

from sidecar.app.fleet_metrics import FleetMetrics
from sidecar.app.settings import load_settings
from sidecar.cli.main import COMMANDS
from sidecar.demo.first_steps import first_steps
from sidecar.ledger.http_api import AdminAPI
from sidecar.proxy.deny import TABLE
from sidecar.telemetry.metrics import Metrics
from tests.support.administration import FakeAdministration, NumberedIds
from tests.support.clock import FakeClock
from tests.unit.source_tree import ROOT, modules

GAUGES = {"gauge", "family"}

README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text below a heading."""
    found = re.search(rf"^##+ {re.escape(title)}$(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def test_it_opens_with_one_sentence_and_then_shows_it() -> None:
    """A heading, a sentence, a transcript; and the transcript's three lines are those that the product prints."""
    _, sentence, transcript, *_ = README.split("\n\n", 3)
    assert sentence.count(".") == 1
    assert transcript.startswith("```console")
    for line in first_steps("http://127.0.0.1:8402"):
        assert f"\n    {line}\n" in README


def test_every_command_is_in_it() -> None:
    """And none that does not exist."""
    listed = set(re.findall(r"^spend (\w+) ", section("The command line"), re.MULTILINE))
    assert listed == set(COMMANDS)


def test_every_code_it_names_exists_with_that_status() -> None:
    """The table of refusals, row by row."""
    rows = re.findall(r"^\| ([\d, ]+) \| (`.*?`) \|", section("What a refusal looks like"), re.MULTILINE)
    assert len(rows) >= 6
    for statuses, codes in rows:
        for code in re.findall(r"`(\w+)`", codes):
            assert str(TABLE[code].status) in statuses.split(", "), code
    named = {code for _, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    assert {str(code) for code in TABLE} == named


def test_every_route_is_in_it() -> None:
    """The ledger's API, by its last word."""
    api = AdminAPI(FakeAdministration(), [], NumberedIds(), version="")
    text = section("Driven by scripts")
    for route in api.table.routes:
        named = route.pattern.replace("{request_id}", "ID").replace("{customer}", "NAME").replace("{budget_id}", "ID")
        assert "/".join(named.split("/")[-2:]).replace("NAME/", "") in text, route.pattern


def test_every_link_within_it_leads_somewhere() -> None:
    """To a heading, by the name that GitHub gives it; or to a file that is there."""
    headings = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)\s]+)\)", README)
    assert len(links) > 20
    for link in links:
        if link.startswith("#"):
            assert link[1:] in headings, link
        elif "://" not in link:
            assert (ROOT / link).exists(), link


EXAMPLES = {
    "SPEND_MEMORY_LIMIT_BYTES": "268435456",
    "SPEND_CLAMP_FLOOR_TOKENS": "256",
    "SPEND_SUBJECT__CUSTOMER": "acme",
    "SPEND_DEMO": "off",
    "SPEND_REQUIRE_KEY": "true",
    "SPEND_SOCKET__UIDS": "1000,1001",
    "SPEND_COMPAT_STATUS": "429",
    "SPEND_UNKNOWN_MODEL": "meter",
    "SPEND_ON_CAP": "error",
    "SPEND_UNBOUNDED": "allow",
    "SPEND_LEDGER__LISTEN__PORT": "1",
    "SPEND_PASS_THROUGH": "GET /v1/models",
    "SPEND_REDIS__URL": "redis://127.0.0.1:6379",
    "SPEND_REDIS__CLUSTER": "false",
    "SPEND_LEDGER__REDIS__URL": "redis://127.0.0.1:6379",
}


def shown_metrics() -> Iterator[tuple[str, tuple[str, ...] | None]]:
    """Every metric of the product as a scrape names it, and its labels where they stand beside its name."""
    metrics = Metrics()

    async def nobody() -> tuple[()]:
        return ()

    FleetMetrics(nobody, FakeClock(), metrics)
    for counter in metrics.counters():
        yield f"{counter.name}_total", counter.labels
    yield from ((family.name, None) for family in metrics.collect() if family.type != "counter")
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in GAUGES:
                name = node.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    yield name.value, () if node.func.attr == "gauge" else None


def test_every_metric_is_in_it() -> None:
    """By the name that a scrape shows, with its labels; and none that does not exist."""
    told = dict(re.findall(r"`(spend_\w+)(?:\{([\w,]+)\})?`", section("Metrics").partition("| of a sidecar |")[2]))
    assert "spend_ledger_sidecar_overbooked_atoms" in told
    shown = dict(shown_metrics())
    assert set(told) == set(shown)
    for name, labels in shown.items():
        if labels is not None:
            assert told[name] == ",".join(labels), name


@pytest.mark.parametrize("variable", sorted(set(re.findall(r"`(SPEND_\w+)`", section("Settings"))) - {"SPEND_"}))
def test_every_variable_it_names_is_a_setting(variable: str) -> None:
    """A variable that means nothing would be reported."""
    value = EXAMPLES.get(variable, "http://127.0.0.1:9000" if variable.endswith("URL") else "/run/key")
    load_settings(None, {variable: value}, {})


def test_the_constraints_cover_what_is_required() -> None:
    """Every requirement has its pinned version: what is tested is what is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(one for some in extras.values() for one in some)]
    names = {re.split(r"[\[<>=~ ;]", requirement)[0].lower().replace(".", "-") for requirement in wanted}
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert names - pinned == set()
