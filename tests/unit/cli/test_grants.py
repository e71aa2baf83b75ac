"""`spend grants`: what is typed by mistake."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from sidecar.cli.grants import command


@pytest.mark.parametrize("amount", ["-5", "-0.50", "-1,000"])
def test_an_amount_below_zero_is_told_of(amount: str) -> None:
    """It is no option; what takes credit back is named. A priority may be below zero."""
    result = CliRunner().invoke(command, ["add", "acme", amount])
    assert result.exit_code == 2
    assert f"AMOUNT must be more than zero, not {amount}" in result.output
    assert "grants void" in result.output
    assert (
        "AMOUNT" not in CliRunner().invoke(command, ["add", "--priority", "-1", "--help"]).output.partition("Usage")[0]
    )
