"""Instants, as tests write them."""

from __future__ import annotations

from datetime import UTC, datetime


def ms(text: str) -> int:
    """An ISO instant, in UTC where it does not say, as Unix milliseconds."""
    at = datetime.fromisoformat(text)
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return round(at.timestamp() * 1000)
