"""How much the door for callers lets in, and for how long it waits."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.proxy.request_head import LOOPBACK_HOSTS


@dataclass(frozen=True, slots=True)
class AcceptOptions:
    """How much the door lets in, and for how long it waits."""

    hosts: frozenset[bytes] = LOOPBACK_HOSTS
    """Names (lower case, without port) under which we may be called; others get 421."""

    max_connections: int = 12_000
    max_requests: int = 10_000
    """Requests at once, waiting ones included; over it 503."""

    max_body_bytes: int = 32 * 2**20
    max_held_body_bytes: int = 512 * 2**20
    """All request bodies held at once; over it 503."""

    head_timeout_s: float = 10.0
    """From a head's first byte to its last."""

    body_timeout_s: float = 60.0
    """For the whole body, however fast it trickles."""

    body_grace_s: float = 10.0
    """After this long a body must have come at `body_min_bytes_per_s` on average."""

    body_min_bytes_per_s: int = 1024
    keepalive_s: float = 75.0
    """How long a connection may stand idle between requests."""

    linger_s: float = 2.0
    """How long the rest of a refused body is read, so that its sender gets to see the refusal."""

    client_stall_s: float = 60.0
    """How long a caller may read nothing while bytes wait for it."""

    write_buffer_bytes: int = 64 * 1024
    """Unsent bytes at which a provider's stream is paused."""
