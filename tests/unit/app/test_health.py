from __future__ import annotations

from aiohttp.test_utils import TestClient, TestServer

from sidecar.app.health import health_app
from sidecar.telemetry.metrics import Metrics


async def test_probes_and_metrics() -> None:
    """Alive always; ready only while nothing stands in the way, and it says what does; the counters as text."""
    obstacles = ["the ledger has not been heard of"]
    metrics = Metrics()
    metrics.passed_through.add("openai")
    async with TestClient(TestServer(health_app(metrics, lambda: obstacles))) as client:
        assert (await client.get("/livez")).status == 200
        answer = await client.get("/readyz")
        assert (answer.status, await answer.json()) == (503, {"ready": False, "obstacles": obstacles})
        obstacles.clear()
        assert (await client.get("/readyz")).status == 200
        answer = await client.get("/metrics")
        assert answer.content_type == "text/plain"
        assert 'spend_passed_through_total{upstream="openai"} 1.0' in await answer.text()


async def test_what_is_read_for_a_scrape_is_in_it() -> None:
    """And only for that: a probe is answered whatever the book does."""
    metrics = Metrics()

    async def refresh() -> None:
        metrics.passed_through.add("read-just-now")

    async with TestClient(TestServer(health_app(metrics, list, refresh))) as client:
        assert (await client.get("/readyz")).status == (await client.get("/livez")).status == 200
        assert metrics.passed_through.total() == 0
        assert "read-just-now" in await (await client.get("/metrics")).text()
