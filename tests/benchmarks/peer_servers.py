"""How each gateway is started with its limits on, and how a caller says there whose money it is.

Each peer's strongest limit that can be had without a database of its own is the one that is switched on; see
`limit` of each. They are installed from PyPI, each into a virtual environment of its own under `.bench/`.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks import race
from tests.benchmarks.processes import LOAD_CORE, free_port, running

ENVIRONMENTS = Path(".bench")
INSTALL_TIMEOUT_S = 600.0
START_TIMEOUT_S = 120.0
PATH = "/v1/chat/completions"
BENCH, RICH_USD = "bench", 1_000_000
"""The customer of the other measurements, and a budget that it never reaches."""

RICH_TOKENS = 10**12
TOKENS = race.BUDGET_USD * race.MAX_TOKENS + 500
"""Five calls, and what their prompts take; not six."""


class CannotHave(Exception):
    """A peer that cannot be installed or started; why, in its own words."""


@dataclass(frozen=True)
class Up:
    """A server that runs, and how it is spoken to."""

    port: int
    pid: int
    path: str = PATH


def environment(name: str, *requirements: str) -> Path:
    """A virtual environment with just these, made once for these versions.

    Raises:
        CannotHave: pip's last words.
    """
    folder = ENVIRONMENTS / name
    mark, wanted = folder / "installed", "\n".join(requirements)
    if not mark.exists() or mark.read_text() != wanted:
        print(f"== installing {', '.join(requirements)} into {folder}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "-q", "--disable-pip-version-check", "--no-input"]
        for command in ([sys.executable, "-m", "venv", str(folder)], [*pip, "install", *requirements]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
                raise CannotHave(f"not installed: {lines[-1]}")
        mark.write_text(wanted)
    return folder.absolute()


class Redis:
    """A Redis of a peer's own, with the settings that it has unasked; stopped and started again on the same files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self.port = free_port()
        self._pid = 0

    def start(self) -> None:
        """Start it, and wait until it listens."""
        words = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        self._pid = self._stack.enter_context(running(words, core=LOAD_CORE, folder=self._folder))
        for _ in range(100):
            ping = ["redis-cli", "-p", str(self.port), "ping"]
            if "PONG" in subprocess.run(ping, capture_output=True, text=True, check=False).stdout:
                return
            time.sleep(0.1)
        raise CannotHave("redis-server did not start")

    def stop(self) -> None:
        """As an operator does: it saves what it has."""
        self._stack.close()

    def kill(self) -> None:
        """As a power switch does."""
        subprocess.run(["kill", "-KILL", str(self._pid)], check=True)
        self._stack.close()


@dataclass(frozen=True)
class LiteLLM:
    """LiteLLM's proxy.

    A key's budget is reserved before a call and settled after it, in Redis. Keys, and what they have spent in all,
    are kept in PostgreSQL through Prisma, whose engines are no packages: its installer downloads them. So a hook
    that it documents says here who calls and what the key's budget is. What cannot be had so is the memory: a
    counter in Redis lasts a minute, after which it is read from the database again.
    """

    closed: bool
    """`fail_closed_budget_enforcement`, which is off unless set."""

    version: str = "1.108.7"
    keeps_in_redis: bool = False
    """Whether what was spent outlasts a minute in Redis alone; else the phases after an outage would tell nothing."""

    @property
    def name(self) -> str:
        """In the table."""
        return f"LiteLLM {self.version}" + (", fail closed" if self.closed else "")

    def body(self, customer: str, base: dict[str, object]) -> bytes:
        """The request as it is."""
        del customer
        return json.dumps(base).encode()

    def headers(self, customer: str) -> dict[str, str]:
        """The key names who pays."""
        return {"Authorization": f"Bearer sk-{customer}"}

    @contextlib.contextmanager
    def serve(self, upstream: int, redis: Redis, folder: Path, core: int) -> Iterator[Up]:
        """One worker."""
        home = environment("litellm", f"litellm[proxy]=={self.version}")
        (folder / "budgets.py").write_text(
            "from litellm.proxy._types import UserAPIKeyAuth\n"
            "async def of_key(request, api_key: str) -> UserAPIKeyAuth:\n"
            f"    usd = {RICH_USD}.0 if api_key == 'sk-{BENCH}' else {race.BUDGET_USD}.0\n"
            "    return UserAPIKeyAuth(api_key=api_key, max_budget=usd)\n"
        )
        model = {
            "model": "openai/gpt-4o-mini",
            "api_base": f"http://127.0.0.1:{upstream}/v1",
            "api_key": "sk-upstream",
            "input_cost_per_token": 0.0,
            "output_cost_per_token": race.OUTPUT_USD_PER_MILLION / 1e6,
        }
        at = {"type": "redis", "host": "127.0.0.1", "port": redis.port, "supported_call_types": []}
        configuration = {
            "model_list": [{"model_name": "gpt-4o-mini", "litellm_params": model}],
            "litellm_settings": {
                "telemetry": False,
                "cache": True,
                "cache_params": at,
            },
            "general_settings": {
                "master_key": f"sk-{secrets.token_hex(32)}",
                "custom_auth": "budgets.of_key",
                "custom_auth_run_common_checks": True,
                "fail_closed_budget_enforcement": self.closed,
            },
        }
        (folder / "config.yaml").write_text(json.dumps(configuration))  # which is YAML, too
        port = free_port()
        command = ["env", "LITELLM_LOCAL_MODEL_COST_MAP=True", "LITELLM_LOG=ERROR", "LITELLM_MODE=PRODUCTION"]
        command += [f"PATH={home}/bin:/usr/bin:/bin", str(home / "bin" / "litellm"), "--num_workers", "1"]
        command += ["--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
        with running(command, core=core, folder=folder) as pid:
            yield Up(port, pid)


@dataclass(frozen=True)
class TensorZero:
    """TensorZero's gateway, as its Python package starts it.

    A rule of `tokens_per_day` for each value of a tag, in Redis (Valkey): what the request says that it may take is
    taken before a call and put right after it. So it gets the tokens that five dollars buy. Of its rules in dollars
    this version takes a flat dollar before a call and does not put it right: it says that the actual cost is not
    available, with prices given as its documentation has them. Observability, which wants ClickHouse, is off.
    """

    version: str = "2026.6.0"
    keeps_in_redis: bool = True

    @property
    def name(self) -> str:
        """In the table."""
        return f"TensorZero {self.version}"

    def body(self, customer: str, base: dict[str, object]) -> bytes:
        """Its own name for the model, and the tag that its rule is for."""
        tag = {"rich": customer} if customer == BENCH else {"customer": customer}
        return json.dumps(base | {"model": "tensorzero::model_name::gpt", "tensorzero::tags": tag}).encode()

    def headers(self, customer: str) -> dict[str, str]:
        """None: it is in the body."""
        del customer
        return {}

    @contextlib.contextmanager
    def serve(self, upstream: int, redis: Redis, folder: Path, core: int) -> Iterator[Up]:
        """It takes a port of its own and tells which."""
        home = environment("tensorzero", f"tensorzero=={self.version}")
        rules = "".join(
            f"[[rate_limiting.rules]]\npriority = {priority}\ntokens_per_day = {tokens}\n"
            f'scope = [{{tag_key = "{tag}", tag_value = "tensorzero::each"}}]\n'
            for priority, (tag, tokens) in enumerate((("rich", RICH_TOKENS), ("customer", TOKENS)))
        )
        (folder / "tensorzero.toml").write_text(
            "[gateway]\nobservability.enabled = false\n"
            '[models.gpt]\nrouting = ["p"]\n'
            '[models.gpt.providers.p]\ntype = "openai"\nmodel_name = "gpt-4o-mini"\napi_key_location = "none"\n'
            f'api_base = "http://127.0.0.1:{upstream}/v1/"\n'
            f'[rate_limiting]\nenabled = true\nbackend = "valkey"\n{rules}'
        )
        (folder / "start.py").write_text(
            "import time, tensorzero.tensorzero as t\n"
            "gateway = t._start_http_gateway(config_file='tensorzero.toml', clickhouse_url=None, postgres_url=None,\n"
            f"    valkey_url='redis://127.0.0.1:{redis.port}', async_setup=False)\n"
            "open('address', 'w').write(gateway.base_url)\n"
            "time.sleep(86400)\n"
        )
        command = ["env", "-C", str(folder), str(home / "bin" / "python"), "start.py"]
        address = folder / "address"
        with running(command, core=core, folder=folder) as pid:
            until = time.monotonic() + START_TIMEOUT_S
            while not (address.exists() and address.read_text()):
                if time.monotonic() > until or not Path(f"/proc/{pid}/exe").exists():
                    raise CannotHave(f"not started: {last_words(folder)}")
                time.sleep(0.005)
            port = int(address.read_text().split(":")[2].split("/")[0])
            yield Up(port, pid, "/openai" + PATH)


Peer = LiteLLM | TensorZero
PEERS: Sequence[Peer] = (LiteLLM(closed=False), LiteLLM(closed=True), TensorZero())


@dataclass
class Problems:
    """What could not be had, by name, so that the table says so."""

    found: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def noted(self, name: str) -> Iterator[None]:
        """Carry on where the block cannot: say why at once, and keep it."""
        try:
            yield
        except (CannotHave, RuntimeError, AssertionError, OSError, subprocess.SubprocessError) as problem:
            self.found[name] = " ".join(str(problem).split())[-300:] or type(problem).__name__
            print(f"{name}: {self.found[name]}", file=sys.stderr)


def below(folder: Path, name: str) -> Path:
    """A new folder, whose name begins so."""
    return Path(tempfile.mkdtemp(prefix=name, dir=folder))


def last_words(folder: Path) -> str:
    """The end of a server's log."""
    log = folder / "log"
    return " ".join(log.read_text(errors="replace").split())[-300:] if log.exists() else "it said nothing"
