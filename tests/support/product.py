"""The product as its users run it: real processes, started from the command line and killable."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

START_TIMEOUT_S = 120.0
"""A machine that does much else has taken half a minute."""

STOP_TIMEOUT_S = 40.0
COMMAND_TIMEOUT_S = 60.0
LIST_TIMEOUT_S = 600.0
"""Of all calls: a hundred thousand of them take a busy machine minutes."""

P = TypeVar("P", bound="Product")


class Product:
    """One `spend up` on a data folder, and the command line that talks to it."""

    addresses = "admin.json"
    """Where it says that it is ready, and where it listens."""

    def __init__(self, data: Path, environment: Mapping[str, str]) -> None:
        self.data = data
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(data),
            "SPEND_DEMO": "off",
            **environment,
        }
        self.before: tuple[str, ...] = ()
        """A command that runs what follows it."""

        self.folder: Path | None = None
        """Where the package `sidecar` is that runs; None: the one that is tested."""
        self.process: subprocess.Popen[bytes] | None = None
        self.proxy = self.ledger = self.health = ""

    def start(self) -> None:
        """Start it and wait until it is ready to serve."""
        admin = self.data / self.addresses
        admin.unlink(missing_ok=True)
        log = (self.data.parent / f"{self.data.name}.log").open("ab")
        command = [*self.before, sys.executable, "-m", "sidecar.cli.main", *self.arguments(), "--data", str(self.data)]
        self.process = subprocess.Popen(command, env=self.environment, cwd=self.folder, stdout=log, stderr=log)
        log.close()
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended at once:\n{self.log()}")
            if admin.exists():
                facts = json.loads(admin.read_text())
                self.ledger, self.proxy, self.health = facts.get("address", ""), facts["proxy"], facts["health"]
                return
            time.sleep(0.02)
        raise RuntimeError(f"it did not start:\n{self.log()}")

    def arguments(self) -> list[str]:
        """The command, on ports that it takes itself."""
        return ["up", "--port", "0", "--health-port", "0", "--ledger-port", "0"]

    def log(self) -> str:
        """What it printed."""
        return (self.data.parent / f"{self.data.name}.log").read_text(errors="replace")

    def kill(self) -> None:
        """End it without a word, as a power switch would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> int:
        """End it politely; gives its exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT_S)

    def spend(
        self, *arguments: str, check: bool = True, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a `spend` command against it."""
        command = [sys.executable, "-m", "sidecar.cli.main", *arguments, "--data", str(self.data)]
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"spend {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def balance(self, customer: str) -> dict[str, Any]:
        """`spend balance CUSTOMER --json`."""
        answer: dict[str, Any] = json.loads(self.spend("balance", customer, "--json").stdout)
        return answer

    def usage(self, customer: str) -> list[dict[str, Any]]:
        """`spend usage --json`: one object for each settled call."""
        text = self.spend("usage", "--customer", customer, "--json", timeout_s=LIST_TIMEOUT_S).stdout
        return [json.loads(line) for line in text.splitlines()]

    def entries(self, customer: str, kind: str) -> list[dict[str, Any]]:
        """`spend journal CUSTOMER --kind KIND --json`."""
        text = self.spend("journal", customer, "--kind", kind, "--json").stdout
        return [json.loads(line) for line in text.splitlines()]


@contextmanager
def running_product(data: Path, environment: Mapping[str, str]) -> Iterator[Product]:
    """A started product; stopped, or if it will not, killed, when the block ends."""
    with running(Product(data, environment)) as product:
        yield product


@contextmanager
def running(product: P) -> Iterator[P]:
    """The same with any process of the product."""
    product.data.mkdir(parents=True, exist_ok=True)
    try:
        product.start()
        yield product
    finally:
        if product.process is not None and product.process.poll() is None:
            product.process.terminate()
            try:
                product.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                product.kill()


def provider_environment(address: str) -> dict[str, str]:
    """Both upstreams at one address."""
    return {"SPEND_UPSTREAMS__OPENAI__BASE_URL": address, "SPEND_UPSTREAMS__ANTHROPIC__BASE_URL": address}
