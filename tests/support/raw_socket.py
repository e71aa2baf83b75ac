"""A caller of raw bytes: blocking, exact, believing nothing that it gets back."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

ANSWER_TIMEOUT_S = 20.0
"""Longer than every bound of the products under test: what is not answered by then hangs."""


MAY_REPEAT = frozenset({"content-type", "content-encoding"})
"""Headers of a provider's that pass twice where it gave them twice: they are joined here."""


class Cut(Exception):
    """The connection ended before the answer did; holds what came."""

    def __init__(self, got: bytes) -> None:
        super().__init__(f"cut after {len(got)} bytes")
        self.got = got


@dataclass
class Answer:
    """One answer: `complete` is false if its connection ended before it did."""

    status: int
    head: bytes
    headers: dict[str, str]
    body: bytes
    complete: bool = True

    def json(self) -> Any:
        """Its body, decoded."""
        return msgspec.json.decode(self.body)

    def error(self) -> dict[str, Any]:
        """The error object of a refusal."""
        error: dict[str, Any] = self.json()["error"]
        return error

    @property
    def code(self) -> str:
        """The refusal's word; every protocol has it in `spend.reason`, OpenAI's a finer one in `code`."""
        error = self.error()
        return str(error.get("code") or error["spend"]["reason"])


class RawSocket:
    """One connection."""

    def __init__(self, address: str, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        at = urlsplit(address)
        self._socket = socket.create_connection((at.hostname or "", at.port or 0), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got = b""

    def send(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        """Send pieces, each by itself."""
        for number, piece in enumerate(pieces):
            if number and pause_s:
                time.sleep(pause_s)
            self._socket.sendall(piece)

    def send_what_is_taken(self, data: bytes) -> None:
        """Send as much as the other side takes; it may refuse and close before it has all."""
        with suppress(ConnectionError):
            self._socket.sendall(data)

    def answer(self, method: str = "POST") -> Answer:
        """Read one answer.

        Raises:
            Cut: the connection ended before a whole head came.
            TimeoutError: nothing came.
        """
        raw = self._until(b"\r\n\r\n")
        lines = raw[:-4].decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            former = headers.get(name.lower())
            if former is not None and name.lower() not in MAY_REPEAT:
                raise AssertionError(f"{name} stands twice in an answer")
            headers[name.lower()] = value if former is None else f"{former}, {value}"
        status = int(lines[0].split(" ")[1])
        answer = Answer(status, raw, headers, b"")
        if status == 100 or method == "HEAD" or status in {204, 304}:
            return answer
        try:
            answer.body = b"".join(self._body(headers))
        except Cut as cut:
            answer.body, answer.complete = cut.got, False
        return answer

    def rest(self) -> bytes:
        """All that still comes until the other side closes."""
        try:
            while piece := self._socket.recv(65536):
                self._got += piece
        except ConnectionError:
            pass
        got, self._got = self._got, b""
        return got

    def answer_at_once(self, within_s: float) -> Answer | None:
        """An answer that comes within so long; None if nothing did, or the connection was closed without one."""
        usual = self._socket.gettimeout()
        self._socket.settimeout(within_s)
        try:
            self._more()
        except (TimeoutError, Cut):
            return None
        finally:
            self._socket.settimeout(usual)
        return self.answer(method="HEAD")

    def pending(self) -> bytes:
        """What has come and was not asked for."""
        self._socket.setblocking(False)
        try:
            self._got += self._socket.recv(65536)
        except BlockingIOError:
            pass
        finally:
            self._socket.settimeout(ANSWER_TIMEOUT_S)
        return self._got

    def shut_writing(self) -> None:
        """Say that nothing more comes."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave without a word."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def _body(self, headers: dict[str, str]) -> Iterator[bytes]:
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            try:
                while size := int(self._until(b"\r\n")[:-2], 16):
                    body += self._exactly(size)
                    self._exactly(2)
                self._exactly(2)
            except Cut as cut:
                raise Cut(body + cut.got) from None
            yield body
        elif "content-length" in headers:
            yield self._exactly(int(headers["content-length"]))
        else:
            yield self.rest()

    def _until(self, mark: bytes) -> bytes:
        at = 0
        while (found := self._got.find(mark, at)) < 0:
            at = max(0, len(self._got) - len(mark))
            self._more()
        got, self._got = self._got[: found + len(mark)], self._got[found + len(mark) :]
        return got

    def _exactly(self, size: int) -> bytes:
        pieces, missing = [self._got[:size]], size - len(self._got)
        self._got = self._got[size:]
        while missing > 0:
            try:
                piece = self._socket.recv(min(missing, 2**20))
            except ConnectionError:
                piece = b""
            if not piece:
                raise Cut(b"".join(pieces))
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def _more(self) -> None:
        try:
            piece = self._socket.recv(2**20)
        except ConnectionError:
            piece = b""
        if not piece:
            got, self._got = self._got, b""
            raise Cut(got)
        self._got += piece


@contextmanager
def connected(address: str, timeout_s: float = ANSWER_TIMEOUT_S) -> Iterator[RawSocket]:
    """A connection to `address` (http://host:port) until the block ends."""
    raw = RawSocket(address, timeout_s)
    try:
        yield raw
    finally:
        raw.close()
