"""Redis servers for tests: each with a folder and ports of its own, killable, pausable; and a cluster of three.

They listen on free loopback ports, keep nothing on disk, and die with the process that started them.
"""

from __future__ import annotations

import atexit
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

START_TIMEOUT_S = 20.0
SLOTS = 16_384


def binary() -> str | None:
    """Where `redis-server` is; None: it is not installed."""
    return shutil.which("redis-server")


class Server:
    """One server."""

    def __init__(self, *, cluster: bool = False) -> None:
        found = binary()
        if found is None:
            raise RuntimeError("Redis is not installed (Debian: apt install redis-server)")
        self._binary = found
        self._cluster = cluster
        self.folder = Path(tempfile.mkdtemp(prefix="spend-redis-"))
        self.port = _free_port()
        self.bus_port = _free_port() if cluster else 0
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        atexit.register(self.remove)

    @property
    def url(self) -> str:
        """How to reach it."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, where it was if it ran before, and wait until it answers."""
        command = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", str(self.folder), "--daemonize", "no", "--maxmemory", "64mb"]
        if self._cluster:
            command += ["--cluster-enabled", "yes", "--cluster-port", str(self.bus_port)]
            command += ["--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no"]
        setpriv = shutil.which("setpriv")
        if setpriv:  # should this process be killed
            command = [setpriv, "--pdeathsig", "KILL", *command]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            try:
                if self.ask("PING") == b"+PONG":
                    return
            except OSError:
                pass
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"Redis did not start:\n{(self.folder / 'log').read_text(errors='replace')}")

    def ask(self, *words: str) -> bytes:
        """One command on a connection of its own; the first line of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as one:
            one.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words))
            with one.makefile("rb") as answer:
                return answer.readline().rstrip(b"\r\n")

    def flush(self) -> None:
        """Forget everything."""
        self.ask("FLUSHALL")

    def pause(self) -> None:
        """SIGSTOP: it is connected, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: what it knew is gone."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)

    def remove(self) -> None:
        """End it and its folder."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


class Cluster:
    """Three servers that share the slots, without replicas."""

    def __init__(self) -> None:
        self.nodes = [Server(cluster=True) for _ in range(3)]
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            slots = range(SLOTS * number // 3, SLOTS * (number + 1) // 3)
            node.ask("CLUSTER", "ADDSLOTSRANGE", str(slots[0]), str(slots[-1]))
        for node in self.nodes[1:]:
            first.ask("CLUSTER", "MEET", "127.0.0.1", str(node.port), str(node.bus_port))
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            if all(self._is_whole(node) for node in self.nodes):
                return
            time.sleep(0.05)
        raise RuntimeError("the cluster's nodes did not find each other")

    @property
    def url(self) -> str:
        """How to reach it: two of its nodes; the third is found."""
        return f"redis://127.0.0.1:{self.nodes[0].port},127.0.0.1:{self.nodes[1].port}"

    def remove(self) -> None:
        """End it."""
        for node in self.nodes:
            node.remove()

    @staticmethod
    def _is_whole(node: Server) -> bool:
        with socket.create_connection(("127.0.0.1", node.port), timeout=10) as one:
            one.sendall(b"CLUSTER INFO\r\n")
            told = one.recv(4096)
        return b"cluster_state:ok" in told and b"cluster_known_nodes:3" in told and b"slots_ok:16384" in told


def needs_redis() -> None:
    """Skip where it is not installed; a machine whose user is root has it from `make test`."""
    if binary() is None:
        pytest.skip("Redis is not installed")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
