"""The ledger's port, opened for as long as a block runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sidecar.app.serving import port_taken
from sidecar.app.settings import Listen
from sidecar.ledger.http_api import AdminAPI
from sidecar.ledger.http_contract import ContractAPI
from sidecar.ledger.http_server import serve_admin_api


@asynccontextmanager
async def ledger_port(api: AdminAPI, listen: Listen, *, contract: ContractAPI | None = None) -> AsyncIterator[str]:
    """Serve the API, and the contract where there is one; gives the address.

    Raises:
        ConfigurationError: the port is taken.
    """
    try:
        address, close = await serve_admin_api(api, listen.host, listen.port, contract=contract)
    except OSError as problem:
        raise port_taken(listen, "--ledger-port", problem) from None
    try:
        yield address
    finally:
        await close()
