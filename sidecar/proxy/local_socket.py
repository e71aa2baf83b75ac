"""A Unix socket to listen on: who connects is known by the kernel's word (S-03).

On loopback any process of the network namespace can connect, and says who it is. On a socket the kernel
says which user a process runs as, and only some are let in; so they need no key.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from sidecar.errors import ConfigurationError

MODE: Final = 0o660
"""Its owner and its group, such as a pod's shared one."""

_PEER: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid. Source: Linux unix(7), SO_PEERCRED, checked 2026-11


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """`path` is where it stands, None for none; `uids` are the users let in beside our own."""

    path: Path | None = None
    uids: tuple[int, ...] = ()

    def allowed(self) -> frozenset[int]:
        """Everybody who is let in."""
        return frozenset({os.getuid(), *self.uids})


def bind_socket(path: Path) -> socket.socket:
    """A socket bound there, for its owner and group alone. One that a process left behind when it was killed gives way.

    Raises:
        ConfigurationError: something else stands there, somebody listens, or it cannot be made.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        listening.bind(str(path))
        path.chmod(MODE)
    except (OSError, ValueError) as problem:
        listening.close()
        what = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise ConfigurationError([f"{path}: {what}; set sidecar.socket.path to another place"]) from None
    return listening


def _clear(path: Path) -> None:
    """Take away a socket on which nobody listens.

    Raises:
        ValueError: what stands there is not one.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ValueError("something that is no socket stands there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise ValueError("another process listens there")


class PeerGate(asyncio.Protocol):
    """Asks the kernel who has connected, and gives the connection on, or cuts it.

    Args:
        allowed: the users let in.
        make: makes the protocol that serves whoever is.
        refused: is told the user who is not.
    """

    def __init__(
        self, allowed: frozenset[int], make: Callable[[], asyncio.Protocol], refused: Callable[[int], None]
    ) -> None:
        self._allowed = allowed
        self._make = make
        self._refused = refused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Decide before a byte is read."""
        wire = cast(asyncio.Transport, transport)
        uid = _peer_uid(wire)
        if uid not in self._allowed:
            self._refused(uid)
            wire.abort()
            return
        protocol = self._make()
        wire.set_protocol(protocol)
        protocol.connection_made(wire)


def _peer_uid(wire: asyncio.Transport) -> int:
    sock = wire.get_extra_info("socket")
    _, uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(uid)
