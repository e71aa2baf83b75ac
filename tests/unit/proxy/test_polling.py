from __future__ import annotations

import socket

from sidecar.proxy.polling import Poller


def test_a_socket_is_readable_once_something_is_there() -> None:
    """Nothing, then a byte, then the end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        poller = Poller(ours.fileno())
        assert not poller.is_readable()
        theirs.send(b"a")
        assert poller.is_readable()
        assert ours.recv(1) == b"a"
        assert not poller.is_readable()
        theirs.close()
        assert poller.is_readable()
