"""More callers than this process may open files (F-53)."""

from __future__ import annotations

import asyncio
import os
import urllib.request
from collections import Counter
from pathlib import Path

from tests.end_to_end.test_fleet import until
from tests.end_to_end.test_hard_limit import BODY, PATH
from tests.support.llm_provider import LLMProvider
from tests.support.product import Product, provider_environment, running

FILES = 300
CALLERS = 600
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connected(product: Product) -> Connection:
    """A caller's connection."""
    host, _, port = product.proxy.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def call(connection: Connection) -> int:
    """A call on a connection that is open; its status, 0 if there is none."""
    reader, writer = connection
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nSpend-Customer: acme\r\n"
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY.encode()))
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
    except (OSError, asyncio.IncompleteReadError):
        return 0
    return int(answer[9:12])


def is_alive(product: Product) -> bool:
    """Whether it answers the probe that would have it restarted."""
    with urllib.request.urlopen(f"{product.health}/livez", timeout=10) as answer:
        return bool(answer.status == 200)


async def test_f_53_callers_beyond_the_descriptors_are_turned_away(tmp_path: Path, provider: LLMProvider) -> None:
    """F-53: twice as many as there may be files: those inside are served, the probe is answered, all is booked."""
    product = Product(tmp_path / "data", provider_environment(provider.address))
    product.before = ("sh", "-c", f'ulimit -n {FILES} && exec "$@"', "sh")
    with running(product):
        product.spend("customers", "add", "acme", "--wallet", "none")
        product.spend("budgets", "set", "acme", "--limit", "1000000", "--per", "lifetime")
        callers = [await connected(product) for _ in range(CALLERS)]
        assert product.process is not None
        assert await asyncio.to_thread(is_alive, product)
        answers = Counter(await asyncio.gather(*(call(caller) for caller in callers)))
        print(f"{CALLERS} callers, {FILES} files: {dict(answers)}")
        assert await asyncio.to_thread(is_alive, product)
        assert len(os.listdir(f"/proc/{product.process.pid}/fd")) < FILES * 9 // 10
        assert answers[200] == len(provider.served) >= FILES // 4
        assert answers.keys() <= {200, 503, 0}
        assert "Too many open files" not in product.log()
        for _, writer in callers:
            writer.transport.abort()
        await asyncio.to_thread(until, lambda: len(product.usage("acme")) == answers[200])
        late = await connected(product)
        assert await call(late) == 200
        late[1].transport.abort()
