"""A book copied from a running ledger, lost, and put back, by the commands that people type (L50a)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.support.product import Product, running


def test_a_book_is_backed_up_while_it_runs_and_put_back(tmp_path: Path) -> None:
    """What was there then is there again, sound, and who did what as well; what came later is gone."""
    with running(Product(tmp_path / "data", {})) as product:
        product.spend("customers", "add", "acme", "--reason", "a new contract ✓")
        product.spend("grants", "add", "acme", "12.50", "--reason", "paid in advance")
        copy = tmp_path / "copy.sqlite"
        made = json.loads(product.spend("ledger", "backup", str(copy), "--json").stdout)
        assert made["sha256"] == hashlib.sha256(copy.read_bytes()).hexdigest()
        product.spend("nodes", "add", "acme/team:later")
        refused = product.spend("ledger", "restore", str(copy), "--force", check=False)
        assert (refused.returncode, "another process has this book open" in refused.stderr) == (1, True)
        assert product.stop() == 0
        refused = product.spend("ledger", "restore", str(copy), check=False)
        assert (refused.returncode, "--force" in refused.stderr) == (1, True)
        said = product.spend("ledger", "restore", str(copy), "--force", "--reason", "the disk died").stdout
        assert "1 customers and 2 entries are back" in said
        product.start()
        assert product.balance("acme")["available"][0]["text"] == "12.50"
        assert product.entries("acme", "nodes_added") == []
        found = [json.loads(line) for line in product.spend("audit", "--json").stdout.splitlines()]
        assert [(act["kind"], act["actor"], act["reason"]) for act in found[:2]] == [
            ("customer_added", "admin", "a new contract ✓"),
            ("grant_issued", "admin", "paid in advance"),
        ]
        assert (found[2]["kind"], found[2]["reason"]) == ("book_restored", "the disk died")
        assert found[2]["actor"].startswith("operator:")
        assert "a new contract ✓" in product.spend("audit", "--customer", "acme", "--actor", "admin").stdout
        assert product.stop() == 0
        assert product.spend("verify", "--offline").returncode == 0
