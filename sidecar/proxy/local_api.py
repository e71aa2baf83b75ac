"""/spend/v1/: what an application asks its sidecar beside its model calls.

Answered from the state that decides about model calls, and by its rules of who is spending. No
question here leaves for a provider; what is not a path of this API is a problem, never passed on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from sidecar.core.governance.decisions import Denied, Reason
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import Unavailable
from sidecar.leases.table import Uncovered
from sidecar.ports import Ids
from sidecar.providers.unfit_values import repeated_key
from sidecar.proxy import local_api_problems as problems
from sidecar.proxy.arrival import Arrival
from sidecar.proxy.authorize import Authority
from sidecar.proxy.denial_texts import plain_detail
from sidecar.proxy.identify import Identifier
from sidecar.proxy.local_api_costs import ceiling_asked, expected_cost, likely_cost
from sidecar.proxy.local_api_decide import Surveyor, Wanted, feature_wanted, hold_or_shorten, model_wanted
from sidecar.proxy.local_api_openapi import openapi
from sidecar.proxy.local_api_problems import LOCAL_BODY_BYTES_MAX, Refused, answered, limits_of
from sidecar.proxy.local_api_types import BalanceAnswer, CheckAnswer, CheckRequest, Limit, UsageReport, amount
from sidecar.proxy.local_api_usage import PastDecisions, Reports, report_id
from sidecar.proxy.recent import RecentDecisions
from sidecar.proxy.refusals import Reply
from sidecar.proxy.request_head import RequestHead
from sidecar.proxy.unfit import Unfit
from sidecar.telemetry.metrics import Metrics

_REQUESTS: Final = "/spend/v1/requests/"
_REQUEST_ID: Final = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_KEY: Final = re.compile(rb"[!-~]{1,255}")
_CHARSET: Final = re.compile(rb'(?:^|;)\s*charset\s*=\s*"?([^";\s]*)')
_UTF_8: Final = frozenset({b"utf-8", b"utf8", b"us-ascii"})
_NOT_ANSWERS: Final = frozenset({Reason.LEDGER_UNAVAILABLE, Reason.OUTBOX_FULL, Reason.OVERLOADED})
"""Reasons for which a check is not answered: nobody knows."""

_T = TypeVar("_T")

logger = logging.getLogger(__name__)


class _Question(msgspec.Struct, frozen=True):
    """One request, its subject known, and whom its virtual key names, if it has one, which is known as `key_id`."""

    request_id: str
    head: RequestHead
    body: bytes
    subject: Subject
    holder: Subject | None
    key_id: str = ""


class LocalAPI:
    """Answers what comes to /spend/. Use it from one event loop.

    Args:
        identifier: as for model calls.
        authority: likewise.
        surveyor: the lease keeper again, for balances.
        past: finds decisions of the past.
        shown: the type of what `past` shows.
        version: of the product, for the document.
        default_feature: what the configuration names where a request names none; a report may name another.
    """

    def __init__(
        self,
        identifier: Identifier,
        authority: Authority,
        surveyor: Surveyor,
        ids: Ids,
        *,
        recent: RecentDecisions,
        metrics: Metrics,
        past: PastDecisions,
        shown: type,
        version: str,
        default_feature: str = "",
    ) -> None:
        self._identifier = identifier
        self._authority = authority
        self._surveyor = surveyor
        self._ids = ids
        self._past = past
        self._reports = Reports(authority, recent, metrics, past)
        self._default_feature = default_feature
        self._document_of: Callable[[], dict[str, Any]] = lambda: openapi(version, shown)
        self._document: dict[str, Any] | None = None
        self._posts: Mapping[str, Callable[[_Question], Awaitable[Reply]]] = {
            "/spend/v1/check": self._check,
            "/spend/v1/usage": self._usage,
        }

    async def answer(self, arrival: Arrival, holder: Subject | None = None, key_id: str = "") -> None:
        """Answer one request, whatever it is; `holder` is whom its virtual key names, which is known as `key_id`."""
        request_id = self._ids.new("req")
        try:
            reply = await self._decide(arrival.head, arrival.body, request_id, holder, key_id)
        except Refused as error:
            reply = problems.refused(error, request_id)
        except Unavailable as error:
            refusal = Refused("ledger_unavailable", str(error), retry_after_s=max(1, round(error.retry_after_s)))
            reply = problems.refused(refusal, request_id)
        except Exception:  # the last line of defence: whatever went wrong, the caller gets a problem
            logger.exception("local_request_failed", extra={"facts": {"request_id": request_id}})
            reply = problems.internal(request_id)
        arrival.answer(*reply)

    async def _decide(
        self, head: RequestHead, body: bytes, request_id: str, holder: Subject | None, key_id: str
    ) -> Reply:
        path, mark, _ = head.target.partition("?")
        get = self._getter(path)
        post = self._posts.get(path)
        if get is None and post is None:
            raise Refused("not_found", "there is nothing at this path; /spend/v1/openapi.json says what there is")
        allowed = "POST" if post is not None else "GET"
        if head.method != allowed:
            raise Refused("method_not_allowed", f"expected {allowed}", allow=allowed)
        if mark:
            raise Refused("invalid_parameter", "this path takes no parameters")
        if path == "/spend/v1/openapi.json":
            if self._document is None:
                self._document = self._document_of()
            return answered(self._document, request_id)
        if len(body) > LOCAL_BODY_BYTES_MAX:
            raise Refused("body_too_large", f"expected at most {LOCAL_BODY_BYTES_MAX} bytes")
        subject = self._identifier.identify(head.fields, holder)
        if isinstance(subject, Unfit):
            return problems.unfit(subject, request_id)
        if isinstance(subject, Denied):
            return self._no(msgspec.structs.replace(subject, request_id=request_id))
        handler = post or get
        if handler is None:
            raise RuntimeError("a path without a handler")
        return await handler(_Question(request_id, head, body, subject, holder, key_id))

    def _getter(self, path: str) -> Callable[[_Question], Awaitable[Reply]] | None:
        if path in ("/spend/v1/balance", "/spend/v1/openapi.json"):
            return self._balance
        return self._explain if path.startswith(_REQUESTS) else None

    # -- operations ------------------------------------------------------------------------------

    async def _check(self, question: _Question) -> Reply:
        """Hold it and let go at once: what could be held could be spent, and nobody gets a turn between."""
        asked = _read(question, CheckRequest)
        now_ms, authority = self._authority.clock.wall_ms(), self._authority
        wanted = self._wanted(asked, question, now_ms)
        if isinstance(wanted, Denied):
            return self._checked(msgspec.structs.replace(wanted, request_id=question.request_id), asked, None, now_ms)
        covered, wanted, clamp = await hold_or_shorten(wanted, authority, request_id=question.request_id)
        if isinstance(covered, Denied):
            if covered.reason in _NOT_ANSWERS:
                return self._no(covered)
            return self._checked(covered, asked, wanted, now_ms)
        if covered.held is not None:
            authority.table.release(covered.held)
        plan = authority.table.plan(covered.standing, wanted.subject, model=wanted.model, provider=wanted.provider)
        consulted = limits_of(plan.consulted(authority.clock.monotonic()), now_ms, authority.rates_now().currencies)
        shown = CheckAnswer(
            allowed=True,
            request_id=question.request_id,
            reason="",
            detail="",
            cost=amount(wanted.atoms, wanted.currency),
            consulted=consulted,
            max_affordable_output_tokens=None,
            standing_age_ms=covered.standing_age_ms,
            clamped_to=None if clamp is None or wanted.ceiling is None else wanted.ceiling.output_limit,
            likely_cost=likely_cost(asked, wanted),
            expected_cost=expected_cost(asked, wanted, authority.expected),
            unbounded=wanted.unbounded,
        )
        return answered(shown, question.request_id)

    def _wanted(self, asked: CheckRequest, question: _Question, now_ms: int) -> Wanted | Denied:
        if bool(asked.model or asked.request) == bool(asked.feature):
            what = "expected either a model or a feature"
            raise Refused("invalid_body", what, problems={"model": what, "feature": what})
        rates = self._authority.rates_now()
        if asked.feature:
            self._check_feature(question, asked.feature)
            return feature_wanted(question.subject, asked.feature, asked.quantity, rates)
        return model_wanted(
            question.subject,
            ceiling_asked(asked),
            asked.provider,
            rates,
            at_ms=now_ms,
            open_ended=self._authority.open_ended,
        )

    def _checked(self, denied: Denied, asked: CheckRequest, wanted: Wanted | None, now_ms: int) -> Reply:
        currencies = self._authority.rates_now().currencies
        shown = CheckAnswer(
            allowed=False,
            request_id=denied.request_id,
            reason=str(denied.reason),
            detail=denied.detail,
            cost=None if wanted is None else amount(wanted.atoms, wanted.currency),
            consulted=limits_of(denied.consulted, now_ms, currencies),
            max_affordable_output_tokens=denied.max_affordable_output_tokens,
            standing_age_ms=denied.standing_age_ms,
            likely_cost=None if wanted is None else likely_cost(asked, wanted),
            expected_cost=None if wanted is None else expected_cost(asked, wanted, self._authority.expected),
        )
        return answered(shown, denied.request_id)

    async def _usage(self, question: _Question) -> Reply:
        key = question.head.fields.get(b"idempotency-key", b"")
        if not _KEY.fullmatch(key):
            what = "expected 1 to 255 visible ASCII characters, and the same again when this report is repeated"
            raise Refused("invalid_idempotency_key", what, problems={"Idempotency-Key": what})
        report = _read(question, UsageReport)
        self._check_feature(question, report.feature)
        request_id = report_id(question.subject.customer, key.decode("ascii"))
        verdict = await self._reports.take(question.subject, report, request_id, question.key_id)
        return self._no(verdict) if isinstance(verdict, Denied) else answered(verdict, request_id)

    async def _balance(self, question: _Question) -> Reply:
        found = await self._surveyor.survey(question.subject)
        if isinstance(found, Uncovered):
            detail = found.detail or plain_detail(found.reason)
            wait_ms = found.retry_after_ms
            return self._no(Denied(found.reason, detail, question.request_id, retry_after_ms=wait_ms))
        covered, consulted = found
        standing = covered.standing
        limits: tuple[Limit, ...] = limits_of(
            consulted, self._authority.clock.wall_ms(), self._authority.rates_now().currencies
        )
        shown = BalanceAnswer(
            question.request_id,
            standing.customer,
            standing.wallet.value,
            standing.currency,
            limits,
            covered.standing_age_ms,
        )
        return answered(shown, question.request_id)

    async def _explain(self, question: _Question) -> Reply:
        """What is another's, of whom the virtual key names too, is not told apart from what there is not."""
        wanted = question.head.target.removeprefix(_REQUESTS)
        past = await self._past(wanted) if _REQUEST_ID.fullmatch(wanted) else None
        holder = question.holder
        if past is None or past.customer != question.subject.customer or not (holder is None or past.is_of(holder)):
            raise Refused("not_found", "no decision of this customer has that id, or it is not remembered any more")
        return answered(past.view, question.request_id)

    # -- inside ----------------------------------------------------------------------------------

    def _check_feature(self, question: _Question, feature: str) -> None:
        """Of two features, whoever chose would be choosing whose budget pays."""
        named, by_key = question.subject.feature, question.holder is not None and question.holder.feature
        if named not in ("", feature) and (by_key or named != self._default_feature):
            what = "differs from the feature that the request's headers, or its virtual key, name"
            raise Refused("subject_conflict", f"feature: {what}", problems={"feature": what})

    def _no(self, denied: Denied) -> Reply:
        now_ms = self._authority.clock.wall_ms()
        return problems.denied(denied, now_ms=now_ms, currencies=self._authority.rates_now().currencies)


def _read(question: _Question, kind: type[_T]) -> _T:
    """Read a body as exactly the fields of `kind`.

    Raises:
        Refused: it is not said to be JSON, is none, or a field is unknown, missing, mistyped or given twice.
    """
    media, _, said = question.head.fields.get(b"content-type", b"").lower().partition(b";")
    if media.strip() != b"application/json" or not _UTF_8.issuperset(_CHARSET.findall(said)):
        raise Refused("unsupported_media_type", "expected Content-Type: application/json, in UTF-8")
    try:
        asked = msgspec.json.decode(question.body, type=kind)
        twice = repeated_key(question.body)
    except msgspec.ValidationError as error:
        field, expected = _field_at_fault(str(error))
        raise Refused("invalid_body", f"{field}: {expected}", problems={field: expected}) from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise Refused("malformed_json", "the body is not JSON in UTF-8") from None
    if twice is not None:  # one reader takes the first, another the last
        raise Refused("invalid_body", f"{twice[:64]}: given twice", problems={twice[:64]: "given twice"})
    return asked


def _field_at_fault(message: str) -> tuple[str, str]:
    """The field that a decoder's message names, and what it expected there."""
    what, _, path = message.partition(" - at `$")
    if "unknown field `" in what:
        return what.split("`")[1][:64], "not a field here"
    if "required field `" in what:
        return what.split("`")[1], "required"
    return path.rstrip("`").lstrip(".") or "body", what
