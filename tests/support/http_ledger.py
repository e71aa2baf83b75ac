"""A ledger behind its port, and a sidecar's client to it, in one event loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from sidecar.ledger.administration import Act
from sidecar.ledger.http_access import sidecar_token
from sidecar.ledger.http_api import AdminAPI
from sidecar.ledger.http_client import HttpLedger
from sidecar.ledger.http_contract import ContractAPI
from sidecar.ledger.http_server import serve_admin_api
from sidecar.ledger.service import LedgerService
from tests.support.administration import NumberedIds

TOKEN = sidecar_token(bytes(range(32)))


@asynccontextmanager
async def served(
    service: LedgerService, port: int = 0, *, checkpoints: list[Callable[[str], None]] | None = None
) -> AsyncIterator[str]:
    """The contract on a port of its own, which TOKEN opens; gives its address, and `checkpoints` how to tell of one."""
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    await service.set_sidecar_token("tests", digest, Act("ada@example.com", "token"))
    contract = ContractAPI(service, asyncio.get_running_loop().time)
    if checkpoints is not None:
        checkpoints.append(contract.tell_checkpoint)
    api = AdminAPI(service, [], NumberedIds(), version="")
    address, close = await serve_admin_api(api, "127.0.0.1", port, contract=contract)
    try:
        yield address
    finally:
        await close()


@asynccontextmanager
async def connected(
    address: str, token: str = TOKEN, *, follow: bool = True, keep: Callable[[str], None] | None = None
) -> AsyncIterator[HttpLedger]:
    """A client; with `follow`, one that hears of changes by now; and with `keep`, of checkpoints."""
    ledger = HttpLedger(address, lambda: token, keep_checkpoint=keep)
    following = asyncio.create_task(ledger.run()) if follow else None
    try:
        if follow:
            async with asyncio.timeout(10):
                await ledger.wait_until_connected()
        yield ledger
    finally:
        if following is not None:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
        await ledger.close()
