"""Calls without a bound (L0): refused, unless the configuration lets them run; then how far they may go is said."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgspec

from sidecar.app.system import SystemClock
from sidecar.core.credits.amounts import format_amount
from sidecar.core.pricing.ceilings import WITHIN_WINDOW, Ceiling, price_ceiling
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.proxy.open_ended import FEATURES_TOLD, OpenEnded, UnboundedCalls
from sidecar.proxy.settle import OVERRUN, PASSES_MAX
from tests.support.authority import BOOK, CARD, CEILING, MODEL, NEED, USD, Bench, bench, standing
from tests.support.forwarding import Answer
from tests.support.scripted_provider import Script
from tests.unit.proxy.test_corridor import PLENTY, Site, replace_limit, site

USAGE = {"prompt_tokens": 90_000, "completion_tokens": 5, "total_tokens": 90_005}
ANSWER = {"id": "c1", "object": "chat.completion", "model": MODEL, "choices": [], "usage": USAGE}
ASK: dict[str, Any] = {
    "model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}], "web_search_options": {},
    "tools": [{"type": "browser"}],
}  # fmt: skip
COST = 90_000 * 150 + 5 * 600


def allowing(atoms: int = PLENTY) -> Bench:
    """Acme with plenty, where calls without a bound may run."""
    on = bench(clock=SystemClock())
    on.fund(standing(replace_limit(atoms)), atoms)
    on.authority = dataclasses.replace(on.authority, open_ended=OpenEnded(UnboundedCalls.ALLOW))
    return on


async def asked(at: Site, **more: Any) -> Answer:
    at.provider.otherwise(Script.json(ANSWER))
    return await at.ask(ASK | more)


async def test_it_is_refused_where_nothing_allows_it() -> None:
    """The default: nothing is sent."""
    async with site() as at:
        answer = await asked(at)
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (403, "request_not_boundable")
        assert at.provider.requests == []


async def test_where_it_may_run_it_is_held_by_what_is_known_and_charged_what_it_cost() -> None:
    """The excess is told with the answer, the features with the decision, the flag with the charge."""
    on = allowing()
    async with site(on) as at:
        answer = await asked(at)
        assert answer.status == 200
        held = at.on.spool.admitted[0].held_atoms
        assert 50 * 600 <= held < COST
        window = (PASSES_MAX * CARD.context_window * 150) + PASSES_MAX * CARD.max_output_tokens * 600
        assert answer.headers["spend-unbounded"] == f"excess={format_amount(window - held, USD)}"
        assert at.events == [(COST, "complete", (OVERRUN, "unbounded"))]
        told = at.on.spool.admitted[0].decision.unbounded
        assert any("web_search_options" in feature for feature in told) or any("tool" in feature for feature in told)
        assert (len(on.authority.open_ended), list(on.authority.open_ended.excess_by_currency())) == (0, [])


async def test_others_are_told_nothing_of_it() -> None:
    """A call with a bound has none of this where such calls may run."""
    async with site(allowing()) as at:
        at.provider.otherwise(Script.json(ANSWER | {"usage": {"prompt_tokens": 10, "completion_tokens": 5}}))
        answer = await at.ask()
        assert "spend-unbounded" not in answer.headers
        assert at.on.spool.admitted[0].decision.unbounded == ()
        assert at.events[0][2] == ()


async def test_it_still_has_to_fit() -> None:
    """What is known of it must fit into every limit, as of any other call."""
    on = allowing(1)
    async with site(on) as at:
        assert (await asked(at)).status == 402
        assert (len(on.authority.open_ended), at.provider.requests) == (0, [])


def ceiling_with(**changes: Any) -> Ceiling:
    """The usual ceiling but for this."""
    return msgspec.structs.replace(CEILING, **changes)


def let_in(ceiling: Ceiling, book: RateBook = BOOK, policy: UnboundedCalls = UnboundedCalls.ALLOW) -> Any:
    return OpenEnded(policy).let_in(ceiling, book, provider="openai", at_ms=1)


def test_only_what_lacks_a_bound_is_let_in() -> None:
    """A call that has one is refused for another reason; a tier, a unit or a model without a price has no number."""
    open_ended = ceiling_with(unbounded=("a file by its id",))
    assert let_in(open_ended).features == ("a file by its id",)
    assert let_in(open_ended, policy=UnboundedCalls.DENY) is None
    assert let_in(CEILING) is None
    for change in ({"tier": "priority"}, {"model": "who"}, {"units": (("pictures", 1),)}):
        assert let_in(ceiling_with(unbounded=("a file by its id",), **change)) is None


def test_a_model_that_cannot_be_bounded_is_let_in_by_its_card() -> None:
    """As one that searches by itself; what a card or a request says is told, and not without end."""
    card = type(CARD)(**{name: getattr(CARD, name) for name in CARD.__struct_fields__} | {"unbounded": "searches"})
    found = let_in(CEILING, RateBook((card,), (USD,), sha256="ab" * 32))
    assert (found.features, found.priced.ceiling_atoms, found.priced.card.unbounded) == (("searches",), NEED, "")
    assert len(let_in(ceiling_with(unbounded=tuple("abcdefgh"))).features) == FEATURES_TOLD


def test_what_is_under_way_adds_up() -> None:
    """Ω is the sum of the open ones, until each is settled."""
    open_ended = OpenEnded(UnboundedCalls.ALLOW)
    found = open_ended.let_in(ceiling_with(unbounded=("x",)), BOOK, provider="openai", at_ms=1)
    assert found is not None
    for name in ("r1", "r2"):
        open_ended.opened(name, found.ceiling, found.priced)
    one = open_ended.excess_atoms("r1")
    assert one > 0
    assert dict(open_ended.excess_by_currency()) == {("usd",): 2 * one}
    open_ended.closed("r1")
    assert (len(open_ended), dict(open_ended.excess_by_currency())) == (1, {("usd",): one})


def test_a_window_is_a_bound() -> None:
    """L0: where a document is all that has none, the most that the model reads is held, by no policy, and none is left
    over; beside a tool that runs at the provider it is none."""
    document = ceiling_with(unbounded=(f"a document{WITHIN_WINDOW}",))
    for policy in UnboundedCalls:
        found = let_in(document, policy=policy)
        assert (found.features, found.ceiling.unbounded, found.ceiling.input_tokens) == ((), (), CARD.context_window)
        assert found.priced.ceiling_atoms == price_ceiling(found.ceiling, CARD, USD)
    both = ceiling_with(unbounded=(f"a document{WITHIN_WINDOW}", "tool web_search: it runs at the provider"))
    assert let_in(both, policy=UnboundedCalls.DENY) is None
    assert len(let_in(both).features) == 2


async def test_a_document_is_held_by_the_window_and_charged_what_it_was() -> None:
    """Through the corridor, where nothing allows what has no bound."""
    content = [{"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}}]
    async with site() as at:
        at.provider.otherwise(Script.json(ANSWER))
        ask = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": content}]}
        answer = await at.ask(ask)
        assert answer.status == 200
        assert at.on.spool.admitted[0].held_atoms == CARD.context_window * 150 + 50 * 600
        assert "spend-unbounded" not in answer.headers
        assert at.events == [(COST, "complete", ())]
