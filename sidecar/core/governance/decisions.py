"""Yes or no, with everything that led to it (L34, L50)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from sidecar.core.governance.limits import Cadence


class Reason(StrEnum):
    """Why a call is denied, in order of precedence: of several that hold, the first is told."""

    CUSTOMER_REQUIRED = "customer_required"
    SUBJECT_CONFLICT = "subject_conflict"
    CUSTOMER_UNKNOWN = "customer_unknown"
    NODE_FROZEN = "node_frozen"
    TOO_MANY_SUBJECTS = "too_many_subjects"
    MODEL_NOT_PRICED = "model_not_priced"
    REQUEST_NOT_BOUNDABLE = "request_not_boundable"
    NO_LIMIT_APPLIES = "no_limit_applies"  # wallet `none` and no hard budget: nothing would bound it (L16a)
    DEBT_LIMIT = "debt_limit_reached"
    REQUEST_EXCEEDS_BUDGET = "request_exceeds_budget"
    BUDGET_EXCEEDED = "budget_exceeded"
    BUDGET_IN_FLIGHT = "budget_in_flight"
    CREDITS_EXHAUSTED = "credit_balance_exhausted"
    RATE_LIMITED = "rate_limit_exceeded"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    OUTBOX_FULL = "outbox_full"
    OVERLOADED = "sidecar_overloaded"


PRECEDENCE = {reason: rank for rank, reason in enumerate(Reason)}
"""Smaller is told first."""


class Consulted(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One budget or grant as it stood when a request was decided.

    `kind` is `budget` or `grant`; `owner` the node as people write it. `used` is what is
    spent for good, `held` what open calls hold here, `elsewhere` what other sidecars hold, and
    `remaining` = limit − used − held − elsewhere, never below zero. None: not known here.
    `resets_in_ms` is None for what never resets. `lease_age_ms` says how old its lease was.
    """

    kind: str
    id: str
    owner: str
    currency: str
    limit: int
    used: int | None = None
    held: int | None = None
    elsewhere: int | None = None
    remaining: int | None = None
    child: str = ""
    cadence: Cadence = Cadence.LIFETIME
    hard: bool = True
    resets_in_ms: int | None = None
    lease_id: str = ""
    lease_age_ms: int | None = None


class Denied(msgspec.Struct, frozen=True):
    """No, with a reason. A value, never an exception.

    `detail` is a sentence for a person. `binding` is the budget or grant that said no, where
    one did; `owner` the customer or node of whom it was said, where no budget did; `consulted` all
    that were asked. `ceiling_atoms` is what the call could have cost.
    `retry_after_ms` is set only where waiting a little can help. `max_affordable_output_tokens` is
    the largest output limit with which the same call would have passed, where that is known.
    """

    reason: Reason
    detail: str
    request_id: str = ""
    binding: Consulted | None = None
    consulted: tuple[Consulted, ...] = ()
    ceiling_atoms: int | None = None
    currency: str = ""
    standing_age_ms: int | None = None
    retry_after_ms: int | None = None
    max_affordable_output_tokens: int | None = None
    owner: str = ""


class Source(StrEnum):
    """Where the spending power of an admission came from (L50)."""

    LEASE = "lease"
    EXACT = "exact"  # lent for this one request
    GRACE = "grace"  # an overdraft's, while the ledger was away (L47)
    UNPRICED = "unpriced"  # no price known, counted only (`unknown_model: meter`)


class Asked(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of `Consulted`, what does not change from call to call."""

    kind: str
    id: str
    owner: str
    currency: str
    child: str = ""
    cadence: Cadence = Cadence.LIFETIME
    hard: bool = True


FIGURES_EACH = 7
"""Figures of one account in `Decision.figures`: limit, used, held, elsewhere, remaining, resets_in_ms, lease_age_ms."""

NO_FIGURES: Final = msgspec.Raw(b"\x90")
"""Those of no account: an empty list, in msgpack."""

_FIGURES_ENCODER: Final = msgspec.msgpack.Encoder()
_FIGURES_DECODER: Final = msgspec.msgpack.Decoder(tuple[int | None, ...])
_FIGURES_IN_JSON: Final = msgspec.json.Decoder(tuple[int | None, ...])


def pack_figures(figures: Sequence[int | None]) -> msgspec.Raw:
    """Figures as `Decision` has them: bytes, since an open call holds some fifty, and they are written twice."""
    return msgspec.Raw(_FIGURES_ENCODER.encode(figures))


def unpack_figures(packed: msgspec.Raw) -> tuple[int | None, ...]:
    """The figures again, also from JSON, as entries of an earlier version have them; empty if they are none."""
    data = bytes(packed)
    try:
        return _FIGURES_IN_JSON.decode(data) if data[:1] == b"[" else _FIGURES_DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ()


def consulted_of(asked: Sequence[Asked], figures: Sequence[int | None]) -> tuple[Consulted, ...]:
    """Every account asked with its figures.

    Raises:
        ValueError: the figures are not FIGURES_EACH for each.
    """
    if len(figures) != FIGURES_EACH * len(asked):
        raise ValueError(f"{len(asked)} accounts have {FIGURES_EACH} figures each, not {len(figures)} in all")
    found: list[Consulted] = []
    for number, one in enumerate(asked):
        limit, used, held, elsewhere, left, resets, age = figures[FIGURES_EACH * number : FIGURES_EACH * (number + 1)]
        found.append(
            Consulted(
                one.kind, one.id, one.owner, one.currency, limit or 0, used, held, elsewhere, left, one.child,
                one.cadence, one.hard, resets, "", age,
            )
        )  # fmt: skip
    return tuple(found)


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an admitted call was decided: kept with its usage entry, shown by `spend explain`.

    What was consulted stands in two parts, since the first is the same for many calls and both are
    written for each: `asked`, and in its order FIGURES_EACH `figures` for every account, None for
    what was not known. `told` puts them together; `consulted` is how it is shown. `clamped_to` is the
    output limit, in tokens per choice, that the call was shortened to so that it fits, None where it was
    not; `asked_output` the one that it came with, None for none. `key_id` is the name of the virtual key that
    it was let in by, `` for none (S-13). `unbounded` names what of it had no bound and was let in all the same (L0).
    `grows`: it began with less than its ceiling, and held more as it came.
    """

    source: Source
    ceiling_atoms: int | None
    standing_age_ms: int
    lease_age_ms: int | None
    plan: str
    rate_card: str
    catalog_sha256: str
    consulted: tuple[Consulted, ...] = ()
    asked: tuple[Asked, ...] = ()
    figures: msgspec.Raw = NO_FIGURES
    clamped_to: int | None = None
    asked_output: int | None = None
    key_id: str = ""
    unbounded: tuple[str, ...] = ()
    grows: bool = False

    def told(self) -> Decision:
        """The same with `consulted` spelled out, as it is shown. Figures that fit no account are left out."""
        figures = unpack_figures(self.figures)
        consulted = self.consulted
        if len(figures) == FIGURES_EACH * len(self.asked):
            consulted = (*consulted, *consulted_of(self.asked, figures))
        return msgspec.structs.replace(self, consulted=consulted, asked=(), figures=NO_FIGURES)
