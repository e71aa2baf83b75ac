"""Many customers' requests on the same connections, pipelined, cut anywhere: each is answered and charged as its own.

What is read at once, what is known again by its bytes, what waits behind something else: none of it may show.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter

import pytest

from tests.support.llm_provider import LLMProvider
from tests.support.product import Product

CUSTOMERS = ("ada-and-sons", "brook", "cedar")
CONNECTIONS = 12
REQUESTS = 40
ANSWER_TIMEOUT_S = 60
SIZES = (0, 0, 5, 50, 3_000, 60_000)
"""Of prompts: small ones fit into a read with others, large ones into none."""


def request(chance: random.Random, customer: str, mark: str) -> bytes:
    """One request, framed and spelt in one of the ways that clients have."""
    asked = {"role": "user", "content": "x" * chance.choice(SIZES)}
    body = json.dumps({"model": "gpt-4o-mini", "max_tokens": 5, "user": mark, "messages": [asked]}).encode()
    lines = ["Content-Type: application/json", f"Spend-Customer: {customer}"]
    if chance.random() < 0.15:
        lines.append("Transfer-Encoding: chunked")
        size = chance.randint(20, 5_000)
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        name = chance.choice(("Content-Length", "content-length", "CONTENT-LENGTH"))
        lines.append(f"{name}: {chance.choice(('', '', '', '0'))}{len(body)}")
    if chance.random() < 0.2:
        lines.append(f"X-Request-Id: {mark}")
    chance.shuffle(lines)
    return "\r\n".join(["POST /v1/chat/completions HTTP/1.1", "Host: localhost", *lines, "\r\n"]).encode() + body


async def converse(address: str, seed: str) -> tuple[Counter[str], list[tuple[str, str]]]:
    """Send what the seed says down one connection; how many calls of each customer, and each mark with its answer."""
    chance = random.Random(seed)
    wanted = [(chance.choice(CUSTOMERS), f"{seed}.{number}") for number in range(REQUESTS)]
    wire = [request(chance, customer, mark) for customer, mark in wanted]
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def send() -> None:
        while wire:
            together = chance.choice((1, 1, 1, 2, 5, 20))
            data = b"".join(wire[:together])
            del wire[:together]
            while data:
                size = chance.choice((len(data), chance.randint(1, len(data)), chance.randint(1, min(len(data), 300))))
                writer.write(data[:size])
                data = data[size:]
                await asyncio.sleep(chance.choice((0, 0.001, 0.004)))

    async def listen() -> list[tuple[str, str]]:
        heard = []
        for _, mark in wanted:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), ANSWER_TIMEOUT_S)
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = await reader.readexactly(int(length.partition(b":")[2]))
            assert head.startswith(b"HTTP/1.1 200 "), (mark, body)
            heard.append((mark, json.loads(body)["choices"][0]["message"]["content"]))
        return heard

    _, heard = await asyncio.gather(send(), listen())
    writer.close()
    return Counter(customer for customer, _ in wanted), heard


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_each_call_is_its_own_customers(product: Product, provider: LLMProvider, seed: int) -> None:
    """Every request reaches the provider once, its answer its sender, and its charge its customer; in order."""
    for customer in CUSTOMERS:
        await asyncio.to_thread(product.spend, "customers", "add", customer, "--wallet", "none")
        await asyncio.to_thread(product.spend, "budgets", "set", customer, "--limit", "1000", "--per", "day")
    spoken = await asyncio.gather(*(converse(product.proxy, f"{seed}.{number}") for number in range(CONNECTIONS)))
    made = sum((counted for counted, _ in spoken), Counter[str]())
    answered = dict(pair for _, heard in spoken for pair in heard)
    assert answered == {served.body["user"]: f"answer {served.number}" for served in provider.served}
    assert len(provider.served) == CONNECTIONS * REQUESTS
    assert product.stop() == 0  # whatever is settled is booked
    await asyncio.to_thread(product.start)
    booked = Counter(row["customer"] for customer in CUSTOMERS for row in product.usage(customer))
    assert booked == made
