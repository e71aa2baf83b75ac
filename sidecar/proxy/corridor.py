"""One request's way through the sidecar, read from top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec

from sidecar.core.governance.decisions import Denied
from sidecar.core.governance.tenancy import Subject
from sidecar.ports import Ids
from sidecar.providers.bedrock_head import with_head
from sidecar.providers.cloud_doors import BEDROCK_INVOKE, SIGNED
from sidecar.providers.doors import Kind
from sidecar.providers.held_by_id import held_in
from sidecar.proxy.accept import Arrival
from sidecar.proxy.authorize import Admitted, Authority, Call, authorize
from sidecar.proxy.background import Background, Watch
from sidecar.proxy.clamp import Shortener
from sidecar.proxy.contexts import CONTINUED, Contexts
from sidecar.proxy.deny import DenyOptions, deny, refuse, shape_of, turn_down
from sidecar.proxy.estimate import estimate
from sidecar.proxy.forward import forward
from sidecar.proxy.forward_options import ForwardOptions
from sidecar.proxy.gate import OnCap, gate_for
from sidecar.proxy.gated_exchange import GatedExchange
from sidecar.proxy.idempotency import KEY_USED, IdempotencyKeys
from sidecar.proxy.identify import Identifier
from sidecar.proxy.key_ring import UNKNOWN_KEY, KeyRing
from sidecar.proxy.local_api_problems import ROOT, denied, unfit
from sidecar.proxy.log_lines import LineBudget, denied_line
from sidecar.proxy.makers import KEEPING, Apart, Makers, answer_id_in, may_be_kept, thing_in
from sidecar.proxy.new_things import NewThing
from sidecar.proxy.observe import unread
from sidecar.proxy.outcomes import Outcome
from sidecar.proxy.passage import FROM_PROVIDER, Passage
from sidecar.proxy.recent import Denial, RecentDecisions
from sidecar.proxy.refusals import Header
from sidecar.proxy.request_head import RequestHead, is_signed
from sidecar.proxy.route import Route, Routes
from sidecar.proxy.stepping import aside
from sidecar.proxy.sweep import Sweep
from sidecar.proxy.unfit import Unfit, UnfitReason
from sidecar.proxy.upstream_pool import Upstream
from sidecar.telemetry.metrics import Metrics

NO_PROVIDER_KEY: Final = Unfit(
    UnfitReason.PROVIDER_KEY_MISSING,
    "this sidecar holds no key of that provider, and a virtual key goes to none: set upstreams.NAME.key_file (or "
    "needs_key: false where the provider wants none), or send the provider's own key and the virtual one in Spend-Key",
)

NOT_THEIRS: Final = Unfit(
    UnfitReason.ANSWER_NOT_FOUND,
    "this customer has nothing with this id here: with a provider key of the sidecar's, a stored answer, a file or a"
    " conversation comes back for the customer whose call made it, by the sidecar that it went through"
    " (upstreams.NAME.stored_for; upstreams.NAME.shared lists what is everybody's)",
)

LISTS_ALL: Final = Unfit(
    UnfitReason.ENDPOINT_NOT_METERED,
    "a list shows what all customers of this sidecar's account have, so it is not passed on: ask by id, or set"
    " upstreams.NAME.stored_for to anyone",
)

SIGNATURE_FAILS: Final = Unfit(
    UnfitReason.ENDPOINT_NOT_METERED,
    "this request is signed (SigV4) for the address of the sidecar, so the provider would refuse it: let the"
    " sidecar hold a bearer token in upstreams.NAME.key_file (the signature does not matter then), or send one."
    " To have signed requests sent on as they are and counted by call, set upstreams.NAME.doors.signed to pass_counted",
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Provider:
    """An upstream, whose rate cards price it, and whether it is known to stop billing when we hang up (L25)."""

    upstream: Upstream
    prices_of: str
    stops_billing: bool = False
    needs_key: bool = True
    """Whether it takes calls by key alone: then one that brings none but a virtual key is not sent."""

    models: Mapping[str, str] | None = None
    """What the rate cards call a model that callers name otherwise (a deployment); None: nothing."""

    forwarding: ForwardOptions = field(default_factory=ForwardOptions)

    keeps_apart: bool = False
    """Whether what the account keeps is for the customer alone whose call made it: so where the key is ours."""

    heeds_own_limit: bool = True
    """Whether `max_completion_tokens` is known to bound an answer there; false: it may be passed over."""

    shared: frozenset[str] = frozenset()
    """Ids of what is for every customer all the same."""

    shorten: Mapping[str, Shortener] = field(default_factory=dict)
    """By dialect, how an output limit is lowered there; a dialect that is not named is never shortened."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that a request needs on its way. `providers` has an entry for each name that `routes` can give."""

    routes: Routes
    identifier: Identifier
    authority: Authority
    providers: Mapping[str, Provider]
    ids: Ids
    sweep: Sweep
    metrics: Metrics
    recent: RecentDecisions = field(default_factory=RecentDecisions)
    keys: IdempotencyKeys = field(default_factory=IdempotencyKeys)
    unfit_lines: LineBudget = field(default_factory=LineBudget)
    denying: DenyOptions = field(default_factory=DenyOptions)
    contexts: Contexts = field(default_factory=Contexts)
    makers: Makers = field(default_factory=Makers)
    background: Background = field(default_factory=lambda: Background(time.monotonic))
    local: Callable[[Arrival, Subject | None, str], Coroutine[Any, Any, None]] | None = None
    """Answers what comes to /spend/, told whom the virtual key names, and its own name; None: nothing is there."""

    ring: KeyRing | None = None
    """Knows virtual keys; None: there are none."""

    requires_key: bool = False
    """Whether everything that comes must bring one."""

    on_cap: OnCap = "end"
    """How a stream is ended for which nothing more can be held."""


def carry(arrival: Arrival, desk: Desk) -> Coroutine[Any, Any, None]:
    """Carry one accepted request down the corridor, to the record; first its virtual key, where there may be one."""
    if arrival.head.key is None and not desk.requires_key:
        return _carry(arrival, desk, None)
    return _carry_for_holder(arrival, desk)


async def _carry_for_holder(arrival: Arrival, desk: Desk) -> None:
    """Let in by virtual key alone, before anything else: who has none that is good learns nothing."""
    head = arrival.head
    known = UNKNOWN_KEY if desk.ring is None else await desk.ring.holder(head.key)
    if not isinstance(known, Subject):
        return _shut_out(arrival, known, desk)
    route = desk.routes.find(head.method, head.target, anthropic=b"anthropic-version" in head.fields)
    if isinstance(route, Route) and _would_go_without_key(head, desk.providers[route.upstream]):
        return _turn_down(arrival, NO_PROVIDER_KEY, desk)
    key_id = "" if desk.ring is None or head.key is None else desk.ring.id_of(head.key)
    return await _carry(arrival, desk, known, key_id)


async def _carry(arrival: Arrival, desk: Desk, holder: Subject | None, key_id: str = "") -> None:
    """Carry it, for whom its virtual key names, if it has one, which is known by its name."""
    head = arrival.head
    route = desk.routes.find(head.method, head.target, anthropic=b"anthropic-version" in head.fields)
    if isinstance(route, Unfit):
        if desk.local is not None and head.target.startswith(ROOT):
            return await aside(desk.local(arrival, holder, key_id))
        return _turn_down(arrival, route, desk)
    provider = desk.providers[route.upstream]
    if route.dialect is None or (route.dialect.name in SIGNED and _goes_signed(head, provider)):
        return await _pass_through(arrival, route, desk, holder)
    admitted = await _admit(arrival, route, provider, desk, holder=holder, key_id=key_id)
    if admitted is None:
        return None
    request_id, facts = admitted.call.request_id, admitted.call.facts
    gate = None if admitted.call.start is None else gate_for(admitted, desk.authority, desk.metrics, on_cap=desk.on_cap)
    passage = Passage(
        admitted,
        route.dialect,
        authority=desk.authority,
        metrics=desk.metrics,
        recent=desk.recent,
        overhead_s=_overhead_s(arrival),
        contexts=desk.contexts if route.dialect.name in CONTINUED else None,
        makers=desk.makers if provider.keeps_apart and may_be_kept(route.dialect.name, facts.body) else None,
        background=desk.background if facts.later else None,
        gate=gate,
    )
    try:
        # Bytes pass from upstream to caller inside; before the end of the answer the passage settles and records.
        answer = forward(
            arrival,
            provider.upstream,
            target=route.target,
            body=facts.body,
            meter_for=passage.meter_for,
            on_end=passage.on_end,
            sweep=desk.sweep,
            options=provider.forwarding,
            added=passage.headers(),
            whole=not facts.stream,
            hides_usage=facts.hide_usage,
            make=None if gate is None else partial(GatedExchange, gate=gate),
        )
        if facts.stream:
            passage.forget_body()
        del facts  # nor does this frame hold the body while the answer runs
        outcome = await answer
    finally:
        # Complete, cut off or abandoned: it is settled by now. If a fault of ours came before, nobody
        # knows what was sent: an unknown outcome like any other.
        passage.close()
    if not arrival.answered:
        arrival.answer(*refuse(outcome.refusal(), shape_of(head.target, head.fields), request_id=request_id))
    return None


async def _admit(
    arrival: Arrival, route: Route, provider: Provider, desk: Desk, *, holder: Subject | None, key_id: str
) -> Admitted | None:
    """Decide whether a call may run, and hold for it; None where it may not, and is answered."""
    head = arrival.head
    if route.dialect is None:
        raise ValueError("what is not metered is not admitted")
    subject = _asker(arrival, provider, desk, holder)
    if subject is None:
        return None
    apart = _apart(provider, subject.customer, desk)
    facts = estimate(route.dialect, arrival.body, route, provider.models, desk.contexts, apart=apart)
    if isinstance(facts, Unfit):
        _turn_down(arrival, facts, desk)
        return None
    if facts.own_limit and not provider.heeds_own_limit:
        facts = facts.without_own_limit()
    if route.dialect is BEDROCK_INVOKE:
        facts = with_head(facts, head.fields)
    key = head.fields.get(b"idempotency-key")
    if key is not None and desk.keys.is_for_another(subject.customer, key, head.target, arrival.body):
        _turn_down(arrival, KEY_USED, desk)
        return None

    call = Call(
        desk.ids.new("req"),
        subject,
        facts,
        provider.prices_of,
        route.dialect.name,
        stops_billing=provider.stops_billing,
        shorten=provider.shorten.get(route.dialect.name),
        key_id=key_id,
    )
    # Prices with the standing, takes, and writes the admission: one step without an await.
    # Only a miss suspends; a spool that cannot write is a Denied too.
    verdict = await authorize(call, desk.authority)
    if isinstance(verdict, Denied):
        _deny(arrival, verdict, desk, provider=provider, call=call)
        return None
    if key is not None:
        desk.keys.remember(subject.customer, key, head.target, arrival.body)
    return verdict


def _asker(arrival: Arrival, provider: Provider, desk: Desk, holder: Subject | None) -> Subject | None:
    """Who asks; None where that cannot be told or taken, and is answered."""
    subject = desk.identifier.identify(arrival.head.fields, holder)
    if isinstance(subject, Unfit):
        _turn_down(arrival, subject, desk)
        return None
    if isinstance(subject, Denied):
        _deny(arrival, subject, desk, provider=provider)
        return None
    return subject


def _apart(provider: Provider, customer: str, desk: Desk) -> Apart | None:
    """What of the provider's things is this customer's; None where the account is the caller's own."""
    return Apart(desk.makers, provider.prices_of, customer, provider.shared) if provider.keeps_apart else None


async def _pass_through(arrival: Arrival, route: Route, desk: Desk, holder: Subject | None) -> None:
    """Pass a request on that the configuration exempts from metering: counted and logged, nothing more.

    But for what the account keeps: it may not be the caller's; and a stored answer may say what a call cost that waits
    to be settled.
    """
    kind = route.kind if route.dialect is None else Kind.SIGNED
    if kind is Kind.SIGNED and kind not in route.later:
        return _turn_down(arrival, SIGNATURE_FAILS, desk)
    provider = desk.providers[route.upstream]
    reader: Watch | NewThing | None = None
    if provider.keeps_apart and (kind is Kind.STORED or kind in KEEPING):
        subject = _asker(arrival, provider, desk, holder)
        if subject is None:
            return None
        apart = Apart(desk.makers, provider.prices_of, subject.customer, provider.shared)
        why = _keeps_from(arrival, kind, route, apart)
        if why is not None:
            return _turn_down(arrival, why, desk)
        reader = NewThing(apart) if kind in KEEPING and arrival.head.method == "POST" else None
    if kind is Kind.STORED:
        reader = desk.background.watch(provider.prices_of, answer_id_in(route.target))
    request_id = desk.ids.new("req")
    desk.metrics.passed_through.add(route.upstream)
    outcome = await forward(
        arrival,
        provider.upstream,
        target=route.target,
        body=arrival.body,
        meter_for=unread if reader is None else reader.meter_for,
        on_end=_nothing if reader is None else reader.on_end,
        sweep=desk.sweep,
        options=provider.forwarding,
        added=[FROM_PROVIDER, (b"Spend-Request-Id", request_id.encode())],
    )
    passed = {"request_id": request_id, "upstream": route.upstream, "kind": str(kind), "status": outcome.status}
    logger.info("request_passed_through", extra={"facts": passed})
    if not arrival.answered:
        shape = shape_of(arrival.head.target, arrival.head.fields)
        arrival.answer(*refuse(outcome.refusal(), shape, request_id=request_id))
    return None


def _keeps_from(arrival: Arrival, kind: Kind, route: Route, apart: Apart) -> Unfit | None:
    """Why a call may not have what it names at an account of ours; None where it is the customer's own."""
    if kind is Kind.STORED:
        return None if apart.has(answer_id_in(route.target)) else NOT_THEIRS
    thing = thing_in(route.target)
    if thing is None and arrival.head.method != "POST":
        return LISTS_ALL
    if (thing is not None and not apart.has(*thing)) or not all(map(apart.has, held_in(arrival.body))):
        return NOT_THEIRS
    return None


def _nothing(outcome: Outcome) -> Sequence[Header]:
    """What is settled of an answer that is passed on unread."""
    del outcome
    return ()


def _would_go_without_key(head: RequestHead, provider: Provider) -> bool:
    """Whether all that it could show its provider is a virtual key, which goes to none."""
    return provider.needs_key and provider.upstream.key is None and not head.has_own_key


def _goes_signed(head: RequestHead, provider: Provider) -> bool:
    """Whether a request would go out with the caller's signature: not where we have a key to go in its place."""
    return provider.upstream.key is None and is_signed(head.fields)


def _shut_out(arrival: Arrival, why: Unfit | Denied, desk: Desk) -> None:
    """Answer whoever brings no good virtual key, or one that nobody can tell of now."""
    request_id = desk.ids.new("req")
    desk.metrics.unfit.add(why.reason.value)
    if desk.unfit_lines.allows(desk.sweep.now):
        logger.info("request_shut_out", extra={"facts": {"request_id": request_id, "reason": why.reason.value}})
    head, now_ms, currencies = arrival.head, desk.authority.clock.wall_ms(), desk.authority.rates_now().currencies
    shape = None if desk.local is not None and head.target.startswith(ROOT) else shape_of(head.target, head.fields)
    if isinstance(why, Unfit):
        reply = unfit(why, request_id) if shape is None else turn_down(why, shape, request_id=request_id)
    else:
        why = msgspec.structs.replace(why, request_id=request_id)
        if shape is None:
            reply = denied(why, now_ms=now_ms, currencies=currencies)
        else:
            reply = deny(why, shape, now_ms=now_ms, currencies=currencies, options=desk.denying)
    arrival.answer(*reply)


def _turn_down(arrival: Arrival, unfit: Unfit, desk: Desk) -> None:
    """Answer a request that cannot be taken, whoever pays."""
    request_id = desk.ids.new("req")
    desk.metrics.unfit.add(unfit.reason.value)
    if desk.unfit_lines.allows(desk.sweep.now):
        facts = {"request_id": request_id, "reason": unfit.reason.value, "param": unfit.param or None}
        logger.info("request_unfit", extra={"facts": facts})
    shape = shape_of(arrival.head.target, arrival.head.fields)
    arrival.answer(*turn_down(unfit, shape, request_id=request_id))


def _deny(arrival: Arrival, denied: Denied, desk: Desk, *, provider: Provider, call: Call | None = None) -> None:
    """Answer a call that may not run, and remember why. `call` is None where nobody is known to ask."""
    if call is None:
        denied = msgspec.structs.replace(denied, request_id=desk.ids.new("req"))
    subject, model, protocol = (None, "", "") if call is None else (call.subject, call.facts.model, call.protocol)
    now_ms, overhead_s = desk.authority.clock.wall_ms(), _overhead_s(arrival)
    desk.metrics.decisions.add("denied", denied.reason.value)
    desk.metrics.overhead.observe(overhead_s)
    desk.recent.remember(denied.request_id, Denial(denied, subject, provider.prices_of, model, now_ms, protocol))
    currencies = desk.authority.rates_now().currencies
    if logger.isEnabledFor(logging.INFO):
        currency = currencies.get(denied.currency)
        line = denied_line(denied, subject, currency, provider=provider.prices_of, model=model, overhead_s=overhead_s)
        line["key"] = (call.key_id or None) if call is not None else None
        logger.info("request_denied", extra={"facts": line})
    shape = shape_of(arrival.head.target, arrival.head.fields)
    arrival.answer(*deny(denied, shape, now_ms=now_ms, currencies=currencies, options=desk.denying))


def _overhead_s(arrival: Arrival) -> float:
    """What we have taken of the caller's time since the head was here."""
    return time.monotonic() - arrival.received_at
