"""Bounds of a request's way to its provider and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ForwardOptions:
    """How long a provider may take, and what is read for a caller who has gone."""

    head_timeout_s: float = 600.0
    """From the request to the answer's head; a long answer that is not streamed spends all its time here."""

    idle_timeout_s: float = 300.0
    """Between two pieces of an answer; time in which the caller does not read is not counted."""

    total_timeout_s: float = 1800.0
    on_caller_gone: Literal["drain", "estimate", "abort"] = "drain"
    """`drain` reads on, within the next two bounds; `estimate` hangs up (L25), `abort` where nothing is billed then."""

    drain_s: float = 60.0
    drain_max_bytes: int = 8 * 2**20
    gather_bytes: int = 64 * 1024
    """An answer that was not asked for as a stream is passed on whole up to this size, so that its
    charge can stand in its head; larger ones pass as they come."""
