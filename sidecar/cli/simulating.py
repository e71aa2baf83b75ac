"""Pricing a recorded request by the proxy's own functions."""

from __future__ import annotations

import json
from typing import Final

import msgspec

from sidecar.cli.failures import Failed
from sidecar.core.governance.decisions import Denied
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.core.pricing.usage import Usage
from sidecar.ledger.views import Money, money
from sidecar.providers.cheap_bounds import cheap_bound
from sidecar.providers.dialect import BadRequest, Dialect, Ending, RequestFacts
from sidecar.providers.registry import ANTHROPIC_MESSAGES, OPENAI_CHAT
from sidecar.providers.request_json import read_model, read_object
from sidecar.proxy.estimate import estimate
from sidecar.proxy.open_ended import OpenEnded
from sidecar.proxy.price import Priced, price
from sidecar.proxy.settle import Prices, settle
from sidecar.proxy.unfit import Unfit

DIALECTS: Final[dict[str, Dialect]] = {"openai": OPENAI_CHAT, "anthropic": ANTHROPIC_MESSAGES}
BY_POLICY: Final = OpenEnded()
"""Finds the bound of a document as the proxy does, by its model's window; what has none is refused, as by default."""

_USAGE_FIELDS: Final = frozenset({"prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"})


class Simulation(msgspec.Struct, frozen=True):
    """What would become of a request. `refusal` is a reason's word where it would be refused, and `detail` why.

    `likely_input_tokens` are the prompt's at most in 99 of 100, None where it holds more than texts.
    `usage` are the counters that were said, and `charge` what they cost; None where no usage was given.
    """

    protocol: str
    provider: str
    model: str
    input_tokens: int
    rate_card: str = ""
    output_tokens: int | None = None
    ceiling: Money | None = None
    refusal: str = ""
    detail: str = ""
    state: str = ""
    usage: dict[str, int] | None = None
    charge: Money | None = None
    returned: Money | None = None
    flags: tuple[str, ...] = ()
    likely_input_tokens: int | None = None


def simulate(
    body: bytes,
    rates: RateBook,
    *,
    at_ms: int,
    protocol: str = "",
    model: str = "",
    provider: str = "",
    answer: bytes | None = None,
) -> Simulation:
    """Estimate, price, and with an answer meter and settle a request.

    Args:
        body: of the request, as it would be sent.
        rates: the prices.
        at_ms: the instant whose prices hold (Unix ms).
        protocol: `openai` or `anthropic`; `` to tell it by the model.
        model: asked for in place of the body's; `` for the body's own.
        provider: whose rate cards; `` for those of the protocol.
        answer: the provider's, whole or as a stream, or only its usage object.

    Raises:
        Failed: the body is no request, or nothing tells whose it is.
    """
    asked = _with_model(body, model)
    spoken = protocol or _protocol(asked, rates, at_ms)
    dialect, whose = DIALECTS[spoken], provider or spoken
    facts = estimate(dialect, asked)
    if isinstance(facts, Unfit):
        raise Failed(
            f"{facts.message} [{facts.code}]",
            "The sidecar would refuse it so. Mend the body"
            f"{'' if protocol else ', or say whose request it is with --protocol openai or anthropic'}.",
        )
    priced = price(facts.ceiling, rates, provider=whose, at_ms=at_ms)
    if isinstance(priced, Denied) and (within := BY_POLICY.let_in(facts.ceiling, rates, provider=whose, at_ms=at_ms)):
        facts, priced = msgspec.structs.replace(facts, ceiling=within.ceiling), within.priced
    likely = cheap_bound(facts.model, asked)
    plain = Simulation(
        spoken,
        whose,
        facts.model,
        facts.ceiling.input_tokens,
        likely_input_tokens=None if likely is None else min(likely, facts.ceiling.input_tokens),
    )
    if isinstance(priced, Denied):
        return msgspec.structs.replace(plain, refusal=priced.reason.value, detail=priced.detail)
    bounded = msgspec.structs.replace(
        plain,
        rate_card=priced.card.card_id,
        output_tokens=facts.ceiling.output_tokens(priced.card),
        ceiling=money(priced.ceiling_atoms, priced.currency),
    )
    return bounded if answer is None else _settled(bounded, dialect, facts, priced, rates, at_ms=at_ms, answer=answer)


def _settled(
    bounded: Simulation,
    dialect: Dialect,
    facts: RequestFacts,
    priced: Priced,
    rates: RateBook,
    *,
    at_ms: int,
    answer: bytes,
) -> Simulation:
    usage = _usage(dialect, facts, answer)
    prices = Prices(facts.ceiling, priced.card, priced.currency, rates, at_ms, may_reason=facts.may_reason)
    held = priced.ceiling_atoms
    settlement = settle(held, prices, usage, ending=Ending.COMPLETE, status=200)
    total = usage.total()
    said = {name: count for name in total.__struct_fields__ if (count := getattr(total, name)) is not None}
    charged = 0 if settlement.charge_atoms is None else settlement.charge_atoms
    return msgspec.structs.replace(
        bounded,
        state=usage.state.value,
        usage=said | usage.units,
        charge=money(charged, priced.currency),
        returned=money(max(0, held - charged), priced.currency),
        flags=settlement.flags,
    )


def _usage(dialect: Dialect, facts: RequestFacts, answer: bytes) -> Usage:
    """What the meter reads of an answer; a bare usage object is read as an answer that holds nothing else."""
    try:
        members = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        members = {}
    if "usage" not in members and _USAGE_FIELDS & set(members):
        answer = b'{"type":"message","usage":' + answer.strip() + b"}"
    meter = dialect.meter(facts, status=200, lines=b"", content_encoding="")
    meter.feed(answer)
    meter.flush()
    return meter.usage(Ending.COMPLETE)


def _with_model(body: bytes, model: str) -> bytes:
    """The body, asking for another model: nothing else of its bytes is changed."""
    if not model:
        return body
    try:
        member = read_object(body).get("model")
    except BadRequest as bad:
        raise _no_request(bad.message) from None
    if member is None:
        raise _no_request("it names no `model` that --model could stand for")
    return body[: member.start] + json.dumps(model).encode() + body[member.end :]


def _protocol(body: bytes, rates: RateBook, at_ms: int) -> str:
    """Whose request it is, by the rate cards that know its model."""
    try:
        model = read_model(read_object(body))
    except BadRequest as bad:
        raise _no_request(bad.message) from None
    known = [name for name in DIALECTS if rates.find(name, model, at_ms) is not None]
    if len(known) != 1:
        raise Failed(
            f"The model {model[:128]!r} does not tell whose request this is.",
            "Add --protocol openai or --protocol anthropic.",
        )
    return known[0]


def _no_request(why: str) -> Failed:
    return Failed(
        f"This is no request's body: {why.rstrip('.')}.",
        "Give the JSON that an application sends, such as what follows `-d` in a curl command.",
    )
