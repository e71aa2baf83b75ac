"""The command line's side of the ledger's API, on the standard library's HTTP client.

It gives back bytes: `--json` prints them as they came, and only a table decodes them.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import click

from sidecar.cli.failures import Failed, NotReachable

TIMEOUT_S: Final = 60.0
MAX_TRIES: Final = 5
LONGEST_WAIT_S: Final = 5.0
"""Of what is only read, where the ledger was asked too often: so many times, with so long between them at most."""

"""How long an answer may take; checking a large book takes the longest."""

PAGE_ROWS: Final = 500
_MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024


class VersionWanted(Failed):
    """The ledger changes what is there only for somebody who says which version that is: its `etag`."""

    def __init__(self, etag: str) -> None:
        super().__init__("There is one already.", "Look at it, and say again what it shall be.")
        self.etag = etag


class LedgerClient:
    """One ledger, over one connection that is kept open from page to page."""

    def __init__(self, address: str, token: str) -> None:
        """Make one; nothing is sent yet.

        Raises:
            click.UsageError: an address that is not http://HOST[:PORT] or https://…, or a token
                that no header can carry.
        """
        try:
            parts = urlsplit(address)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            what = f"A ledger's address is such as http://127.0.0.1:8403, not {address[:80]!r}."
            raise click.UsageError(f"{what} Give it with --ledger or SPEND_LEDGER_URL.")
        if not token.isascii() or not token.isprintable() or " " in token:
            problem = "The token is not one: it has blanks or unprintable characters."
            raise click.UsageError(f"{problem} Take it from DIR/admin.json of the `spend up`, or leave it out.")
        self.address = f"{parts.scheme}://{parts.netloc}"
        self._token = token
        self.reason = ""
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, port, timeout=TIMEOUT_S)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def get(self, path: str, **query: str | int) -> bytes:
        """Ask for what stands at a path; empty parameters are left out.

        Raises:
            Failed: the ledger refused, in its own words.
            NotReachable: there was no answer.
        """
        said = {name: value for name, value in query.items() if value != ""}
        return self._send("GET", f"{path}?{urlencode(said)}" if said else path, b"")

    def post(self, path: str, body: Mapping[str, Any]) -> bytes:
        """Do something. It is sent once: whoever repeats it does so knowingly.

        Raises:
            Failed, NotReachable: as for `get`; after NotReachable it may have been done.
        """
        return self._send("POST", path, json.dumps(body).encode())

    def change(self, path: str, body: Mapping[str, Any]) -> bytes:
        """Do something; if that changes what is there, as it is now, whichever version that is.

        Raises:
            Failed, NotReachable: as for `post`; also where somebody else changed it in this very moment.
        """
        try:
            return self.post(path, body)
        except VersionWanted as wanted:
            return self._send("POST", path, json.dumps(body).encode(), {"If-Match": wanted.etag})

    def pages(self, path: str, *, limit: int | None = 0, **query: str | int) -> Iterator[bytes]:
        """Every page of a listing, as it comes: of PAGE_ROWS rows, or `limit`; None leaves it to the ledger."""
        import msgspec  # noqa: PLC0415 (not for --help)

        class Cursor(msgspec.Struct):
            next_cursor: str = ""

        cursor = ""
        while True:
            size = "" if limit is None else limit or PAGE_ROWS
            page = self.get(path, **query, cursor=cursor, limit=size)
            yield page
            cursor = msgspec.json.decode(page, type=Cursor).next_cursor
            if not cursor:
                return

    def _send(
        self, method: str, target: str, body: bytes, more: Mapping[str, str] = MappingProxyType({}), tries: int = 1
    ) -> bytes:
        headers = {**more} | {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if body:
            headers["Content-Type"] = "application/json"
        if body and self.reason:
            headers["Spend-Reason"] = self.reason.encode().decode(
                "latin-1"
            )  # the bytes of UTF-8, as http.client writes it
        try:
            self._connection.request(method, target, body or None, headers)
            answer = self._connection.getresponse()
            text = answer.read(_MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            why = str(error) or type(error).__name__
            raise NotReachable(
                f"The ledger at {self.address} does not answer ({why}).",
                "Is it running? `spend up` starts one, at the address in DIR/admin.json; `spend doctor` says more.",
            ) from None
        if answer.status == 428:
            raise VersionWanted(answer.headers.get("ETag", ""))
        if answer.status == 429 and method == "GET" and tries < MAX_TRIES:  # a long listing, page after page
            time.sleep(min(float(answer.headers.get("Retry-After", "1")), LONGEST_WAIT_S))
            return self._send(method, target, body, more, tries + 1)
        if answer.status != 200:
            raise self._failure(answer.status, text)
        return text

    def _failure(self, status: int, text: bytes) -> click.ClickException:
        """What to tell a person of a refusal."""
        try:
            problem = json.loads(text)
            code, detail = str(problem["code"]), str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            return Failed(
                f"{self.address} answered {status}, but not as a ledger does. Is its address right?",
                "`spend up` says where its ledger listens; `spend doctor --data DIR` looks there.",
            )
        if status == 401:
            return Failed(
                f"The ledger at {self.address} does not take this token.",
                "The token of a `spend up` is in its DIR/admin.json; is SPEND_TOKEN or --token an old one?",
            )
        if status == 429:
            return NotReachable(f"The ledger was asked too often: {detail}.", "Try again in a moment.")
        if status == 503:
            return NotReachable(f"The ledger is busy: {detail}.", "Try again in a moment.")
        request_id = f" (request {problem.get('request_id')})" if status >= 500 else ""
        return Failed(f"{detail} [{code}]{request_id}", _next_step(status, code, problem))


_MISSING: Final = {
    "customer": "Add it with `spend customers add NAME`; `spend customers list` shows those there are.",
    "grant": "`spend grants list CUSTOMER` shows the grants that there are.",
    "budget": "`spend budgets list CUSTOMER` shows the budgets that there are, the last column their names.",
    "node": "Add it with `spend nodes add CUSTOMER/kind:id`; `spend nodes list CUSTOMER` shows those there are.",
    "key": "`spend keys list CUSTOMER` shows the keys that there are, the first column their names.",
    "rate limit": "`spend limits list CUSTOMER` shows the rate limits that there are, the last column their names.",
    "lease": "`spend leases list` shows the leases that there are to resolve.",
    "sidecar that is waited for": "`spend ledger learning` says which are waited for.",
    "sidecar token": "`spend ledger sidecar-token NAME` makes one.",
    "token": "`spend tokens list` shows those there are.",
    "request": "The id is in the answer's Spend-Request-Id header. Denials are remembered for a while only, "
    "and not across a restart.",
}
_AT_FAULT: Final = {
    "above_limit": "`spend budgets list CUSTOMER|PATH` shows what others have set.",
    "allocation_exceeded": "`spend budgets list CUSTOMER|PATH` shows what is allocated: lower one, or raise the whole.",
    "conflict": "`spend customers list` and `spend nodes list CUSTOMER` show what there is; nothing was changed.",
    "forbidden": "Take a token that may do that: SPEND_TOKEN, or the one in DIR/admin.json.",
    "invalid_amount": "An amount is a plain decimal such as 12.50, without sign, separator or exponent.",
    "invalid_path": "A path is acme, acme/team:data or acme/user:ada; `spend nodes list CUSTOMER` shows the nodes.",
    "stale_write": "Somebody else changed it in this moment: look at it, and say again what it shall be.",
    "too_many_budgets": "`spend budgets list CUSTOMER` shows them; --each makes one serve all users or sessions.",
    "too_many_grants": "`spend grants list CUSTOMER` shows them; one larger grant serves as well as many.",
}


def _next_step(status: int, code: str, problem: Mapping[str, Any]) -> str:
    """What to do about a refusal."""
    if status >= 500:
        return "The log of `spend up` has more under that request id; `spend doctor` looks at the whole set-up."
    if status == 404:
        missing = _missing(problem)
        return _MISSING.get(missing, "Are `spend` and the ledger of one version? See `spend --version`.")
    context = click.get_current_context(silent=True)
    command = "spend" if context is None else context.command_path
    return _AT_FAULT.get(code, f"`{command} --help` says what is expected.")


def _missing(problem: Mapping[str, Any]) -> str:
    """What kind of thing a 404 says does not exist."""
    try:
        return str(problem["errors"][0]["field"])
    except (KeyError, IndexError, TypeError):
        return ""


def segment(text: str) -> str:
    """A name as one segment of a path."""
    return quote(text, safe=":@")
