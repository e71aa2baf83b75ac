"""The disk fails under the book, again and again, and answers in between (F-15)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.test_fleet import until
from tests.end_to_end.test_outage import call
from tests.support.fleet import LedgerProcess, SidecarProcess
from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import provider_environment, running

SHIM = Path(__file__).parent.parent / "support" / "failing_fsync.c"
FAULTS = 15


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """The library to preload; skips where it cannot be built."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler is here to build what is preloaded")
    library = tmp_path / "failing_fsync.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(SHIM), "-ldl"], check=True)
    return library


def test_f_15_a_book_whose_disk_fails_loses_and_doubles_nothing(
    tmp_path: Path, provider: LLMProvider, shim: Path
) -> None:
    """F-15, L27, L29: what could not be committed is told and not there; asked again it is, once; the book verifies."""
    provider.plan = Plan(usage=lambda _body, _raw: (10, 10))
    flag = tmp_path / "fail"
    preloaded = {"LD_PRELOAD": str(shim), "FAIL_NAME": "book.sqlite", "FAIL_FLAG": str(flag)}
    with running(LedgerProcess(tmp_path / "ledger", preloaded)) as ledger:
        ledger.environment.pop("LD_PRELOAD")  # what the command line does itself is not to fail
        token = ledger.token("sidecar-1")
        quick = {"SPEND_LEASES__REFRESH_EVERY_S": "0.5", "SPEND_SHIPPING__MAX_BACKOFF_S": "0.5"}
        environment = provider_environment(provider.address) | quick
        with running(SidecarProcess(tmp_path / "sidecar", environment, ledger.ledger, token)) as sidecar:
            ledger.spend("customers", "add", "acme", "--wallet", "none")
            ledger.spend("budgets", "set", "acme", "--limit", "1000", "--per", "lifetime")
            until(lambda: call(sidecar, "acme", "s")[0] == 200)
            for number in range(FAULTS):
                flag.touch()
                limit = ("budgets", "set", "acme", "--limit", str(2000 + number), "--per", "lifetime")
                first = ledger.spend(*limit, check=False)
                if first.returncode:  # else it was a settlement that failed, which is sent again
                    assert (first.returncode, "could not commit" in first.stderr) == (3, True), first.stderr
                    assert f"{2000 + number}" not in ledger.spend("budgets", "list", "acme", "--json").stdout
                    until(lambda limit=limit: not ledger.spend(*limit, check=False).returncode)  # type: ignore[misc]
                flag.touch()
                until(lambda: call(sidecar, "acme", "s")[0] == 200)  # 503 where the lease went back for the new limit
                give_up_at = time.monotonic() + 30
                while flag.exists() and time.monotonic() < give_up_at:
                    time.sleep(0.02)
                assert not flag.exists(), "nothing was synced"
            served = len(provider.served)
            until(lambda: len(ledger.usage("acme")) == served)
            assert len({row["request_id"] for row in ledger.usage("acme")}) == served
            assert ledger.problems("acme") == []
            assert f'"{2000 + FAULTS - 1}' in ledger.spend("budgets", "list", "acme", "--json").stdout
