"""The command line, run in this process against a served API over an administration in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sidecar.app.admin_file import AdminFile, write_admin_file
from sidecar.cli.main import main
from sidecar.ledger.http_access import admin_access, admin_token
from sidecar.ledger.http_api import AdminAPI
from sidecar.ledger.http_server import serve_admin_api
from tests.support.administration import FakeAdministration, NumberedIds, in_thread

TOKEN = admin_token(b"\x07" * 32)


@dataclass
class Shell:
    """Where `spend` is run; `environ` is what its environment holds besides."""

    data: Path
    address: str
    administration: FakeAdministration
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, code: int = 0, **environ: str) -> Result:
        """Run a command; it must end with `code`."""
        clean = dict.fromkeys(("SPEND_LEDGER_URL", "SPEND_TOKEN", "HOME"), None)
        result = CliRunner().invoke(
            main, arguments, env=clean | {"SPEND_DATA": str(self.data)} | self.environ | environ
        )
        if result.exit_code != code:
            raise AssertionError(f"exit {result.exit_code}: {result.output}") from result.exception
        return result

    def json(self, *arguments: str) -> list[Any]:
        """Run it with --json: one object a line."""
        return [json.loads(line) for line in self.run(*arguments, "--json").stdout.splitlines()]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell whose SPEND_DATA is the folder of a running ledger."""
    administration = FakeAdministration()
    api = AdminAPI(administration, [admin_access(TOKEN)], NumberedIds(), version="1")
    with in_thread(lambda: serve_admin_api(api, "127.0.0.1", 0)) as address:
        write_admin_file(tmp_path, AdminFile(address, TOKEN))
        yield Shell(tmp_path, address, administration)


@pytest.fixture
def acme(shell: Shell) -> Shell:
    """The same with a customer."""
    shell.run("customers", "add", "acme")
    return shell
