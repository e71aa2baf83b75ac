"""Redis: whether it answers where the settings say that it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from sidecar.cli.checks.finding import Finding, Setup, ok, problem, warning
from sidecar.errors import ConfigurationError
from sidecar.storage.redis_client import connect, within
from sidecar.storage.redis_options import RedisOptions, read_address

WAIT_S: Final = 2.0


def redis(setup: Setup) -> Iterator[Finding]:
    """What rate limits are counted in, and what ledgers wake each other by; nothing where neither is set."""
    found: dict[RedisOptions, str] = {}
    for section, options in (
        ("sidecar.redis", setup.settings.sidecar.redis),
        ("ledger.redis", setup.settings.ledger.redis),
    ):
        if options.url:
            found.setdefault(options, section)
    for options, section in found.items():
        yield _answers(section, options)


def _answers(section: str, options: RedisOptions) -> Finding:
    address, _ = read_address(options.url)
    what = f"{section}: Redis at {address}"
    try:
        took_s = asyncio.run(_ask(options))
    except ConfigurationError as error:
        return problem("redis", error.problems[0], "put the password alone into that file")
    except Exception as error:  # the library's have no common root
        then = "start it, or correct the url; until then each sidecar admits its share of a rate limit"
        return problem("redis", f"{what} does not answer: {type(error).__name__}", then)
    if took_s > options.deadline_s:
        then = f"a call waits no longer than deadline_s ({options.deadline_s:g} s), and is then decided by share"
        return warning("redis", f"{what} took {took_s:.3f} s to answer", then)
    return ok("redis", f"{what} answers")


async def _ask(options: RedisOptions) -> float:
    client = connect(options)
    loop = asyncio.get_running_loop()
    try:
        await within(WAIT_S, client.ping())  # the first one connects
        began = loop.time()
        await within(WAIT_S, client.ping())
        return loop.time() - began
    finally:
        await client.aclose()
