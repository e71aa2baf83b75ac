"""The race for a budget, run on each gateway while what its limits are kept in is up, stopped, and back."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.benchmarks import race
from tests.benchmarks.peer_servers import BENCH, PATH, RICH_USD, Peer, Redis, below
from tests.benchmarks.processes import SERVER_CORE, wait_until_serving
from tests.support.fleet import LedgerProcess, SidecarProcess
from tests.support.product import Product, provider_environment
from tests.support.product import running as product_running

SETTLED_AFTER_S = 2.0
"""A peer that settles in the background has done so by then."""

BACK_AFTER_S = 90.0
"""How long a gateway may take to serve again when its store is back."""


class Store(Protocol):
    """What a gateway keeps its limits in."""

    def start(self) -> None:
        """Start it, where it was and on what it kept."""

    def stop(self) -> object:
        """Politely."""

    def kill(self) -> None:
        """Without a word."""


PHASES = ("up", "stopped", "back after a stop", "up again", "back after a kill")
CUSTOMERS = ("race-1", "race-2", "race-1", "race-3", "race-3")
"""Whose five dollars are raced for in each phase."""


def race_all(store: Store, back: Callable[[], None], call: Callable[[str], int]) -> dict[str, int | None]:
    """The phases. Whose money has been raced for has none when the store is back; of the second customer nobody
    has heard when there is no store."""
    first, second, _, third, _ = CUSTOMERS
    found: dict[str, int | None] = {"up": call(first)}
    store.stop()
    found["stopped"] = call(second)
    store.start()
    back()
    found["back after a stop"] = call(first)
    found["up again"] = call(third)
    store.kill()
    store.start()
    back()
    found["back after a kill"] = call(third)
    return found


def race_peer(peer: Peer, root: Path) -> dict[str, int | None]:
    """A peer, over its Redis."""
    folder, redis = below(root, "race-peer-"), Redis(below(root, "race-redis-"))
    redis.start()
    base: dict[str, object] = json.loads(_dollar_call())
    try:
        with race.counting_provider() as provider, peer.serve(provider.port, redis, folder, SERVER_CORE) as up:

            def back() -> None:
                body, log = peer.body(BENCH, base), folder / "log"
                wait_until_serving(up.port, up.path, body, peer.headers(BENCH), log, timeout_s=BACK_AFTER_S)

            def call(customer: str) -> int:
                answered = race.race(provider, up.port, up.path, peer.headers(customer), peer.body(customer, base))
                _tell(peer.name, customer, answered)
                return answered[0]

            back()
            if peer.keeps_in_redis:
                return race_all(redis, back, call)
            found: dict[str, int | None] = {"up": call(CUSTOMERS[0])}
            redis.stop()
            return found | {"stopped": call(CUSTOMERS[1])}
    finally:
        redis.stop()


def race_sidecar(root: Path) -> dict[str, int | None]:
    """`spend sidecar`, over its ledger."""
    folder = below(root, "race-sidecar-")
    with race.counting_provider() as provider:
        given = _given(provider, folder)
        ledger = LedgerProcess(folder / "ledger", given)
        with product_running(ledger):
            _budgets(ledger)
            sidecar = SidecarProcess(folder / "sidecar", given, ledger.ledger, ledger.token(BENCH))
            with product_running(sidecar):
                call, back = _calls("spend sidecar", sidecar, provider)
                back()
                return race_all(ledger, back, call)


def race_up(root: Path) -> dict[str, int | None]:
    """`spend up` is its own store: there is no phase without it."""
    folder = below(root, "race-up-")
    with race.counting_provider() as provider:
        product = Product(folder / "data", _given(provider, folder))
        with product_running(product):
            _budgets(product)
            found: dict[str, int | None] = dict.fromkeys(PHASES)
            for phase, customer in zip(PHASES, CUSTOMERS, strict=True):
                if phase == "stopped":
                    product.stop()
                    continue
                if phase == "back after a kill":
                    product.kill()
                if phase.startswith("back"):
                    product.start()
                call, back = _calls("spend up", product, provider)
                back()
                found[phase] = call(customer)
            return found


def _calls(name: str, product: Product, provider: race.Provider) -> tuple[Callable[[str], int], Callable[[], None]]:
    port = int(product.proxy.rpartition(":")[2])

    def call(customer: str) -> int:
        answered = race.race(provider, port, PATH, {"Spend-Customer": customer}, _dollar_call())
        _tell(name, customer, answered)
        return answered[0]

    def back() -> None:
        log = product.data.parent / f"{product.data.name}.log"
        wait_until_serving(port, PATH, _dollar_call(), {"Spend-Customer": BENCH}, log, timeout_s=BACK_AFTER_S)

    return call, back


def _given(provider: race.Provider, folder: Path) -> dict[str, str]:
    """The provider's address, and the prices that all have in this race."""
    prices = f'{{input: "0", output: "{race.OUTPUT_USD_PER_MILLION}.00"}}'
    (folder / "catalog.yaml").write_text(
        "currencies:\n  usd: {scale: 9}\n"
        "rate_cards:\n"
        "  - id: openai/race\n    provider: openai\n    family: gpt-4o\n    models: [gpt-4o-mini]\n"
        f'    from: "2020-01-01"\n    per_million_tokens: {prices}\n    free: true\n'
        "    max_output_tokens: 16384\n    context_window: 128000\n"
        '    source: https://example.com\n    checked_on: "2026-11-26"\n'
    )
    address = provider_environment(f"http://127.0.0.1:{provider.port}")
    return address | {"SPEND_CATALOG": str(folder / "catalog.yaml")}


def _budgets(product: Product) -> None:
    for customer, limit in {**dict.fromkeys(CUSTOMERS, race.BUDGET_USD), BENCH: RICH_USD}.items():
        product.spend("customers", "add", customer, "--wallet", "none")
        product.spend("budgets", "set", customer, "--limit", str(limit), "--per", "lifetime")


def _dollar_call() -> bytes:
    message = {"role": "user", "content": "Tell me about sheep."}
    return json.dumps({"model": "gpt-4o-mini", "max_tokens": race.MAX_TOKENS, "messages": [message]}).encode()


def _tell(name: str, customer: str, answered: tuple[int, dict[int, int]]) -> None:
    print(f"{name}: {customer}: {answered[0]} reached the provider; answers {answered[1]}", file=sys.stderr)
    time.sleep(SETTLED_AFTER_S)
