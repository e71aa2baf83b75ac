from __future__ import annotations

import dataclasses
from pathlib import Path

from sidecar.app.settings import Settings
from sidecar.cli.checks.finding import Setup, State
from sidecar.cli.checks.redis import redis
from sidecar.storage.redis_options import RedisOptions
from tests.support.redis import Server, needs_redis


def set_up(options: RedisOptions) -> Setup:
    settings = Settings()
    ours = dataclasses.replace(settings.sidecar, redis=options)
    return Setup(dataclasses.replace(settings, sidecar=ours), Path("catalog.yaml"), None, None, None, {})


def test_a_redis_that_answers_and_one_that_does_not() -> None:
    """Named by its setting and address, never by its password; nothing is looked for where none is set."""
    needs_redis()
    assert list(redis(set_up(RedisOptions()))) == []
    server = Server()
    (found,) = redis(set_up(RedisOptions(server.url, deadline_s=5)))
    assert (found.state, found.what) == (State.OK, f"sidecar.redis: Redis at 127.0.0.1:{server.port} answers")
    server.kill()
    (found,) = redis(set_up(RedisOptions(f"redis://:s3cret@127.0.0.1:{server.port}")))
    assert found.state is State.PROBLEM
    assert "does not answer" in found.what
    assert "s3cret" not in found.what + found.then
    server.remove()
