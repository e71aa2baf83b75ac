"""How the outbox is kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """`max_bytes` of segments in all, `segment_bytes` each; `ballast_bytes` are kept on the disk for settlements.

    What the ledger has acknowledged is kept for `retain_s`, or until the room is needed.
    `pod_uid` names the pod, empty outside of Kubernetes.
    """

    max_bytes: int = 256 * 1024 * 1024
    segment_bytes: int = 8 * 1024 * 1024
    ballast_bytes: int = 1024 * 1024
    fsync_every_s: float = 0.02
    retain_s: float = 86_400.0
    pod_uid: str = ""
