"""Where the shared book is, apart from the driver: settings are read where no driver need be installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """A PostgreSQL database. Without a `url` there is none, and the book is an embedded one."""

    url: str = ""
    connections: int = 8
    isolation: Literal["read_committed", "serializable"] = "read_committed"
