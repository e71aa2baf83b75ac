"""The ledger's API on a socket.

aiohttp's low-level server, without its router: the raw path decides here. Bytes that are not
HTTP get a short problem, not a page that quotes them, and one line in the log, not a traceback:
whoever sends them should not be able to fill a disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from sidecar.ledger.http_api import AdminAPI
from sidecar.ledger.http_contract import PREFIX, ContractAPI
from sidecar.ledger.http_problems import CONTENT_TYPE, RequestRefused, problem_of

KEEP_ALIVE_S: Final = 30.0
CLOSE_TIMEOUT_S: Final = 5.0
"""How long requests under way may take once the server is told to end."""

LINGER_S: Final = 1.0
"""How long what is left of a refused body is read away, so that the caller hears why before the end."""

_log = logging.getLogger(__name__)
_NO_ACCESS_LOG: Final = logging.Logger("admin-access", logging.CRITICAL)


class _Connection(web.RequestHandler):
    """One connection, which refuses what it cannot read without quoting it."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are not HTTP with 400, whatever was wrong with them."""
        del message  # quotes the bytes
        _log.info("admin_request_malformed", extra={"facts": {"status": status, "error": type(exc).__name__}})
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun")
        problem = problem_of(RequestRefused("malformed_request", "this is not HTTP/1.1 as it is taken here"), "")
        response = web.Response(status=problem.status, body=problem.body, content_type=CONTENT_TYPE)
        response.force_close()
        return response


class _Server(web.Server):
    """A server of such connections."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=KEEP_ALIVE_S,
            access_log=_NO_ACCESS_LOG,
            lingering_time=LINGER_S,
            auto_decompress=False,
        )


async def serve_admin_api(
    api: AdminAPI, host: str, port: int, *, contract: ContractAPI | None = None
) -> tuple[str, Callable[[], Awaitable[None]]]:
    """Serve the API.

    Args:
        api: what answers.
        contract: what answers sidecars in other processes; None: there are none.
        host: the address to listen on; loopback unless there is TLS in front.
        port: 0 for any.

    Returns:
        Its address, `http://127.0.0.1:8403`, and what ends it: nothing new is taken, requests
        under way get CLOSE_TIMEOUT_S.

    Raises:
        OSError: the port is taken, or may not be used.
    """

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if contract is not None and request.raw_path.startswith(PREFIX):
            return await contract.answer(request)
        return await api.answer(request)

    async def close() -> None:
        if contract is not None:
            contract.close()
        await runner.cleanup()

    runner = web.ServerRunner(_Server(answer), handle_signals=False, shutdown_timeout=CLOSE_TIMEOUT_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    bound = runner.addresses[0]
    shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    return f"http://{shown}:{bound[1]}", close
