"""A PostgreSQL server for tests: its own folder, port and user, started when first asked for, and killable.

PostgreSQL refuses to run as root, so where the tests do, the server runs as the user `postgres` that
Debian's package makes. It listens on a free loopback port, and dies with the process that started it.
"""

from __future__ import annotations

import atexit
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

START_TIMEOUT_S = 30.0

SPEED = (
    "fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=200",
    "autovacuum=off", "jit=off", "max_wal_size=128MB", "min_wal_size=32MB",
)  # fmt: skip
"""Settings of a server whose data need not outlive the test, nor fill the disk."""

MOST_DATABASES = 24
"""How many databases a server keeps: before more are made, the oldest go that nobody uses. One takes 9 MB."""


PREFIX = "spend-pg-"

ABANDONED_AFTER_S = 3600.0
"""A folder that has been there for so long, and whose server does not run, was left by tests that were killed."""

STANDBY = "standby"
"""What a standby calls itself, for `synchronous_standby_names`."""


def binaries() -> Path | None:
    """Where `initdb` and `postgres` are; None: they are not installed."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    return Path(found[-1]).parent if found else None


class Server:
    """One server. `settings` are `name=value`, over PostgreSQL's defaults."""

    def __init__(self, settings: tuple[str, ...] = SPEED, *, standby_of: Server | None = None) -> None:
        """Make and start one: empty, or as the standby of another, which follows it until it is promoted."""
        found = binaries()
        if found is None:
            raise RuntimeError("PostgreSQL is not installed (Debian: apt install postgresql)")
        self._binaries = found
        self._settings = settings
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._databases = 0
        self._kept: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        data = str(self.folder / "data")
        if standby_of is None:
            self._run("initdb", "-D", data, "-U", "spend", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        else:
            source = f"host=127.0.0.1 port={standby_of.port} user=spend application_name={STANDBY}"
            self._run("pg_basebackup", "-D", data, "-d", source, "-R", "-c", "fast", "--no-sync")
        self.port: int = _free_port()
        self.start()

    def _as_user(self) -> dict[str, object]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            check=False,
            capture_output=True,
            cwd=self.folder,
            **self._as_user(),  # type: ignore[call-overload]
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.decode(errors='replace')}")

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        command = [str(self._binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}"]
        for setting in self._settings:
            command += ["-c", setting]
        setpriv = shutil.which("setpriv")
        if setpriv:  # SIGQUIT ends it at once, should this process be killed
            command = [setpriv, "--pdeathsig", "QUIT", *command]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as_user(),  # type: ignore[call-overload]
            )
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            ready = subprocess.run(
                [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
            )
            if ready.returncode == 0:
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"PostgreSQL did not start:\n{self.log()}")

    def cpu_s(self) -> float:
        """CPU seconds of its processes, as far as they still run; 0 where the kernel does not tell."""
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text("ascii", "replace").rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if self._process is not None and self._process.pid in (int(path.parent.name), int(fields[1])):
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def log(self) -> str:
        """What it wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def url(self, database: str) -> str:
        """How to reach one of its databases."""
        return f"postgresql://spend@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """An empty database of its own, there while eleven more are made or somebody is connected; gives its URL."""
        if len(self._kept) >= MOST_DATABASES:
            self._drop_oldest()
        self._databases += 1
        name = f"book_{self._databases}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "spend", name)
        self._kept.append(name)
        return self.url(name)

    def _drop_oldest(self) -> None:
        for name in self._kept[: -MOST_DATABASES // 2]:
            try:
                self._run("dropdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "spend", name)
            except RuntimeError:  # somebody is connected: its turn comes again
                continue
            self._kept.remove(name)

    def promote(self) -> None:
        """Let a standby take over."""
        self._run("pg_ctl", "promote", "-D", str(self.folder / "data"), "-t", str(round(START_TIMEOUT_S)))

    def query(self, sql: str) -> str:
        """What a statement gives, as `psql` prints it bare."""
        command = [str(self._binaries / "psql"), "-XAtq", "-c", sql, f"{self.url('postgres')}"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def kill(self) -> None:
        """SIGKILL to all of its processes: what a machine's loss looks like to who is connected."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            time.sleep(0.2)
            (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def stop(self, signal_number: int = signal.SIGQUIT) -> None:
        """End it at once, or as another signal says (SIGINT: open transactions are rolled back)."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal_number)
            self._process.wait(30)

    def remove(self) -> None:
        """End it and its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            if time.time() - folder.stat().st_mtime < ABANDONED_AFTER_S:
                continue
            number = (folder / "data" / "postmaster.pid").read_text().partition("\n")[0]
            if Path("/proc", number).is_dir():
                continue
        except FileNotFoundError:  # it was stopped, or another run has just removed it
            pass
        except OSError:  # another user's
            continue
        shutil.rmtree(folder, ignore_errors=True)


_shared: list[Server] = []


def shared_server() -> Server:
    """The server that the tests of this process share, each with databases of its own."""
    if not _shared:
        _shared.append(Server())
        atexit.register(_shared[0].remove)
    return _shared[0]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
