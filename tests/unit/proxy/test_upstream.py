"""Where providers are, which key they get, and the timer that ends what lasts too long."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from sidecar.errors import ConfigurationError
from sidecar.proxy.answer_framing import AnswerHead
from sidecar.proxy.provider_keys import RECHECK_S, ProviderKey
from sidecar.proxy.sweep import PAUSE_TICKS, Sweep
from sidecar.proxy.upstream_connection import Break
from sidecar.proxy.upstream_pool import Origin, Upstream, read_origin


@pytest.mark.parametrize(
    ("url", "origin", "authority"),
    [
        ("https://api.openai.com", Origin("https", "api.openai.com", 443), b"api.openai.com"),
        ("http://127.0.0.1:9000/", Origin("http", "127.0.0.1", 9000), b"127.0.0.1:9000"),
        ("https://[::1]:8443", Origin("https", "::1", 8443), b"[::1]:8443"),
        ("http://localhost:80", Origin("http", "localhost", 80), b"localhost"),
    ],
)
def test_origins(url: str, origin: Origin, authority: bytes) -> None:
    """Scheme, host and port; the authority leaves out the scheme's own port."""
    assert read_origin(url) == origin
    assert origin.authority == authority


@pytest.mark.parametrize(
    "url", ["ftp://x", "api.openai.com", "https://", "https://x/v1", "https://x?q", "https://u@x", "https://x:99999"]
)
def test_what_is_no_origin(url: str) -> None:
    """Anything beside scheme, host and port would be lost in silence, so it is refused."""
    with pytest.raises(ConfigurationError):
        read_origin(url)


async def test_https_needs_a_context() -> None:
    """There is no way to speak https without verification by forgetting it."""
    with pytest.raises(ConfigurationError):
        Upstream("x", read_origin("https://x"), sweep=Sweep())


async def test_a_key_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    """F-56: rotation needs no restart; a file that has gone bad keeps the last good key."""
    sweep, file = Sweep(), tmp_path / "key"
    file.write_text("sk-one\n")
    key = ProviderKey(file, header="Authorization", prefix="Bearer ", sweep=sweep)
    assert key.line == b"Authorization: Bearer sk-one\r\n"
    now = sweep.now
    for content, line in (
        ("sk-two", b"Authorization: Bearer sk-two\r\n"),
        ("", b"Authorization: Bearer sk-two\r\n"),
        ("two words", b"Authorization: Bearer sk-two\r\n"),
        ("line\r\nX-Evil: 1", b"Authorization: Bearer sk-two\r\n"),
        ("sk-three", b"Authorization: Bearer sk-three\r\n"),
    ):
        now += RECHECK_S
        file.write_text(content)
        os.utime(file, ns=(int(now * 1e9), int(now * 1e9)))
        key.check(now)
        assert key.line == line
    file.unlink()
    key.check(now + RECHECK_S)
    assert key.line == b"Authorization: Bearer sk-three\r\n"


@pytest.mark.parametrize("content", [None, "", "a b", "a\nb", "x" * 9000])
async def test_a_missing_or_bad_key_stops_the_start(tmp_path: Path, content: str | None) -> None:
    """And the report does not repeat what is in the file."""
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        ProviderKey(file, header="x-api-key", prefix="", sweep=Sweep())
    assert str(file) in str(caught.value)
    assert not content or content not in str(caught.value)


class _Nobody:
    """Takes an answer and does nothing with it."""

    method = "POST"
    complete = False

    def answer_began(self, head: AnswerHead) -> None:
        pass

    def answer_moved(self, piece: bytes, *, complete: bool) -> None:
        self.complete = complete

    def answer_broke(self, why: Break, detail: str) -> None:
        raise AssertionError(why)


@pytest.mark.parametrize("ends", [True, False])
async def test_an_end_that_the_loop_has_not_seen_is_noticed(ends: bool) -> None:
    """A provider's close that still waits in the kernel keeps an idle connection from being used."""
    listener = socket.create_server(("127.0.0.1", 0))
    sweep = Sweep()
    upstream = Upstream("x", read_origin(f"http://127.0.0.1:{listener.getsockname()[1]}"), sweep=sweep)
    connection = await upstream.connect()
    peer, _ = listener.accept()
    sink = _Nobody()
    connection.send(sink, b"POST / HTTP/1.1\r\n\r\n", b"")
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    async with asyncio.timeout(5):
        while not sink.complete:
            await asyncio.sleep(0.001)
    sweep.now += 1  # idle for longer than a tick
    if ends:
        peer.close()
    assert (upstream.take() is None) == ends  # without the loop having run in between
    upstream.close()
    peer.close()
    listener.close()
    await asyncio.sleep(0)


class _Counted:
    def __init__(self) -> None:
        self.asked: list[float] = []

    def check(self, now: float) -> None:
        self.asked.append(now)
        raise RuntimeError("a fault of one")


async def test_the_sweep_asks_everyone_and_survives_faults() -> None:
    """One watcher's fault does not keep the others from being asked, now or later."""
    sweep = Sweep(tick_s=0.01)
    one, two, forgotten = _Counted(), _Counted(), _Counted()
    for thing in (one, two, forgotten):
        sweep.watch(thing)
    sweep.forget(forgotten)
    sweep.start()
    async with asyncio.timeout(5):
        while len(two.asked) < 3:
            await asyncio.sleep(0.005)
    sweep.stop()
    assert len(one.asked) == len(two.asked)
    assert not forgotten.asked


async def test_our_own_pause_is_not_held_against_others() -> None:
    """F-36: after the process stood still, the first tick judges nobody: their bytes may be waiting to be read."""
    sweep, thing = Sweep(tick_s=0.01), _Counted()
    sweep.watch(thing)
    sweep.now -= PAUSE_TICKS * 0.01 + 1
    sweep._tick()
    assert not thing.asked
    sweep._tick()
    assert thing.asked
    sweep.stop()
