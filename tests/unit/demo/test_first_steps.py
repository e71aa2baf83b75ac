"""The three lines that a newcomer pastes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from sidecar.catalog.read import read_catalog
from sidecar.core.credits.amounts import parse_amount
from sidecar.core.pricing.ceilings import price_ceiling
from sidecar.demo.answers import answer
from sidecar.demo.first_steps import CALLS, LIMIT, first_steps, spend_command
from sidecar.providers.registry import dialect_for
from tests.unit.source_tree import ROOT


def test_three_lines_a_shell_understands() -> None:
    """A folder with a blank in its name, and a command that is not on the path, are quoted."""
    lines = first_steps("http://127.0.0.1:8402", spend="'/my tools/spend'", data=Path("/my data"))
    words = [shlex.split(line) for line in lines[:2]]
    assert words[0] == ["/my tools/spend", "customers", "add", "acme", "--wallet", "none", "--data", "/my data"]
    assert words[1][:4] == ["/my tools/spend", "budgets", "set", "acme"]
    assert lines[2].startswith("for n in 1 2 ")
    assert "http://127.0.0.1:8402/v1/chat/completions" in lines[2]
    assert "Authorization" not in lines[2]
    keyed = first_steps("http://127.0.0.1:8402", key_variable="OPENAI_API_KEY")[2]
    assert ' -H "Authorization: Bearer $OPENAI_API_KEY" ' in keyed
    assert "--data" not in " ".join(first_steps("http://127.0.0.1:8402"))


def test_how_spend_is_called_from_another_terminal(tmp_path: Path) -> None:
    """By its name where that finds it, by its place where it does not or finds another, by Python where it has none."""
    ours, others = tmp_path / "our tools", tmp_path / "others"
    for folder in (ours, others):
        folder.mkdir()
    python = str(ours / "python3")
    assert spend_command(str(others), python=python) == f"'{python}' -m sidecar.cli.main"
    for folder in (ours, others):
        (folder / "spend").touch(mode=0o755)
    assert spend_command(f"{ours}:{others}", python=python) == "spend"
    assert spend_command(f"{others}:{ours}", python=python) == f"'{ours}/spend'"
    assert spend_command("", python=python) == f"'{ours}/spend'"


def test_some_calls_pass_and_the_last_do_not() -> None:
    """By the shipped prices and the demo's own answers: at least three are admitted, and at least one is denied."""
    words = shlex.split(first_steps("http://127.0.0.1:8402")[2])
    raw = words[words.index("-d") + 1].rstrip(";").encode()
    rates = read_catalog(ROOT / "config" / "catalog.yaml").rates
    usd = rates.currencies["usd"]
    card = rates.find("openai", "gpt-4o-mini", 1_795_000_000_000)
    dialect = dialect_for("/v1/chat/completions")
    assert card is not None
    assert dialect is not None
    ceiling = price_ceiling(dialect.read_request(raw).ceiling, card, usd)
    said = answer(json.loads(raw), raw)
    pico = said.input_tokens * card.tiers[0].rates.input + said.output_tokens * card.tiers[0].rates.output
    cost, limit = pico // 1000, parse_amount(LIMIT, usd)
    assert cost <= ceiling
    admitted = sum(number * cost + ceiling <= limit for number in range(CALLS))
    assert 3 <= admitted < CALLS
