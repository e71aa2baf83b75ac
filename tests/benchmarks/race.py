"""Calls that race for a budget: fifty at once, of one dollar each, for five dollars.

What counts is what reached the provider, for that is what is paid; so the provider here counts, and takes
long enough over each answer that all are under way together.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.threads import in_thread

CALLS = 50
BUDGET_USD = 5
MAX_TOKENS = 10_000
OUTPUT_USD_PER_MILLION = 100
"""With prompts free a call costs a dollar, which is also the most that it can cost: five fit exactly."""

ANSWER_AFTER_S = 0.4
CALL_TIMEOUT_S = 60.0


@dataclass
class Provider:
    """The stand-in provider, and how many calls it was asked to answer."""

    port: int = 0
    calls: int = 0


@contextmanager
def counting_provider() -> Iterator[Provider]:
    """A provider whose every answer is as long as was allowed."""
    provider = Provider()
    choice = {"index": 0, "message": {"role": "assistant", "content": "Sheep."}, "finish_reason": "length"}
    usage = {"prompt_tokens": 9, "completion_tokens": MAX_TOKENS, "total_tokens": 9 + MAX_TOKENS}
    facts = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini"}
    body = json.dumps(facts | {"choices": [choice], "usage": usage}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = (await reader.readuntil(b"\r\n\r\n")).lower()
                lengths = [line[15:] for line in asked.split(b"\r\n") if line.startswith(b"content-length:")]
                await reader.readexactly(int(lengths[0]) if lengths else 0)
                provider.calls += asked.startswith(b"post ")  # a gateway may look around besides
                await asyncio.sleep(ANSWER_AFTER_S)
                writer.write(head.encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    async def serve(started: threading.Event, stopping: asyncio.Event) -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        provider.port = server.sockets[0].getsockname()[1]
        started.set()
        await stopping.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    with in_thread(serve):
        yield provider


def race(provider: Provider, port: int, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[int, int]]:
    """Send the calls at once; how many reached the provider, and how often each status was answered (0: none)."""
    before = provider.calls
    together = threading.Barrier(CALLS)

    def one(_: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_TIMEOUT_S)
        try:
            connection.connect()
            together.wait(CALL_TIMEOUT_S)
            connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    with ThreadPoolExecutor(CALLS) as pool:
        found = list(pool.map(one, range(CALLS)))
    return provider.calls - before, {status: found.count(status) for status in sorted(set(found))}
