"""A container with little memory, and more streams than fit into it (F-34)."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.test_fleet import until
from tests.end_to_end.test_hard_limit import BODY, PATH
from tests.end_to_end.test_outage import metric
from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import Product, provider_environment, running

LIMIT_MIB = 96
STREAMS_AT_ONCE = 100
STREAMS_MAX = 6_000
ROOT = Path("/sys/fs/cgroup")


@pytest.fixture
def box() -> Iterator[Path]:
    """A control group of LIMIT_MIB; skips where none can be made, as in most containers."""
    old = (ROOT / "memory").is_dir()
    folder = (ROOT / "memory" if old else ROOT) / f"spend-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as problem:
        pytest.skip(f"no control group can be made here: {problem}")
    try:
        (folder / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(LIMIT_MIB * 2**20))
    except OSError as problem:
        folder.rmdir()
        pytest.skip(f"memory is not limited here: {problem}")
    yield folder
    folder.rmdir()


class Streams:
    """Callers that hold their streams open."""

    def __init__(self, product: Product) -> None:
        self._host, _, self._port = product.proxy.removeprefix("http://").partition(":")
        self._open: list[asyncio.StreamWriter] = []
        self.answers: Counter[int] = Counter()

    async def one(self) -> None:
        """Begin a stream, and read of it until its first event."""
        body = BODY.replace('"messages"', '"stream": true, "messages"').encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nSpend-Customer: acme\r\n"
        reader, writer = await asyncio.open_connection(self._host, int(self._port))
        self._open.append(writer)
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        status = int(answer[9:12])
        if status == 200:
            await reader.readuntil(b"\n\n")
        else:
            assert b"sidecar_overloaded" in answer + await reader.read(4096)
        self.answers[status] += 1

    def close(self) -> None:
        """All callers leave."""
        for writer in self._open:
            writer.transport.abort()


async def test_f_34_calls_are_refused_before_the_kernel_ends_the_process(
    tmp_path: Path, provider: LLMProvider, box: Path
) -> None:
    """F-34, L25: streams until memory is nearly used up; then 503, and each stream that was let in is in the book."""
    provider.plan = plan = Plan(holds_after=2)
    product = Product(tmp_path / "data", provider_environment(provider.address))
    product.before = ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(box / "cgroup.procs"))
    with running(product):
        product.spend("customers", "add", "acme", "--wallet", "none")
        product.spend("budgets", "set", "acme", "--limit", "1000000", "--per", "lifetime")
        streams = Streams(product)
        while not streams.answers[503] and streams.answers[200] < STREAMS_MAX:
            await asyncio.gather(*(streams.one() for _ in range(STREAMS_AT_ONCE)))
        let_in = streams.answers[200]
        assert streams.answers[503], f"{let_in} streams, and no end"
        for _ in range(3):  # and who goes on asking does not change that
            await asyncio.gather(*(streams.one() for _ in range(STREAMS_AT_ONCE)))
        assert product.process is not None
        assert product.process.poll() is None
        assert streams.answers[503] > STREAMS_AT_ONCE
        print(f"{let_in} streams in {LIMIT_MIB} MiB, then {dict(streams.answers)}")
        assert await asyncio.to_thread(metric, product, "spend_memory_step") >= 1
        plan.resume.set()
        streams.close()
        served = len(provider.served)
        await asyncio.to_thread(until, lambda: len(product.usage("acme")) == served)
        late = Streams(product)  # calls are taken again, whether the memory went back or not
        await late.one()
        assert late.answers == {200: 1}
        late.close()
        with urllib.request.urlopen(f"{product.health}/readyz", timeout=10) as ready:
            assert json.loads(ready.read())["ready"]
