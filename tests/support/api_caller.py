"""Asking a running ledger's API, as anybody who has a token."""

from __future__ import annotations

import hashlib
import http.client
import json
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

from sidecar.ledger.http_access import api_token
from tests.support.product import Product

TIMEOUT_S = 30


class ApiCaller:
    """Somebody with a token. Each request has a connection of its own: callers may share one of these."""

    def __init__(self, address: str, token: str, *, patient: bool = True) -> None:
        """`patient`: told to come again, it does."""
        self._patient = patient
        self._place = urlsplit(address).netloc
        self.token = token

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """One request: status, decoded body, headers by their lower-case names. `X_Y` is the header `X-Y`."""
        answer = self._once(method, path, body, headers)
        while self._patient and answer[0] in (429, 503):
            time.sleep(min(5.0, float(answer[2]["retry-after"])))
            answer = self._once(method, path, body, headers)
        return answer

    def _once(self, method: str, path: str, body: object, headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        sent = {"Authorization": f"Bearer {self.token}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self._place, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        known = {name.lower(): value for name, value in answer.getheaders()}
        if answer.status != 200 and known["content-type"].split(";")[0] != "application/problem+json":
            raise AssertionError(f"{answer.status} in another form: {text[:200]!r}")
        return answer.status, json.loads(text), known

    def get(self, path: str) -> Any:
        """What stands at a path."""
        status, found, _ = self.ask("GET", path)
        if status != 200:
            raise AssertionError(f"GET {path}: {status} {found}")
        return found

    def post(self, path: str, body: object, **headers: str) -> Any:
        """Do something that goes well."""
        status, found, _ = self.ask("POST", path, body, **headers)
        if status != 200:
            raise AssertionError(f"POST {path}: {status} {found}")
        return found

    def code(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
        """Status and the machine's word of a refusal (`` of none)."""
        status, found, _ = self.ask(method, path, body, **headers)
        return status, found.get("code", "") if status != 200 else ""


def admin_of(product: Product) -> ApiCaller:
    """The administrator of a running product."""
    facts = json.loads((product.data / "admin.json").read_text())
    return ApiCaller(facts["address"], facts["token"])


def made(admin: ApiCaller, address: str, name: str, role: str, path: str, **more: object) -> ApiCaller:
    """Somebody new, by a token that the administrator makes."""
    token = api_token(secrets.token_bytes(32))
    form = {"name": name, "role": role, "path": path, "token_sha256": hashlib.sha256(token.encode()).hexdigest()}
    admin.post("/v1/tokens", form | more)
    return ApiCaller(address, token)
