"""A book copied from a running ledger, lost, and put back, by the commands that people type (L50a)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.support import tampering
from tests.support.engines import postgres_url
from tests.support.fleet import LedgerProcess
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


def test_a_shared_book_is_backed_up_put_back_and_proven(tmp_path: Path) -> None:
    """In PostgreSQL: by the same commands, while ledgers run; a change that nobody made by them is named."""
    url, empty = postgres_url(), postgres_url()
    with running(LedgerProcess(tmp_path / "ledger", {"SPEND_LEDGER__DATABASE__URL": url})) as ledger:
        ledger.spend("customers", "add", "acme", "--wallet", "none")
        for name in "abcd":
            ledger.spend("nodes", "add", f"acme/team:{name}")
        ledger.spend("keys", "create", "acme")
        copy = tmp_path / "copy.sqlite"
        made = json.loads(ledger.spend("ledger", "backup", str(copy), "--json").stdout)
        assert (made["customers"], made["sha256"]) == (1, hashlib.sha256(copy.read_bytes()).hexdigest())
        assert "acme: 6 entries, all well" in ledger.spend("verify", "--offline").stdout
        assert "acme: 6 entries, all well" in ledger.spend("verify", "--book", str(copy), check=False).stdout
        refused = ledger.spend("ledger", "restore", str(copy), check=False)
        assert (refused.returncode, "a book stands there, with customer acme" in refused.stderr) == (1, True)
        assert ledger.stop() == 0
        tampering.rewrite(url, "acme", tampering.truncated)
        found = ledger.spend("verify", "--offline", "--json", check=False)
        said = {one.get("customer"): one["problems"] for one in map(json.loads, found.stdout.splitlines())}
        assert (found.returncode, "entries 5 to 6: cut off" in str(said["acme"])) == (1, True)
    again = LedgerProcess(tmp_path / "again", {"SPEND_LEDGER__DATABASE__URL": empty})
    done = json.loads(again.spend("ledger", "restore", str(copy), "--reason", "cut off", "--json").stdout)
    assert (done["customers"], done["keys_ended"], done["kept"]) == (1, 1, "")
    with running(again) as ledger:
        assert len(ledger.entries("acme", "nodes_added")) == 4
        assert ledger.problems("acme") == []
        assert "revoked" in ledger.spend("keys", "list", "acme").stdout
