"""A server on an event loop of its own, in a thread, so that a test can call it and wait for it plainly."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager

START_TIMEOUT_S = 10.0


@contextmanager
def in_thread(serve: Callable[[threading.Event, asyncio.Event], Coroutine[None, None, None]]) -> Iterator[None]:
    """Run `serve(started, stopping)`: it sets the first when it serves, and ends when the second is set."""
    loop = asyncio.new_event_loop()
    started, stopping = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve(started, stopping)), daemon=True)
    thread.start()
    if not started.wait(START_TIMEOUT_S):
        raise RuntimeError("the provider did not start")
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(START_TIMEOUT_S)
        loop.close()
