"""A request's body, within a cap and a time: both of the ledger's doors read by it, each says no in its own words."""

from __future__ import annotations

import asyncio
from enum import Enum, auto

from aiohttp import web


class BodyFault(Enum):
    """Why there is no body."""

    TOO_LARGE = auto()
    TOO_SLOW = auto()
    BROKE_OFF = auto()


class BodyRefused(Exception):
    """Raised for a body that is not taken; carries the `fault`."""

    def __init__(self, fault: BodyFault) -> None:
        super().__init__(fault.name)
        self.fault = fault


async def read_body(request: web.BaseRequest, *, most_bytes: int, timeout_s: float) -> bytes:
    """The whole body, as it was sent. No more than `most_bytes` of it are held.

    Raises:
        BodyRefused: it is larger, did not come in time, or broke off.
    """
    if request.content_length is not None and request.content_length > most_bytes:
        raise BodyRefused(BodyFault.TOO_LARGE)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > most_bytes:
                    raise BodyRefused(BodyFault.TOO_LARGE)
    except TimeoutError:
        raise BodyRefused(BodyFault.TOO_SLOW) from None
    except (web.RequestPayloadError, ConnectionError):
        raise BodyRefused(BodyFault.BROKE_OFF) from None
    return bytes(body)
