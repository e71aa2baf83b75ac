"""How Redis is reached."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_URL: Final = re.compile(
    r"(?P<scheme>rediss?)://(?:(?P<user>[^:@/?#,]*)(?::(?P<password>[^@/?#,]*))?@)?"
    r"(?P<hosts>[^@/?#]+?)(?:/(?P<database>[0-9]{1,4}))?/?",
    re.ASCII,
)
_HOST: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)

USUAL_PORT: Final = 6379
MAX_SEEDS: Final = 32
"""Nodes that an address may name."""


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """Where Redis is, and how long it is waited for.

    `url` empty: there is none. `cluster`: it names nodes of a Redis Cluster, by commas, of which one need
    answer. `password_file` has the password alone in it, `ca_file` who vouches for it (rediss).
    After `failures` in a row nothing is asked of it for `open_s`, then twice as long, up to `max_open_s`.
    """

    url: str = ""
    cluster: bool = False
    password_file: Path | None = None
    ca_file: Path | None = None
    deadline_s: float = 0.1
    failures: int = 3
    open_s: float = 1.0
    max_open_s: float = 10.0


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """An address, taken apart. `password` is never shown."""

    seeds: tuple[tuple[str, int], ...]
    tls: bool
    user: str = ""
    database: int = 0

    def __str__(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self.seeds)


def read_address(url: str) -> tuple[RedisAddress, str]:
    """The address that a URL is, and the password in it.

    Raises:
        ValueError: it is none; says what was expected, and nothing of what stands there.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError("expected redis://HOST:PORT, or rediss:// with TLS; of a cluster, several by commas")
    seeds: list[tuple[str, int]] = []
    for one in found["hosts"].split(","):
        host = _HOST.fullmatch(one)
        port = USUAL_PORT if host is None or host["port"] is None else int(host["port"])
        if host is None or not 0 < port < 65_536:
            raise ValueError("expected HOST:PORT after redis://, of a cluster several by commas")
        seeds.append((host["host"].strip("[]"), port))
    if len(seeds) > MAX_SEEDS:
        raise ValueError(f"expected at most {MAX_SEEDS} nodes; the others are found by themselves")
    address = RedisAddress(tuple(seeds), found["scheme"] == "rediss", found["user"] or "", int(found["database"] or 0))
    return address, found["password"] or ""


def check_options(options: RedisOptions) -> dict[str, str]:
    """What is wrong with them, by key; `url` empty is none."""
    if not options.url:
        return {"cluster": "a cluster needs a url"} if options.cluster else {}
    try:
        address, _ = read_address(options.url)
    except ValueError as problem:
        return {"url": str(problem)}
    problems: dict[str, str] = {}
    if len(address.seeds) > 1 and not options.cluster:
        problems["url"] = "expected one HOST:PORT, or cluster: true"
    if address.database and options.cluster:
        problems["url"] = "expected no /DATABASE: a cluster has one"
    if options.ca_file is not None and not address.tls:
        problems["ca_file"] = "goes with rediss://"
    if options.max_open_s < options.open_s:
        problems["max_open_s"] = "expected no less than open_s"
    return problems
