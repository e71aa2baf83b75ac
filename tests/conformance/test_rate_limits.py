"""Rate limits in the book, on every engine: set, changed, removed, and told to whoever they apply to."""

from __future__ import annotations

import pytest

from sidecar.contract.messages import RegisterRequest, SyncRequest
from sidecar.core.governance.tenancy import Subject, parse_path
from sidecar.errors import NotFound, Rejected
from sidecar.ledger.administration import NewRateLimit, RateLimitRemoval
from sidecar.ledger.fleet import LIVE_MS, NOTE_EVERY_MS
from sidecar.ledger.rate_acts import MAX_RATE_LIMITS
from tests.support.ledger import Desk


async def told(desk: Desk, subject: Subject) -> list[tuple[str, int]]:
    """What a sidecar hears of a subject's rate limits."""
    reply = await desk.borrow(subject, 0)
    assert reply.standing is not None
    return [(limit.counts.value, limit.limit) for limit in reply.standing.rate_limits]


async def made(desk: Desk) -> None:
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.add_nodes("acme/department:a/team:b", desk.act())


async def test_a_standing_has_those_on_its_path(desk: Desk) -> None:
    """L30: of the customer, of every node above, of the user; and of nobody else."""
    await made(desk)
    revision = (await desk.borrow(Subject("acme"), 0)).standing
    for path, limit in (("acme", 100), ("acme/department:a/team:b", 50), ("acme/user:ada", 5)):
        await desk.service.set_rate_limit(NewRateLimit(path, "requests", limit), desk.act())
    team = Subject("acme", parse_path("team:b"), user="ada")
    assert await told(desk, team) == [("requests", 100), ("requests", 50), ("requests", 5)]
    assert await told(desk, Subject("acme", user="bob")) == [("requests", 100)]
    now = (await desk.borrow(Subject("acme"), 0)).standing
    assert revision is not None
    assert now is not None
    assert now.revision > revision.revision  # so that who decides by the older one hears of it (L35)


async def test_the_same_again_changes_how_many(desk: Desk) -> None:
    """One identity, another number: the id stays, the version counts, and every change is an entry with its actor."""
    await made(desk)
    first = await desk.service.set_rate_limit(NewRateLimit("acme", "tokens", 1000), desk.act())
    same = await desk.service.set_rate_limit(NewRateLimit("acme", "tokens", 1000), desk.act())
    wider = await desk.service.set_rate_limit(NewRateLimit("acme", "tokens", 2000), desk.act())
    other = await desk.service.set_rate_limit(NewRateLimit("acme", "tokens", 9, window_s=1), desk.act())
    assert (same, wider.limit_id, wider.version) == (first, first.limit_id, 2)
    assert other.limit_id != first.limit_id
    entries, _ = await desk.service.entries("acme", after=0, kind="rate_limit_set", limit=10)
    assert len(entries) == 3
    assert [one.limit for one in await desk.service.rate_limits("acme")] == [2000, 9]
    assert await desk.problems() == ()


async def test_one_that_is_removed_limits_no_more(desk: Desk) -> None:
    """Twice is once; the entry says why."""
    await made(desk)
    one = await desk.service.set_rate_limit(NewRateLimit("acme/user:ada", "concurrent", 2, window_s=0), desk.act())
    gone = RateLimitRemoval("acme", one.limit_id, "too narrow")
    assert await desk.service.remove_rate_limit(gone, desk.act()) == one
    assert await desk.service.remove_rate_limit(gone, desk.act()) == one
    assert await desk.service.rate_limits("acme") == []
    assert await told(desk, Subject("acme", user="ada")) == []
    with pytest.raises(NotFound):
        await desk.service.remove_rate_limit(RateLimitRemoval("acme", "rate_none", "why"), desk.act())


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (NewRateLimit("acme", "calls", 1), "counts"),
        (NewRateLimit("acme", "requests", -1), "limit"),
        (NewRateLimit("acme", "requests", 10**13), "limit"),
        (NewRateLimit("acme", "requests", 1, window_s=0), "window_s"),
        (NewRateLimit("acme", "requests", 1, window_s=86_401), "window_s"),
        (NewRateLimit("acme", "concurrent", 1), "window_s"),
        (NewRateLimit("acme", "requests", 1, each="pet"), "each"),
        (NewRateLimit("acme", "requests", 1, match={"colour": "red"}), "match"),
        (NewRateLimit("a/b", "requests", 1), "path"),
    ],
)
async def test_what_is_no_rate_limit_is_refused(desk: Desk, form: NewRateLimit, field: str) -> None:
    """By field, and nothing is changed."""
    await made(desk)
    with pytest.raises(Rejected) as refused:
        await desk.service.set_rate_limit(form, desk.act())
    assert list(refused.value.problems) == [field]
    assert await desk.service.rate_limits("acme") == []


async def test_they_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A customer has no more than so many; and a node that does not exist has none."""
    assert MAX_RATE_LIMITS == 1000
    monkeypatch.setattr("sidecar.ledger.rate_acts.MAX_RATE_LIMITS", 2)
    await made(desk)
    for window_s in (1, 2):
        await desk.service.set_rate_limit(NewRateLimit("acme", "requests", 1, window_s=window_s), desk.act())
    with pytest.raises(Rejected):
        await desk.service.set_rate_limit(NewRateLimit("acme", "requests", 1, window_s=3), desk.act())
    with pytest.raises(NotFound):
        await desk.service.set_rate_limit(NewRateLimit("acme/team:none", "requests", 1), desk.act())


async def test_each_sidecar_hears_its_share(desk: Desk) -> None:
    """How many were heard of late, and which of them one is; who stops, or is silent, leaves its share."""

    async def share(name: str) -> tuple[int, int]:
        reply = await desk.ledger.register(RegisterRequest(name, f"inc-{name}"))
        return reply.sidecars, reply.rank

    assert await share("b") == (1, 0)
    assert await share("a") == (2, 0)
    assert await share("b") == (1, 0)  # as it was a moment ago: it is not read for every word
    desk.clock.advance(NOTE_EVERY_MS / 1000)
    assert await share("b") == (2, 1)
    synced = await desk.ledger.sync(SyncRequest("b", "inc-b", desk.clock.wall_ms()))
    assert (synced.sidecars, synced.rank) == (2, 1)
    await desk.ledger.sync(SyncRequest("a", "inc-a", desk.clock.wall_ms(), ended=True))
    desk.clock.advance(NOTE_EVERY_MS / 1000)
    assert await share("b") == (1, 0)
    assert await share("c") == (2, 1)
    desk.clock.advance(LIVE_MS / 1000 + 1)
    assert await share("c") == (1, 0)
