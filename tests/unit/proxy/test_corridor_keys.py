"""Virtual keys in the corridor: who is let in, as whom, and what a caller without one learns."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from sidecar.contract.messages import Change, ResolveKeyReply
from sidecar.core.governance.tenancy import Subject
from sidecar.core.governance.virtual_keys import key_digest, write_key
from sidecar.errors import LedgerUnavailable
from sidecar.proxy.arrival import Arrival
from sidecar.proxy.key_ring import KeyRing
from tests.support.authority import ACME
from tests.support.clock import FakeClock
from tests.support.forwarding import Answer, calling
from tests.unit.proxy.test_corridor import Site, post, site

KEY = write_key(b"k" * 32)
ADA = Subject("acme", user="ada")
OWN = "x-api-key: sk-own"
"""A provider's key, beside a virtual one."""


class Keys:
    """A ring over a ledger that knows KEY; `away`: it does not answer."""

    def __init__(self) -> None:
        self.good = {key_digest(KEY): ADA}
        self.away = False
        self.ring = KeyRing(self._ask, FakeClock().monotonic)

    async def _ask(self, digest: bytes) -> ResolveKeyReply:
        if self.away:
            raise LedgerUnavailable("away")
        subject = self.good.get(digest)
        return ResolveKeyReply(subject, "key_1", 1) if subject else ResolveKeyReply()

    def on(self, *, required: bool = False, **more: Any) -> dict[str, Any]:
        """What the desk gets."""
        return {"ring": self.ring, "requires_key": required, **more}


@pytest.fixture
def keys() -> Keys:
    """Keys of a test."""
    return Keys()


def said(answer: Answer) -> Any:
    """What stands in it."""
    return json.loads(answer.body)


def subjects(at: Site) -> list[Subject]:
    """Who was admitted."""
    return [admission.subject for admission in at.on.spool.admitted]


@pytest.mark.parametrize(
    "lines",
    [(f"Authorization: Bearer {KEY}", OWN), (f"Spend-Key: {KEY}", "Authorization: Bearer sk-own"),
     (f"x-goog-api-key: {KEY}", OWN), (f"Spend-Key: {KEY}", OWN, "Spend-Customer: acme")],
)  # fmt: skip
async def test_a_good_key_is_let_in_as_whom_it_names(keys: Keys, lines: tuple[str, ...]) -> None:
    """Also where none is needed; the provider gets its own key and never ours."""
    async with site(keys=keys.on()) as at:
        for _ in range(3):
            assert (await at.ask(None, *lines)).status == 200
        assert subjects(at) == [ACME] * 3  # its path filled in by the standing
        heard = b"".join(request.head for request in at.provider.requests)
        assert b"sk-own" in heard
        assert b"sk-spend" not in heard


async def test_another_subject_beside_the_key_is_a_conflict(keys: Keys) -> None:
    """400, and nothing is admitted."""
    async with site(keys=keys.on()) as at:
        for line in ("Spend-User: eve", "baggage: spend.customer=rival"):
            answer = await at.ask(None, f"Spend-Key: {KEY}", OWN, line)
            assert (answer.status, said(answer)["error"]["code"]) == (400, "subject_conflict")
        assert subjects(at) == []


BAD = {
    "unknown": f"Authorization: Bearer {write_key(b'o' * 32)}",
    "cut": f"Authorization: Bearer {KEY[:-1]}",
    "in capitals": f"Spend-Key: {KEY.upper()}",
    "a provider's, in its place": "Spend-Key: sk-own",
    "two that differ": f"Spend-Key: {KEY}\r\nx-api-key: {write_key(b'o' * 32)}",
}


@pytest.mark.parametrize("line", BAD.values(), ids=BAD)
@pytest.mark.parametrize("required", [False, True])
async def test_a_bad_key_is_401_in_the_caller_s_protocol(keys: Keys, line: str, *, required: bool) -> None:
    """Whether or not one is needed: who says for whom they spend is not taken for another. Nothing is repeated."""
    async with site(keys=keys.on(required=required)) as at:
        answer = await at.ask(None, line, "Spend-Customer: acme")
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["x-should-retry"] == "false"
        error = said(answer)["error"]
        assert (error["type"], error["code"], error["spend"]["reason"]) == (
            "authentication_error", "invalid_api_key", "invalid_api_key",
        )  # fmt: skip
        assert "sk-spend-a" not in answer.body.decode()
        answer = await at.ask(None, line, "anthropic-version: 2023-06-01", target="/v1/messages")
        assert (answer.status, said(answer)["error"]["type"]) == (401, "authentication_error")
        assert said(answer)["type"] == "error"
        assert at.provider.requests == []
        assert at.desk.metrics.unfit.value("invalid_api_key") == 2


async def test_where_a_key_is_needed_nothing_passes_without(keys: Keys) -> None:
    """S-10, S-17: a call, a path that is passed on, one that does not exist and /spend/ alike; a key opens them."""
    paths = ["/v1/chat/completions", "/v1/models", "/v1/nothing", "/spend/v1/balance"]
    heard: list[tuple[Subject | None, str]] = []

    async def local(arrival: Arrival, holder: Subject | None, key_id: str) -> None:
        heard.append((holder, key_id))
        arrival.answer(200, [], b"{}")

    async with site(keys=keys.on(required=True, local=local)) as at:
        for path in paths:
            async with calling(at.port) as caller:
                caller.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{OWN}\r\nSpend-Customer: acme\r\n\r\n".encode())
                answer = await caller.answer("GET")
                assert answer.status == 401, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert (said(answer)["code"], answer.headers["www-authenticate"]) == ("invalid_api_key", "Bearer")
        assert at.provider.requests == []
        statuses = []
        for path in paths:
            async with calling(at.port) as caller:
                caller.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nSpend-Key: {KEY}\r\n{OWN}\r\n\r\n".encode())
                statuses.append((await caller.answer("GET")).status)
        assert statuses == [403, 200, 403, 200]
        assert heard == [(ADA, "key_1")]  # S-13: by the name that the book has for it


async def test_a_revoked_key_is_refused_from_its_change_on(keys: Keys) -> None:
    """Also on a connection that stays open, whose head was seen before."""
    async with site(keys=keys.on()) as at, calling(at.port) as caller:
        for status in (200, 200, 200, 401):
            if status == 401:
                keys.good.clear()
                keys.ring.changed(Change("acme", 2))
            post(caller, None, f"Spend-Key: {KEY}", OWN)
            assert (await caller.answer()).status == status


async def test_a_virtual_key_alone_is_not_sent_where_a_key_is_needed(keys: Keys) -> None:
    """A clear word before anything is held, in place of the provider's puzzled one; passed on or metered."""
    async with site(keys=keys.on()) as at:
        for target, method in (("/v1/chat/completions", "POST"), ("/v1/models", "GET")):
            async with calling(at.port) as caller:
                line = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
                caller.send(f"{line}Content-Length: 0\r\n\r\n".encode())
                answer = await caller.answer(method)
                assert (answer.status, said(answer)["error"]["code"]) == (403, "provider_key_missing")
                assert "key_file" in said(answer)["error"]["message"]
        assert (subjects(at), at.provider.requests) == ([], [])


async def test_where_nobody_can_tell_the_caller_is_told_to_come_again(keys: Keys) -> None:
    """503 with a wait, in the caller's protocol and below /spend/."""
    keys.away = True

    async def local(arrival: Arrival, holder: Subject | None, key_id: str) -> None:
        raise RuntimeError("not to be reached")

    async with site(keys=keys.on(local=local)) as at:
        answer = await at.ask(None, f"Spend-Key: {KEY}", OWN)
        assert (answer.status, said(answer)["error"]["code"]) == (503, "ledger_unavailable")
        assert answer.headers["retry-after"] == "2"
        answer = await at.ask(None, f"Spend-Key: {KEY}", OWN, target="/spend/v1/usage")
        assert (answer.status, said(answer)["code"], answer.headers["retry-after"]) == (503, "ledger_unavailable", "2")


async def test_a_key_shows_in_no_line(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    """S-22: neither good nor bad, however much is logged; refusals are a line each, and only so many a second."""
    bad = write_key(b"o" * 32)
    with caplog.at_level(logging.DEBUG, logger="sidecar"):
        async with site(keys=keys.on()) as at:
            await at.ask(None, f"Spend-Key: {KEY}", OWN)
            for _ in range(20):
                await at.ask(None, f"Spend-Key: {bad}", OWN)
    text = repr([record.__dict__ for record in caplog.records])
    assert "sk-spend" not in text
    assert 1 <= sum(record.message == "request_shut_out" for record in caplog.records) <= 10


async def test_a_corridor_without_a_ring_knows_no_key() -> None:
    """Nobody is let in by what cannot be checked."""
    async with site() as at:
        assert (await at.ask(None, f"Spend-Key: {KEY}", OWN, "Spend-Customer: acme")).status == 401
