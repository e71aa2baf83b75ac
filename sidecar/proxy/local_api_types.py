"""What /spend/v1/ takes and gives, as types: its OpenAPI document is made from them.

Amounts are as in the ledger's API: whole atoms beside currency and scale, and decimal text for people.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from sidecar.core.credits.amounts import Currency, format_amount
from sidecar.core.governance.tenancy import ID_PATTERN
from sidecar.core.pricing.features import MAX_QUANTITY

FeatureName = Annotated[str, msgspec.Meta(pattern=f"^{ID_PATTERN}$", min_length=1, max_length=128)]
Quantity = Annotated[int, msgspec.Meta(ge=1, le=MAX_QUANTITY)]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
Unit = Annotated[str, msgspec.Meta(max_length=64)]
ModelName = Annotated[str, msgspec.Meta(max_length=256)]


class Amount(msgspec.Struct, frozen=True):
    """An amount: `atoms` is exact, `text` is for people."""

    currency: str
    atoms: int
    scale: int
    text: str


def amount(atoms: int, currency: Currency) -> Amount:
    """An amount of a currency, for showing."""
    return Amount(currency.code, atoms, currency.scale, format_amount(atoms, currency))


class CheckRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What would be done: a call of `model` with so many tokens, or a `quantity` of a `feature`; one of the two.

    `provider` tells models of one name apart. Without `max_output_tokens` the model's own limit counts.
    `protocol` (`openai.chat`, `anthropic.messages` …) and `request`, the body of the call itself, may be given in
    place of the tokens: it is read as the call's would be, with `model` before the body's.
    """

    model: ModelName = ""
    provider: Unit = ""
    input_tokens: Tokens = 0
    max_output_tokens: Tokens | None = None
    protocol: Unit = ""
    request: dict[str, Any] | None = None
    feature: str = ""
    quantity: Quantity = 1


class UsageReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many units of a feature of the catalog. `unit`, if given, must be the feature's."""

    feature: FeatureName
    quantity: Quantity
    unit: Unit = ""


class Limit(msgspec.Struct, frozen=True):
    """One budget or grant that applies, as it stands.

    `held` is by open calls here, `elsewhere` by other sidecars; null where no figure is known here.
    `resets_at` is ISO 8601 in UTC, null for what never resets; `per` its period.
    """

    kind: str
    id: str
    owner: str
    child: str
    hard: bool
    per: str
    limit: Amount | None
    used: Amount | None
    held: Amount | None
    elsewhere: Amount | None
    left: Amount | None
    resets_at: str | None


class CheckAnswer(msgspec.Struct, frozen=True):
    """Whether it may be done now; nothing was taken. `reason` and `detail` say why not; both empty if it may.

    `cost` is the most that it can cost, null where that has no price. `max_affordable_output_tokens`
    is the output limit with which it would pass, where that is known. `clamped_to`: it may be done with
    this output limit in place of the one that was asked for, as the call itself would be; `cost` is of that.
    `likely_cost` is what a call with this `request` costs at most in 99 of 100, null without one, or where it holds
    more than texts. `expected_cost` is what 95 of 100 of the latest calls of this model cost at most, null before
    there were enough. Neither decides anything. `unbounded` names what in it has no bound, where such calls may run:
    then `cost` is what would be held, and it may cost more.
    """

    allowed: bool
    request_id: str
    reason: str
    detail: str
    cost: Amount | None
    consulted: tuple[Limit, ...]
    max_affordable_output_tokens: int | None
    standing_age_ms: int | None
    clamped_to: int | None = None
    likely_cost: Amount | None = None
    expected_cost: Amount | None = None
    unbounded: tuple[str, ...] = ()


class UsageAnswer(msgspec.Struct, frozen=True):
    """What was charged: the same for each repetition of its key. `left` is what the tightest limit had after it."""

    request_id: str
    customer: str
    feature: str
    unit: str
    quantity: int
    charge: Amount
    left: Amount | None


class BalanceAnswer(msgspec.Struct, frozen=True):
    """What a subject may still spend: each budget on its path and each grant that may pay, whatever the model."""

    request_id: str
    customer: str
    wallet: str
    currency: str
    limits: tuple[Limit, ...]
    standing_age_ms: int


class FieldProblem(msgspec.Struct, frozen=True):
    """One field at fault and what was expected there."""

    field: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refusal (RFC 9457). `code` is for programs, `detail` for people; `reason` and `consulted` as in a check."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    errors: tuple[FieldProblem, ...] = ()
    reason: str = ""
    cost: Amount | None = None
    consulted: tuple[Limit, ...] = ()
    retry_after_s: int | None = None
