"""How a process runs: `config/spend.yaml`, the environment, and the command line over both.

Every key is also a variable: `SPEND_` and its path joined by `__`, in capitals; the section
`sidecar` is left out (`SPEND_UPSTREAMS__OPENAI__BASE_URL`, `SPEND_UNKNOWN_MODEL`), the section
`ledger` is not (`SPEND_LEDGER__LISTEN__PORT`). A list is separated by commas. A variable that is
set but empty is an empty value, not an unset one. A `SPEND_` variable that means nothing is a
mistake, because a misspelt limit is no limit.
"""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from sidecar.app.binding import FOUND, Binder, Place, merge
from sidecar.app.checkpoint_files import CheckpointOptions
from sidecar.app.one_probe import ProbeOptions
from sidecar.catalog.files import read_configured
from sidecar.catalog.strict_yaml import Document, read_yaml
from sidecar.core.governance.tenancy import is_id, parse_path
from sidecar.errors import ConfigurationError
from sidecar.leases.options import KeeperOptions
from sidecar.ledger.options import LedgerOptions
from sidecar.outbox.shipper import ShipperOptions
from sidecar.outbox.spool import SpoolOptions
from sidecar.proxy.accept import AcceptOptions
from sidecar.proxy.background import KEEP_S
from sidecar.proxy.clamp import CLAMP_FLOOR_TOKENS
from sidecar.proxy.forward_options import ForwardOptions
from sidecar.proxy.gate import OnCap
from sidecar.proxy.key_ring import OUTAGE_S
from sidecar.proxy.local_socket import SocketOptions
from sidecar.proxy.upstream_pool import PoolOptions, read_origin
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.redis_options import RedisOptions, check_options
from sidecar.telemetry.logs import LogOptions

_FIELD_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", re.ASCII)

_DATABASE: Final = re.compile(r"$|postgres(ql)?://", re.ASCII)

PREFIX: Final = "SPEND_"
NOT_SETTINGS: Final = frozenset(
    {"SPEND_DATA", "SPEND_LEDGER_URL", "SPEND_LEDGER_TOKEN_FILE", "SPEND_TOKEN", "SPEND_CATALOG", "SPEND_CONFIG"}
)
"""Variables of the command line, which are no settings."""

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
KEY_VARIABLES: Final = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
"""Where their client libraries look for a key: with one of them set, nobody wants the demo provider."""

OFFICIAL: Final = {"openai": "https://api.openai.com", "anthropic": "https://api.anthropic.com"}

LEAST: Final[dict[Place, float]] = {
    ("sidecar", "clamp_floor_tokens"): 1,
    ("sidecar", "door", "max_connections"): 1,
    ("sidecar", "door", "max_requests"): 1,
    ("sidecar", "door", "max_body_bytes"): 1024,
    ("sidecar", "door", "max_held_body_bytes"): 1024,
    ("sidecar", "door", "head_timeout_s"): 0.1,
    ("sidecar", "door", "body_timeout_s"): 0.1,
    ("sidecar", "door", "client_stall_s"): 0.1,
    ("sidecar", "door", "write_buffer_bytes"): 1024,
    ("sidecar", "provider", "head_timeout_s"): 0.1,
    ("sidecar", "provider", "idle_timeout_s"): 0.1,
    ("sidecar", "provider", "total_timeout_s"): 0.1,
    ("sidecar", "provider", "gather_bytes"): 1024,
    ("sidecar", "pool", "connect_timeout_s"): 0.01,
    ("sidecar", "leases", "refresh_every_s"): 0.1,
    ("sidecar", "leases", "cover_s"): 0.1,
    ("sidecar", "leases", "miss_timeout_s"): 0.01,
    ("sidecar", "leases", "outage_retry_s"): 0.01,
    ("sidecar", "leases", "idle_after_s"): 0.1,
    ("sidecar", "probing", "min_pause_s"): 0.01,
    ("sidecar", "probing", "max_pause_s"): 0.01,
    ("sidecar", "leases", "close_timeout_s"): 0.1,
    ("sidecar", "outbox", "segment_bytes"): 64 * 1024,
    ("sidecar", "shipping", "ship_every_s"): 0.001,
    ("sidecar", "redis", "deadline_s"): 0.001,
    ("sidecar", "redis", "failures"): 1,
    ("sidecar", "redis", "open_s"): 0.01,
    ("sidecar", "redis", "max_open_s"): 0.01,
    ("sidecar", "shipping", "sync_timeout_s"): 0.1,
    ("sidecar", "shipping", "min_backoff_s"): 0.01,
    ("sidecar", "shipping", "max_backoff_s"): 0.01,
    ("ledger", "database", "connections"): 1,
    ("ledger", "redis", "deadline_s"): 0.001,
    ("ledger", "redis", "failures"): 1,
    ("ledger", "redis", "open_s"): 0.01,
    ("ledger", "redis", "max_open_s"): 0.01,
    ("ledger", "database", "customers_together"): 1,
    ("ledger", "rules", "valid_for_ms"): 1000,
    ("ledger", "rules", "refresh_every_ms"): 100,
    ("ledger", "rules", "grace_for_ms"): 1000,
    ("ledger", "rules", "fresh_for_ms"): 100,
    ("ledger", "rules", "max_new_children_per_hour"): 1,
    ("ledger", "checkpoints", "max_bytes"): 1024 * 1024,
}
"""Settings below which nothing works: a timer that spins, a bound that nothing fits."""

PORT_FLAGS: Final = (
    ("port", "sidecar", "listen"),
    ("health_port", "sidecar", "health"),
    ("ledger_port", "ledger", "listen"),
    ("ledger_health_port", "ledger", "health"),
)
"""What the command line may say of ports, and the setting that each is over."""

SPARE_FILES: Final = 64
"""Descriptors beside connections: the book, the outbox, the listeners, the log."""

FEW_FILES: Final = 256
"""Descriptors without which nothing can be served in earnest."""

MIN_SEGMENTS: Final = 3
"""Segments that the outbox must have room for beside its ballast."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a port listens; 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """One provider.

    `base_url` is an origin; the caller's raw path is appended. `key_file` holds a key that replaces
    the caller's, in the header `key_header` where the provider's usual one is not wanted. `needs_key` false: it
    takes calls without any, as models on one's own machines do.
    `stops_billing_on_disconnect` is empty, or the source and date by which this provider is known
    to stop billing when we hang up (L25). `on_caller_gone`: what becomes of an answer whose caller has gone, if not
    what `provider` says; see `ForwardOptions`. `doors`: what becomes of what is not metered there, see `proxy.route`.
    `prices_of`: the provider whose rate cards price it, where that is not the upstream's own name; `models`: what
    those call a model that callers name otherwise. `stored_for`: who may have what the provider keeps, by its id,
    where the key is the sidecar's: the `maker`, whose call it was, as far as this sidecar knows, or `anyone` who names
    it; `shared` lists what is for all (a store of vectors, a file). `heeds_max_completion_tokens` false: a server that
    knows `max_tokens` alone, so a limit in the other field bounds nothing there (of some it is known by their address).
    """

    base_url: str
    key_file: Path | None = None
    key_header: str = ""
    needs_key: bool = True
    stops_billing_on_disconnect: str = ""
    on_caller_gone: Literal["", "drain", "estimate", "abort"] = ""
    doors: dict[str, str] = field(default_factory=dict)
    prices_of: str = ""
    models: dict[str, str] = field(default_factory=dict)
    stored_for: Literal["maker", "anyone"] = "maker"
    shared: tuple[str, ...] = ()
    heeds_max_completion_tokens: bool = True


@dataclass(frozen=True, slots=True)
class DefaultSubject:
    """Who is spending where a request does not say."""

    customer: str = ""
    path: str = ""
    user: str = ""
    agent: str = ""
    session: str = ""
    feature: str = ""
    product: str = ""


def _official() -> dict[str, UpstreamSettings]:
    return {name: UpstreamSettings(url) for name, url in OFFICIAL.items()}


@dataclass(frozen=True, slots=True)
class SidecarSettings:
    """The proxy beside the application."""

    listen: Listen = field(default_factory=lambda: Listen(port=8402))
    health: Listen = field(default_factory=lambda: Listen(port=9402))
    socket: SocketOptions = field(default_factory=SocketOptions)
    upstreams: dict[str, UpstreamSettings] = field(default_factory=_official)
    unknown_model: Literal["deny", "meter"] = "deny"
    unbounded: Literal["deny", "allow"] = "deny"
    clamp_floor_tokens: int = CLAMP_FLOOR_TOKENS
    pass_through: tuple[str, ...] = ()
    subject: DefaultSubject = field(default_factory=DefaultSubject)
    require_key: bool = False
    key_outage_s: float = OUTAGE_S
    allowed_hosts: tuple[str, ...] = ()
    compat_status: Literal[402, 429] = 402
    on_cap: OnCap = "end"
    demo: Literal["auto", "off"] = "auto"
    shutdown_grace_s: float = 25.0
    background_s: float = KEEP_S
    memory_limit_bytes: int = 0
    """Of this process; 0: its container's, if that has one. Near it calls are refused, and idle streams ended."""

    door: AcceptOptions = field(default_factory=AcceptOptions)
    provider: ForwardOptions = field(default_factory=ForwardOptions)
    pool: PoolOptions = field(default_factory=PoolOptions)
    leases: KeeperOptions = field(default_factory=KeeperOptions)
    probing: ProbeOptions = field(default_factory=ProbeOptions)
    outbox: SpoolOptions = field(default_factory=SpoolOptions)
    shipping: ShipperOptions = field(default_factory=ShipperOptions)
    redis: RedisOptions = field(default_factory=RedisOptions)
    log: LogOptions = field(default_factory=LogOptions)


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """The ledger."""

    listen: Listen = field(default_factory=lambda: Listen(port=8403))
    health: Listen = field(default_factory=lambda: Listen(port=9403))
    database: DatabaseOptions = field(default_factory=DatabaseOptions)
    admin_token_file: Path | None = None
    rules: LedgerOptions = field(default_factory=LedgerOptions)
    checkpoints: CheckpointOptions = field(default_factory=CheckpointOptions)
    redis: RedisOptions = field(default_factory=RedisOptions)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a process is told."""

    sidecar: SidecarSettings = field(default_factory=SidecarSettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    configured_upstreams: frozenset[str] = field(default=frozenset(), metadata=FOUND)
    """Upstreams whose address somebody set: the demo provider does not stand in for them."""


def files_wanted(settings: Settings) -> int:
    """Descriptors for as many connections as are configured, each with one to its provider."""
    ours = settings.sidecar
    return 2 * ours.door.max_connections + ours.pool.max_idle + SPARE_FILES


def fitted_to_files(settings: Settings, files: int) -> Settings:
    """The settings with as many connections as so many descriptors allow (F-53).

    Callers beyond are turned away, so that the health port, the outbox and the calls under way have theirs.
    """
    ours = settings.sidecar
    if files >= files_wanted(settings):
        return settings
    idle = min(ours.pool.max_idle, files // 8)
    door = replace(ours.door, max_connections=max(1, (files - idle - SPARE_FILES) // 2))
    return replace(settings, sidecar=replace(ours, door=door, pool=replace(ours.pool, max_idle=idle)))


def uses_demo(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether the demo provider answers: nobody has set a provider, and no provider's key is there."""
    has_key = any(environ.get(name) for name in KEY_VARIABLES.values())
    return settings.sidecar.demo == "auto" and not settings.configured_upstreams and not has_key


def default_config() -> str:
    """The configuration shipped with the product."""
    return str(_shipped("spend.yaml"))


def default_catalog() -> str:
    """The catalog shipped with the product."""
    return str(_shipped("catalog.yaml"))


def _shipped(name: str) -> Path:
    """A file of `config/`: beside the package in a checkout, under the environment's data when installed."""
    beside = Path(__file__).resolve().parents[2] / "config" / name
    if beside.exists():
        return beside
    return Path(sysconfig.get_path("data")) / "share" / "spend-sidecar" / name


def load_settings(
    config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object], *, alone: bool = False
) -> Settings:
    """Read file, environment and command line, the later over the earlier.

    Args:
        config: the file; None for the one shipped.
        environ: the environment.
        overrides: `port`, `health_port`, `ledger_port` and `ledger_health_port` from the command line.
        alone: for a ledger in a process of its own, which sidecars elsewhere may reach by their tokens.

    Raises:
        ConfigurationError: every mistake found, each with the file and key, or the variable.
    """
    path = config if config is not None else Path(default_config())
    document = read_yaml(path.name, read_configured(path))
    if not isinstance(document.value, dict):
        raise ConfigurationError([f"{path.name}: expected a mapping with `sidecar:` and `ledger:`"])
    variables: dict[Place, str] = {}
    values = merge(document.value, _from_environment(environ, variables))
    configured = _configured_upstreams(values)
    ours = values.setdefault("sidecar", {})
    if isinstance(ours, dict):
        named = {} if ours.get("upstreams") is None else ours["upstreams"]
        if isinstance(named, dict):
            ours["upstreams"] = merge({name: {"base_url": url} for name, url in OFFICIAL.items()}, named)
    for key, section, name in PORT_FLAGS:
        if key in overrides:
            values = merge(values, {section: {name: {"port": overrides[key]}}})
    binder = Binder(lambda at: _where(document, variables, at), LEAST)
    settings = binder.bind(Settings, values, ())
    problems = binder.problems
    if not problems:
        problems = _check(settings, document, variables, alone=alone)
    if problems:
        raise ConfigurationError(problems)
    return Settings(settings.sidecar, settings.ledger, configured)


def _configured_upstreams(values: dict[str, Any]) -> frozenset[str]:
    section = values.get("sidecar")
    upstreams = section.get("upstreams") if isinstance(section, dict) else None
    if not isinstance(upstreams, dict):
        return frozenset()
    return frozenset(
        name
        for name, facts in upstreams.items()
        if isinstance(facts, dict)
        and (facts.get("key_file") or facts.get("base_url") not in (None, OFFICIAL.get(name)))
    )


def _where(document: Document, variables: Mapping[Place, str], place: Place) -> str:
    for length in range(len(place), 0, -1):
        if place[:length] in variables:
            return variables[place[:length]]
    for longer, name in variables.items():  # a variable that goes on where the settings end
        if longer[: len(place)] == place:
            return name
    return document.at(place)


def _from_environment(environ: Mapping[str, str], variables: dict[Place, str]) -> dict[str, Any]:
    """The variables as the mapping that a file would be; `variables` gets where each came from."""
    values: dict[str, Any] = {}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        parts = tuple(part.lower() for part in name.removeprefix(PREFIX).split("__"))
        place = parts if parts[0] in ("ledger", "sidecar") and len(parts) > 1 else ("sidecar", *parts)
        variables[place] = name
        nested: Any = environ[name]
        for part in reversed(place):
            nested = {part: nested}
        values = merge(values, nested)
    return values


def _check(settings: Settings, document: Document, variables: Mapping[Place, str], *, alone: bool) -> list[str]:
    """What types alone do not tell."""
    problems: list[str] = []

    def wrong(place: Place, expected: str) -> None:
        problems.append(f"{_where(document, variables, place)}: {expected}")

    ours = settings.sidecar
    _check_ports(settings, wrong, alone=alone)
    for name, upstream in ours.upstreams.items():
        try:
            read_origin(upstream.base_url)
        except ConfigurationError as problem:
            wrong(("sidecar", "upstreams", name, "base_url"), problem.problems[0])
        if upstream.key_header and not _FIELD_NAME.fullmatch(upstream.key_header):
            wrong(("sidecar", "upstreams", name, "key_header"), "expected the name of a header, such as x-api-key")
    if not _DATABASE.match(settings.ledger.database.url):
        wrong(("ledger", "database", "url"), "expected postgresql://USER@HOST:PORT/DATABASE")
    outbox = ours.outbox
    if outbox.max_bytes < MIN_SEGMENTS * outbox.segment_bytes + outbox.ballast_bytes:
        expected = f"expected room for {MIN_SEGMENTS} segments of segment_bytes and the ballast_bytes"
        wrong(("sidecar", "outbox", "max_bytes"), expected)
    for section, redis in (("sidecar", ours.redis), ("ledger", settings.ledger.redis)):
        for key, expected in check_options(redis).items():
            wrong((section, "redis", key), expected)
    if 0 < settings.ledger.checkpoints.every_s < 1:
        wrong(("ledger", "checkpoints", "every_s"), "expected 1 or more seconds, or 0 for none")
    if ours.shipping.max_backoff_s < ours.shipping.min_backoff_s:
        wrong(("sidecar", "shipping", "max_backoff_s"), "expected no less than min_backoff_s")
    for name in DefaultSubject.__dataclass_fields__:
        value = getattr(ours.subject, name)
        if name != "path" and value and not is_id(value):
            wrong(("sidecar", "subject", name), "expected at most 128 of [A-Za-z0-9._:@-]")
    try:
        parse_path(ours.subject.path)
    except ValueError as problem:
        wrong(("sidecar", "subject", "path"), str(problem))
    return problems


def _check_ports(settings: Settings, wrong: Callable[[Place, str], None], *, alone: bool) -> None:
    ports = {
        ("sidecar", "listen"): settings.sidecar.listen,
        ("sidecar", "health"): settings.sidecar.health,
        ("ledger", "listen"): settings.ledger.listen,
        ("ledger", "health"): settings.ledger.health,
    }
    for place, listen in ports.items():
        if listen.port > 65535:
            wrong((*place, "port"), "expected a port from 0 to 65535")
        # Probes come from outside, and spend nothing; a ledger of its own lets nobody in without a token.
        if listen.host in LOOPBACK or place[1] == "health" or (alone and place[0] == "ledger"):
            continue
        if place[0] == "ledger":
            wrong((*place, "host"), "expected a loopback address: only `spend ledger` listens elsewhere")
        elif not settings.sidecar.require_key:
            wrong((*place, "host"), "expected a loopback address; callers from elsewhere need require_key: true")
