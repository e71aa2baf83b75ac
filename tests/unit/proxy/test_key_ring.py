"""Virtual keys at the sidecar: how long an answer is believed, what drops it, and what guessing costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sidecar.contract.messages import Change, ResolveKeyReply
from sidecar.core.governance.decisions import Denied, Reason
from sidecar.core.governance.tenancy import Subject
from sidecar.core.governance.virtual_keys import key_digest, write_key
from sidecar.errors import LedgerUnavailable
from sidecar.proxy import key_ring
from sidecar.proxy.key_ring import (
    ASK_AHEAD_S,
    AWAY_FOR_S,
    BELIEVED_S,
    NO_KEY,
    NO_WHOLE_KEY,
    OUTAGE_S,
    RETRY_S,
    UNKNOWN_FOR_S,
    UNKNOWN_KEY,
    KeyRing,
)
from tests.support.clock import FakeClock

ACME = Subject("acme", user="ada")
TEXT = write_key(b"k" * 32)
KEY = TEXT.encode()


class Ledger:
    """Answers by `good`; `away`: not at all; `gate` makes it wait; `meanwhile` runs between reading and answer."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.good = {key_digest(TEXT): ACME}
        self.asked: list[bytes] = []
        self.away = False
        self.expires_in_ms: int | None = None
        self.gate: asyncio.Event | None = None
        self.meanwhile: Callable[[], object] = lambda: None
        self.ring = KeyRing(self._ask, self.clock.monotonic)

    async def _ask(self, digest: bytes) -> ResolveKeyReply:
        self.asked.append(digest)
        subject = self.good.get(digest)
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise LedgerUnavailable("away")
        self.meanwhile()
        return ResolveKeyReply(subject, "key_1", 1, expires_in_ms=self.expires_in_ms) if subject else ResolveKeyReply()

    async def holder(self, key: bytes | None = KEY) -> object:
        """Whom the ring says it names."""
        return await self.ring.holder(key)

    async def settle(self) -> None:
        """Let what was asked beside requests be answered."""
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
def ledger() -> Ledger:
    """One that knows KEY."""
    return Ledger()


def guess(number: int) -> bytes:
    """A key that nobody has made, with a good checksum."""
    return write_key(number.to_bytes(32, "big")).encode()


async def test_a_good_key_is_asked_for_once_and_then_answered_from_memory(ledger: Ledger) -> None:
    """However many ask at once, one question goes out."""
    found = await asyncio.gather(*(ledger.holder() for _ in range(20)))
    assert found == [ACME] * 20
    assert await ledger.holder() == ACME
    assert ledger.asked == [key_digest(TEXT)]
    assert ledger.ring.knows(KEY)
    assert not ledger.ring.knows(guess(1))


@pytest.mark.parametrize(
    ("key", "why"),
    [(None, NO_KEY), (b"", NO_WHOLE_KEY), (KEY[:-1], NO_WHOLE_KEY), (KEY.upper(), NO_WHOLE_KEY),
     (b"sk-spend-\xff\xfe", NO_WHOLE_KEY), (b"sk-spend-" + b"a" * 8000, NO_WHOLE_KEY)],
)  # fmt: skip
async def test_what_cannot_be_a_key_costs_the_ledger_nothing(ledger: Ledger, key: bytes | None, why: object) -> None:
    """None, two that differ, cut, in capitals, beyond ASCII, endless: the checksum tells."""
    assert await ledger.holder(key) is why
    assert ledger.asked == []


async def test_a_call_can_say_by_which_key_it_came(ledger: Ledger) -> None:
    """S-13: by its name in the book; also for a call that was let in just before its key was dropped."""
    assert ledger.ring.id_of(KEY) == ""
    await ledger.holder()
    assert ledger.ring.id_of(KEY) == "key_1"
    ledger.ring.changed(Change("acme", 2))
    assert ledger.ring.id_of(KEY) == "key_1"
    assert ledger.ring.id_of(guess(1)) == ""


async def test_an_unknown_key_is_remembered_for_a_moment(ledger: Ledger) -> None:
    """S-13: the same guess again is one question in UNKNOWN_FOR_S."""
    for _ in range(5):
        assert await ledger.holder(guess(1)) is UNKNOWN_KEY
    assert len(ledger.asked) == 1
    ledger.clock.advance(UNKNOWN_FOR_S + 0.1)
    assert await ledger.holder(guess(1)) is UNKNOWN_KEY
    assert len(ledger.asked) == 2


async def test_a_key_that_was_just_made_is_taken_at_once(ledger: Ledger) -> None:
    """Making one changes its customer, and a change forgets what was unknown."""
    assert await ledger.holder(guess(1)) is UNKNOWN_KEY
    ledger.good[key_digest(guess(1).decode())] = Subject("beta")
    assert await ledger.holder(guess(1)) is UNKNOWN_KEY
    ledger.ring.changed(Change("beta", 2))
    assert await ledger.holder(guess(1)) == Subject("beta")


async def test_a_change_of_its_customer_ends_a_revoked_key_at_once(ledger: Ledger) -> None:
    """And of no other customer; what is good is found good again."""
    assert await ledger.holder() == ACME
    ledger.ring.changed(Change("other", 2))
    assert await ledger.holder() == ACME
    assert len(ledger.asked) == 1
    ledger.ring.changed(Change("acme", 2))
    assert await ledger.holder() == ACME
    ledger.good.clear()
    ledger.ring.changed(Change("acme", 3))
    assert await ledger.holder() is UNKNOWN_KEY


async def test_an_answer_that_a_change_has_overtaken_is_not_believed(ledger: Ledger) -> None:
    """The ledger read the key, it was revoked, and the change came before the answer did."""

    def revoke() -> None:
        if ledger.good:
            ledger.good.clear()
            ledger.ring.changed(Change("acme", 2))

    ledger.meanwhile = revoke
    assert await ledger.holder() is UNKNOWN_KEY
    assert len(ledger.asked) == 2


async def test_an_unknown_that_a_change_has_overtaken_is_not_believed_either(ledger: Ledger) -> None:
    """Made between the reading and the answer."""
    good, ledger.good = ledger.good, {}

    def make() -> None:
        if not ledger.good:
            ledger.good = good
            ledger.ring.changed(Change("acme", 2))

    ledger.meanwhile = make
    assert await ledger.holder() == ACME


async def test_answers_that_are_always_overtaken_end(ledger: Ledger) -> None:
    """A customer that never stands still: so many tries, and the caller is told to come again."""
    ledger.meanwhile = lambda: ledger.ring.changed(Change("acme", 2))
    verdict = await ledger.holder()
    assert isinstance(verdict, Denied)
    assert verdict.reason is Reason.OVERLOADED
    assert len(ledger.asked) == key_ring.TRIES_MAX


async def test_where_no_change_is_heard_a_revoked_key_ends_all_the_same(ledger: Ledger) -> None:
    """S-13: believed for BELIEVED_S at most. In use it is asked for before that, and nobody waits."""
    await ledger.holder()
    ledger.good.clear()
    ledger.clock.advance(ASK_AHEAD_S + 0.1)
    assert await ledger.holder() == ACME
    await ledger.settle()
    assert await ledger.holder() is UNKNOWN_KEY
    ledger.good[key_digest(TEXT)] = ACME
    ledger.ring.changed(Change("acme", 3))
    assert await ledger.holder() == ACME
    ledger.good.clear()
    ledger.clock.advance(BELIEVED_S + 0.1)  # and not used meanwhile
    assert await ledger.holder() is UNKNOWN_KEY


async def test_while_the_ledger_is_away_good_keys_go_on_and_unknown_ones_wait(ledger: Ledger) -> None:
    """L47: for OUTAGE_S; it is asked again once in RETRY_S, whatever comes, and heard at once when it is back."""
    await ledger.holder()
    ledger.away = True
    ledger.clock.advance(BELIEVED_S + 1)
    assert [await ledger.holder() for _ in range(50)] == [ACME] * 50
    assert len(ledger.asked) == 2
    verdict = await ledger.holder(guess(1))
    assert isinstance(verdict, Denied)
    assert (verdict.reason, verdict.retry_after_ms) == (Reason.LEDGER_UNAVAILABLE, 2000)
    assert len(ledger.asked) == 2
    ledger.clock.advance(RETRY_S + 0.1)
    await ledger.holder()
    await ledger.settle()
    assert len(ledger.asked) == 3
    ledger.clock.advance(OUTAGE_S)
    verdict = await ledger.holder()
    assert isinstance(verdict, Denied)
    assert verdict.reason is Reason.LEDGER_UNAVAILABLE
    ledger.away = False
    ledger.clock.advance(RETRY_S + 0.1)
    assert await ledger.holder() == ACME


async def test_an_outage_long_past_is_not_believed(ledger: Ledger) -> None:
    """Nobody came meanwhile, so nobody noticed that the ledger was back; nor that the key ended."""
    await ledger.holder()
    ledger.away = True
    ledger.clock.advance(BELIEVED_S + 1)
    assert await ledger.holder() == ACME
    ledger.away = False
    ledger.good.clear()
    ledger.clock.advance(AWAY_FOR_S + 0.1)
    assert await ledger.holder() is UNKNOWN_KEY


async def test_a_key_that_a_change_dropped_is_not_believed_in_an_outage(ledger: Ledger) -> None:
    """What was heard last may have been its end."""
    await ledger.holder()
    ledger.away = True
    ledger.ring.changed(Change("acme", 2))
    assert isinstance(await ledger.holder(), Denied)


async def test_a_ledger_that_never_answers_keeps_nobody_waiting_long(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ANSWER_TIMEOUT_S."""
    monkeypatch.setattr(key_ring, "ANSWER_TIMEOUT_S", 0.01)
    ledger.gate = asyncio.Event()
    verdict = await ledger.holder()
    assert isinstance(verdict, Denied)
    assert verdict.reason is Reason.LEDGER_UNAVAILABLE


async def test_only_so_many_keys_are_asked_for_at_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of guesses: the rest is told to come again, and a key that is known goes on."""
    monkeypatch.setattr(key_ring, "ASKED_AT_ONCE_MAX", 3)
    await ledger.holder()
    ledger.gate = asyncio.Event()
    waiting = [asyncio.create_task(ledger.holder(guess(number))) for number in range(10)]
    await ledger.settle()
    assert len(ledger.asked) == 1 + 3
    ledger.clock.advance(BELIEVED_S + 1)
    assert await ledger.holder() == ACME
    ledger.gate.set()
    verdicts = await asyncio.gather(*waiting)
    assert verdicts.count(UNKNOWN_KEY) == 3
    reasons = [verdict.reason for verdict in verdicts if isinstance(verdict, Denied)]
    assert reasons == [Reason.OVERLOADED] * 7


async def test_what_is_remembered_is_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good keys and unknown ones, each: the oldest goes first."""
    monkeypatch.setattr(key_ring, "KNOWN_MAX", 3)
    monkeypatch.setattr(key_ring, "UNKNOWN_MAX", 3)
    for number in range(10):
        await ledger.holder(guess(100 + number))
        ledger.good[key_digest(guess(number).decode())] = Subject(f"c{number % 2}")
        await ledger.holder(guess(number))
    assert [ledger.ring.knows(guess(number)) for number in range(10)] == [False] * 7 + [True] * 3
    before = len(ledger.asked)
    for number in range(107, 110):
        assert await ledger.holder(guess(number)) is UNKNOWN_KEY
    assert len(ledger.asked) == before
    await ledger.holder(guess(106))
    assert len(ledger.asked) == before + 1
    for customer in ("c0", "c1"):
        ledger.ring.changed(Change(customer, 2))
    assert not any(ledger.ring.knows(guess(number)) for number in range(10))


async def test_a_caller_who_leaves_does_not_take_the_answer_along(ledger: Ledger) -> None:
    """Others wait for it, and it is remembered."""
    ledger.gate = asyncio.Event()
    first = asyncio.create_task(ledger.holder())
    second = asyncio.create_task(ledger.holder())
    await ledger.settle()
    first.cancel()
    await ledger.settle()
    ledger.gate.set()
    assert await second == ACME
    assert len(ledger.asked) == 1
    ledger.ring.close()


async def test_a_key_that_ends_is_believed_no_longer(ledger: Ledger) -> None:
    """Asked for again at its very end; while the ledger is away it is refused then, and not carried on."""
    ledger.expires_in_ms = 3000
    assert await ledger.holder() == ACME
    ledger.clock.advance(2.9)
    assert await ledger.holder() == ACME
    assert len(ledger.asked) == 1
    ledger.clock.advance(0.2)
    ledger.good.clear()
    assert await ledger.holder() is UNKNOWN_KEY
    assert len(ledger.asked) == 2

    other = Ledger()
    other.expires_in_ms = 3000
    assert await other.holder() == ACME
    other.away = True
    other.clock.advance(3.1)
    assert await other.holder() is UNKNOWN_KEY
