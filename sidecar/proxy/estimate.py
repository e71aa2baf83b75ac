"""What a request can use at most, before anything of it is priced."""

from __future__ import annotations

from sidecar.providers.dialect import BadRequest, Dialect, RequestFacts
from sidecar.proxy.unfit import Unfit, UnfitReason


def estimate(dialect: Dialect, body: bytes) -> RequestFacts | Unfit:
    """Read a body's ceiling of usage and what else matters before the call, or say why it cannot be taken."""
    try:
        return dialect.read_request(body)
    except BadRequest as bad:
        return Unfit(UnfitReason.INVALID_REQUEST, bad.message, param=bad.param, code=bad.code)
