"""Where the shared book is, apart from the driver: settings are read where no driver need be installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """A PostgreSQL database. Without a `url` there is none, and the book is an embedded one.

    `customers_together` is how many customers' transactions share a commit at most: 1 where the database spreads
    over many machines, each customer being on one of them.
    """

    url: str = ""
    connections: int = 8
    customers_together: int = 64
    isolation: Literal["read_committed", "serializable"] = "read_committed"
