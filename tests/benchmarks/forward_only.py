"""A server that only forwards: the two doors of the proxy with nothing between them.

What it costs over nginx is the floor under the whole sidecar; the rest is the budgets' work.

    python -m tests.benchmarks.forward_only --port 8402 --upstream http://127.0.0.1:9000
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
from collections.abc import Sequence

import uvloop

from sidecar.core.pricing.usage import Usage
from sidecar.providers.dialect import Ending
from sidecar.proxy.accept import AcceptOptions, Arrival, FrontDoor
from sidecar.proxy.forward import forward
from sidecar.proxy.forward_options import ForwardOptions
from sidecar.proxy.outcomes import Outcome
from sidecar.proxy.refusals import Header
from sidecar.proxy.sweep import Sweep
from sidecar.proxy.upstream_pool import PoolOptions, Upstream, read_origin
from tests.support.refusals import plain_refusal


class Blind:
    """A meter that looks at nothing."""

    def feed(self, piece: bytes) -> bytes:
        return piece

    def flush(self) -> bytes:
        return b""

    def finished(self) -> bool:
        return False

    def usage(self, ending: Ending) -> Usage:
        raise NotImplementedError


def _blind_meter(status: int, content_encoding: str, lines: bytes) -> Blind:
    return Blind()


def _nothing_to_settle(outcome: Outcome) -> Sequence[Header]:
    return ()


async def serve(port: int, upstream_url: str) -> None:
    sweep = Sweep()
    sweep.start()
    upstream = Upstream("mock", read_origin(upstream_url), sweep=sweep, options=PoolOptions(max_idle=4096))
    options = ForwardOptions()
    added = ((b"Spend-Origin", b"provider"), (b"Spend-Request-Id", b"req_0123456789abcdef"))

    async def carry(arrival: Arrival) -> None:
        outcome = await forward(
            arrival,
            upstream,
            target=arrival.head.target,
            body=arrival.body,
            meter_for=_blind_meter,
            on_end=_nothing_to_settle,
            sweep=sweep,
            options=options,
            added=added,
            whole=b'"stream":true' not in arrival.body[-100:],  # where the benchmark's bodies have it
        )
        if not arrival.answered:
            arrival.refuse(outcome.refusal())

    door = FrontDoor(carry, shape=plain_refusal, sweep=sweep, options=AcceptOptions())
    await door.listen("127.0.0.1", port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    await stop.wait()
    await door.drain(0.5)
    upstream.close()
    sweep.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.port, arguments.upstream))


if __name__ == "__main__":
    main()
