from __future__ import annotations

import msgspec
import pytest

from sidecar.core.credits.amounts import Currency
from sidecar.core.credits.grants import Grant
from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.decisions import Denied, Reason
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.core.pricing.ceilings import Ceiling, price_ceiling
from sidecar.core.pricing.rate_cards import ContextTier, RateBook, RateCard, Rates
from sidecar.proxy.price import UNPRICED, Priced, Unpriced, admit_unpriced, affordable_output_tokens, price

USD = Currency("usd", 9)
CARD = RateCard(
    "card", "openai", ("m",), 0, "usd", (ContextTier(0, Rates(input=150_000, output=600_000)),), 1000, 128_000,
    "test", "2026-11",
)  # fmt: skip
BOOK = RateBook((CARD,), (USD,), sha256="")
CEILING = Ceiling("m", 100, 50)
HARD = Budget("b1", "usd", 10, Cadence.DAY)
SOFT = Budget("b2", "usd", 10, Cadence.DAY, hard=False)
TEAM = Budget("b3", "usd", 10, Cadence.DAY, node=Node("team", "x"))
GRANT = Grant("g1", "usd", 100, 0, 1)
ENDED = Grant("g2", "usd", 100, 0, 2, expires_at_ms=5)
SUBJECT = Subject("acme", (Node("team", "x"),))


def priced(ceiling: Ceiling = CEILING) -> Priced | Denied:
    return price(ceiling, BOOK, provider="openai", at_ms=5)


def reason(found: object) -> Reason | None:
    return found.reason if isinstance(found, Denied) else None


def test_a_call_is_priced_at_its_bound() -> None:
    """L0: the ceiling of money is that of usage by the card in force."""
    assert priced() == Priced(CARD, USD, price_ceiling(CEILING, CARD, USD))


def test_an_unknown_model_is_denied() -> None:
    """L5: unknown is never zero."""
    assert reason(priced(msgspec.structs.replace(CEILING, model="who-knows"))) is Reason.MODEL_NOT_PRICED


def unpriced(
    *budgets: Budget, grants: tuple[Grant, ...] = (GRANT,), wallet: Wallet = Wallet.REQUIRED
) -> Unpriced | Denied:
    standing = Standing("acme", SUBJECT.path, "", wallet, "usd", budgets, grants, "p", 1, 1000)
    return admit_unpriced(standing, Subject("acme"), model="who-knows", provider="openai", at_ms=5)


def test_an_unknown_model_is_counted_only_where_credit_covers_it() -> None:
    """L5: never beside a hard budget, also on the path that the ledger filled in; never without a live grant for it."""
    assert unpriced() is unpriced(SOFT) is UNPRICED
    foreign = msgspec.structs.replace(GRANT, models=("gpt-*",))
    for found in (
        unpriced(HARD),
        unpriced(TEAM),
        unpriced(grants=()),
        unpriced(grants=(ENDED,)),
        unpriced(grants=(foreign,)),
        unpriced(wallet=Wallet.NONE),
    ):
        assert reason(found) is Reason.MODEL_NOT_PRICED


def test_what_has_no_bound_is_denied_by_name() -> None:
    """L0: where money is limited nothing unbounded runs; the refusal says what it was."""
    found = priced(msgspec.structs.replace(CEILING, unbounded=("image URL",)))
    assert isinstance(found, Denied)
    assert found.reason is Reason.REQUEST_NOT_BOUNDABLE
    assert "image URL" in found.detail
    assert reason(priced(msgspec.structs.replace(CEILING, input_tokens=2**62))) is Reason.REQUEST_NOT_BOUNDABLE


def test_a_card_in_an_unknown_currency_is_no_price() -> None:
    """L1: what cannot be counted in atoms is not priced."""
    book = RateBook((msgspec.structs.replace(CARD, currency="eur"),), (USD,), sha256="")
    assert reason(price(CEILING, book, provider="openai", at_ms=5)) is Reason.MODEL_NOT_PRICED


@pytest.mark.parametrize("tokens", [1, 7, 49])
def test_the_affordable_output_is_the_largest_that_fits(tokens: int) -> None:
    """One token more would not pass."""
    bound = priced()
    assert isinstance(bound, Priced)
    left = price_ceiling(msgspec.structs.replace(CEILING, output_limit=tokens), CARD, USD)
    assert affordable_output_tokens(CEILING, bound, left) == tokens
    assert affordable_output_tokens(CEILING, bound, left - 1) == (tokens - 1 or None)
    assert affordable_output_tokens(CEILING, bound, 0) is None
