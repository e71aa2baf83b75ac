"""A Unix socket beside the port: callers known by the kernel's word, beside callers known by their keys (S-03)."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import openai
import pytest

from sidecar.errors import ConfigurationError
from sidecar.proxy.local_socket import bind_socket
from tests.end_to_end.test_sdks import ASK, HEADERS, openai_client
from tests.support.llm_provider import LLMProvider
from tests.support.product import Product, provider_environment, running_product

STRANGER = 65_534
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the socket stands: a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "app.sock"


@pytest.fixture
def product(tmp_path: Path, place: Path, provider: LLMProvider) -> Iterator[Product]:
    """`spend up` whose port takes keys alone."""
    settings = {"SPEND_REQUIRE_KEY": "true", "SPEND_SOCKET__PATH": str(place)}
    with running_product(tmp_path / "data", provider_environment(provider.address) | settings) as product:
        product.spend("customers", "add", "acme")
        product.spend("grants", "add", "acme", "5")
        yield product


def test_a_caller_on_the_socket_needs_no_key(product: Product, place: Path, provider: LLMProvider) -> None:
    """By a real client; on the port the same call is 401. It is for owner and group, and goes at the end."""
    assert stat.S_IMODE(place.stat().st_mode) == 0o660
    with openai_client(product.proxy) as by_port, pytest.raises(openai.AuthenticationError):
        by_port.chat.completions.create(model="gpt-4o-mini", messages=ASK)
    http = httpx.Client(transport=httpx.HTTPTransport(uds=str(place)))
    with openai.OpenAI(
        base_url="http://localhost/v1", api_key="sk-own", default_headers=HEADERS, http_client=http
    ) as client:
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=ASK)
        assert answer.choices[0].message.content == "answer 1"
        chunks = client.chat.completions.create(model="gpt-4o-mini", messages=ASK, stream=True)
        assert len(list(chunks)) > 2
    assert [row["user"] for row in product.usage("acme")] == ["ada", "ada"]
    assert len(provider.served) == 2
    assert product.stop() == 0
    assert not place.exists()


ASK_AS = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX) as caller:
    caller.connect(sys.argv[1])
    try:
        caller.sendall(b"GET /spend/v1/openapi.json HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
        print(caller.recv(12).decode())
    except ConnectionError:
        print("cut")
"""


def asked_as(uid: int, place: Path) -> str:
    """What a process of that user gets; the beginning of an answer, or nothing."""
    command = [sys.executable, "-I", "-c", ASK_AS, str(place), str(uid)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


@needs_root
def test_another_user_is_cut_off_whatever_the_file_allows(product: Product, place: Path) -> None:
    """The kernel says who connects: even where somebody opened the file to all."""
    place.chmod(0o777)
    assert asked_as(0, place) == "HTTP/1.1 200"
    assert asked_as(STRANGER, place) in ("", "cut")
    assert f"peer_refused uid={STRANGER}" in product.log()


@needs_root
def test_users_that_are_named_are_let_in(tmp_path: Path, place: Path) -> None:
    """An application's user, which is another than the sidecar's."""
    settings = {"SPEND_SOCKET__PATH": str(place), "SPEND_SOCKET__UIDS": f"12345,{STRANGER}"}
    with running_product(tmp_path / "data", settings):
        place.chmod(0o777)
        assert asked_as(STRANGER, place) == "HTTP/1.1 200"
        assert asked_as(STRANGER - 1, place) in ("", "cut")


def test_a_socket_left_behind_gives_way_and_nothing_else_does(tmp_path: Path, product: Product, place: Path) -> None:
    """After a kill it stands there still; a file, a folder, and a socket on which somebody listens stay."""
    product.kill()
    assert place.exists()
    product.start()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(place))
    with pytest.raises(ConfigurationError, match="another process listens there"):
        bind_socket(place)
    file = tmp_path / "file"
    file.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(file)
    for taken in (file, link, tmp_path):
        with pytest.raises(ConfigurationError, match="no socket stands there"):
            bind_socket(taken)
    assert file.read_text() == "mine"
    for nowhere in (tmp_path / "none" / "app.sock", tmp_path / ("x" * 200)):
        with pytest.raises(ConfigurationError, match=r"set sidecar\.socket\.path to another place"):
            bind_socket(nowhere)


def test_a_place_that_cannot_be_had_ends_the_start_with_a_word(tmp_path: Path) -> None:
    """No traceback: the place, and the setting."""
    product = Product(tmp_path / "data", {"SPEND_SOCKET__PATH": str(tmp_path / "none" / "app.sock")})
    (tmp_path / "data").mkdir()
    with pytest.raises(RuntimeError, match="it ended at once"):
        product.start()
    assert "sidecar.socket.path" in product.log()
    assert "Traceback" not in product.log()
