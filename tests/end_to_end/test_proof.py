"""A ledger's book that was changed while nobody looked, told by what its sidecar kept (L8)."""

from __future__ import annotations

import json
from pathlib import Path

from tests.end_to_end.test_fleet import until
from tests.support import tampering
from tests.support.fleet import LedgerProcess, SidecarProcess
from tests.support.product import running


def test_a_sidecars_folder_shows_that_the_book_was_cut(tmp_path: Path) -> None:
    """Killed, its end taken away with every trace of it, the checkpoints beside it too: the sidecar has the last."""
    settings = {"SPEND_LEDGER__CHECKPOINTS__EVERY_S": "1"}
    with running(LedgerProcess(tmp_path / "ledger", settings)) as ledger:
        ledger.spend("customers", "add", "acme")
        for name in "abcd":
            ledger.spend("nodes", "add", f"acme/team:{name}")
        sidecar = SidecarProcess(tmp_path / "sidecar", {}, ledger.ledger, ledger.token("one"))
        with running(sidecar):
            kept = tmp_path / "sidecar" / "witnessed.jsonl"
            until(lambda: kept.exists() and '["acme",5,' in kept.read_text())
            refused = ledger.spend("verify", "--offline", check=False)
            assert refused.returncode == 1
            assert "another process has this book open" in refused.stderr
            ledger.kill()
        assert "acme: 5 entries, all well" in ledger.spend("verify", "acme", "--offline").stdout
        tampering.rewrite(tmp_path / "ledger" / "book.sqlite", "acme", tampering.truncated)
        (tmp_path / "ledger" / "checkpoints.jsonl").unlink()
        assert "acme: 3 entries, all well" in ledger.spend("verify", "acme", "--offline").stdout
        found = ledger.spend("verify", "--offline", "--json", "--checkpoints", str(kept), check=False)
        assert found.returncode == 1
        said = {one.get("customer"): one["problems"] for one in map(json.loads, found.stdout.splitlines())}
        assert "entries 4 to 5: cut off: checkpoint " in said["acme"][0]
        assert "witnessed.jsonl" in found.stderr
