"""A process that makes many calls at one instant, as a fleet of agents would.

`python -m tests.support.caller` reads one JSON object from standard input: `address`, `path`,
`calls` (a list of {headers, body}), and `at` (a Unix time to release them all). It prints one
JSON list: for each call its `status`, the error's `code`, and whether the answer was `whole`.
Nothing is retried.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import aiohttp


async def _call(session: aiohttp.ClientSession, url: str, call: dict[str, Any], gate: asyncio.Event) -> dict[str, Any]:
    await gate.wait()
    result: dict[str, Any] = {"status": 0, "code": "", "whole": False, "headers": {}}
    headers = {"content-type": "application/json", "authorization": "Bearer sk-test", **call["headers"]}
    try:
        async with session.post(url, data=call["body"].encode(), headers=headers) as response:
            result["status"] = response.status
            result["headers"] = {name.lower(): value for name, value in response.headers.items()}
            body = await response.read()
            result["whole"] = True
            if response.status != 200:
                result["code"] = json.loads(body)["error"].get("code", "")
    except (aiohttp.ClientError, ConnectionError, TimeoutError, ValueError):
        pass  # cut, or never connected: the status says how far it came
    return result


async def _main(plan: dict[str, Any]) -> list[dict[str, Any]]:
    gate = asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=plan.get("timeout_s", 60))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        url = plan["address"] + plan["path"]
        tasks = [asyncio.create_task(_call(session, url, call, gate)) for call in plan["calls"]]
        await asyncio.sleep(max(0.0, plan["at"] - time.time()))
        gate.set()
        return list(await asyncio.gather(*tasks))


def call_from_processes(
    address: str, path: str, calls: Sequence[dict[str, Any]], *, processes: int = 4, head_start_s: float = 2.0
) -> list[dict[str, Any]]:
    """Release all calls at one instant from several processes; gives their results, in no order."""
    at = time.time() + head_start_s
    running = []
    for index in range(processes):
        plan = {"address": address, "path": path, "calls": list(calls[index::processes]), "at": at}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.caller"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if process.stdin is None:
            raise RuntimeError("no standard input")
        process.stdin.write(json.dumps(plan))
        process.stdin.close()
        running.append(process)
    results: list[dict[str, Any]] = []
    for process in running:
        if process.stdout is None:
            raise RuntimeError("no standard output")
        results.extend(json.loads(process.stdout.read()))
        process.stdout.close()
        process.wait(60)
    return results


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_main(json.load(sys.stdin)))))
