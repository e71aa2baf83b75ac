"""Whether the process lives, whether it should get traffic, and what it has counted.

On a port of its own, so that a probe is answered however busy the proxy's is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from sidecar.telemetry.metrics import CONTENT_TYPE, Metrics

Obstacles = Callable[[], Sequence[str]]
"""What stands in the way of serving now, each in a few words; empty when ready."""


Refresh = Callable[[], Awaitable[None]]
"""Awaited before each scrape, for what is read only then; must not raise, and must end soon."""


async def nothing_to_refresh() -> None:
    """Where all that is shown is at hand."""


def health_app(metrics: Metrics, obstacles: Obstacles, refresh: Refresh = nothing_to_refresh) -> web.Application:
    """The application behind the health port: /livez, /readyz and /metrics."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        found = obstacles()
        return web.json_response({"ready": not found, "obstacles": list(found)}, status=503 if found else 200)

    async def scrape(_: web.Request) -> web.Response:
        await refresh()
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", scrape)])
    return app
