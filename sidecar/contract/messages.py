"""What a sidecar and the ledger say to each other.

Four exchanges: `register` once per start, `resolve` on a miss (who is this, and lend me enough
for this call), `resolve_key` for a virtual key not heard of for a while (whom does it name), `sync` in
the background (what was spent, what I return, what I want more of).
Durations only, never deadlines: neither side trusts the other's clock. Every part of a sync is
applied customer by customer and is idempotent: events by their id, lease totals by maximum.
"""

from __future__ import annotations

import msgspec

from sidecar.core.governance.decisions import Decision
from sidecar.core.governance.standing import Standing
from sidecar.core.governance.tenancy import Subject
from sidecar.core.pricing.usage import Usage

VERSION = 1
"""Of these messages, as this side speaks them."""

OLDEST_VERSION = 1
"""The oldest that this side still understands: the one before `VERSION`, once there has been one.

A side that hears a version outside of these refuses, naming both. A field that is new has a default,
and whoever does not know it passes over it: that needs no new version.
"""

MAX_EVENTS_PER_SYNC = 512
MAX_LEASES_PER_SYNC = 2048


def lease_id(incarnation: str, account: str) -> str:
    """The one lease that an incarnation may have on an account: asking twice cannot make two."""
    return f"{incarnation}/{account}"


def lease_account(lease: str) -> str:
    """The account that a lease is on."""
    return lease.partition("/")[2]


class SidecarState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a sidecar is, for whoever runs a fleet: nothing is decided by it.

    `software` is the version that is installed there, empty where it does not say. `outbox_calls` are settled and not
    yet acknowledged by the ledger, those of this message among them; the oldest has waited for `outbox_age_ms`, at
    most. `outbox_bytes` is what the outbox takes on disk, acknowledged records that are kept for a day included.
    """

    software: str = ""
    outbox_calls: int = 0
    outbox_age_ms: int = 0
    outbox_bytes: int = 0


class RegisterRequest(msgspec.Struct, frozen=True):
    """A process started. `incarnation` is a random number drawn at this start (L43).

    It says so again whenever the book has become another, and once more when it is `caught_up`: every call that
    it keeps is booked there, and each of its leases was reported (L50a). `history_id` and `heard` are what it was
    last told of the book; empty and 0 where nothing ever was. `state`: None from a sidecar that does not say.
    """

    sidecar: str
    incarnation: str
    version: int = VERSION
    history_id: str = ""
    heard: int = 0
    caught_up: bool = False
    state: SidecarState | None = None


class RegisterReply(msgspec.Struct, frozen=True):
    """`history_id` names the book's history; another one means that the book was replaced.

    `heard`, `sidecars`, `rank` and `now_ms`: as in `SyncReply`.
    """

    history_id: str
    heard: int = 0
    version: int = VERSION
    sidecars: int = 1
    rank: int = 0
    now_ms: int = 0


class Holding(msgspec.Struct, frozen=True):
    """What is left on a lease of the asker's own (granted − returned − spent − held).

    Below zero where a charge exceeded what was lent: a loan has to cover that first, and the
    ledger may not have heard of the charge yet.
    """

    lease_id: str
    left_atoms: int


class ResolveRequest(msgspec.Struct, frozen=True):
    """Who asks, and for how much.

    `need_atoms` is the ceiling of the call that waits, 0 to get the standing alone.
    `demand_atoms` is what the asker expects to need until it next talks (L44).
    `holdings` are its live leases on the accounts it believes to apply.
    `next_period` asks for leases on the period after this one, fetched ahead of its start.
    `history_id` and `heard`: as in `SyncRequest`.
    """

    sidecar: str
    incarnation: str
    subject: Subject
    model: str
    provider: str
    need_atoms: int
    currency: str
    demand_atoms: int = 0
    holdings: tuple[Holding, ...] = ()
    next_period: bool = False
    version: int = VERSION
    history_id: str = ""
    heard: int = 0


class ResolveKeyRequest(msgspec.Struct, frozen=True):
    """Whom does this virtual key name? It is asked for by its SHA-256; the key itself stays with the asker."""

    sidecar: str
    sha256: bytes
    version: int = VERSION


class ResolveKeyReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The subject that a good key names, the key's name in the book, and the revision of that customer.

    `subject` None: there is no such key, or it was revoked; the two are not told apart. A change of the
    customer to a later `revision` may have revoked it. `expires_in_ms` is how long it is good, None for ever.
    """

    subject: Subject | None = None
    key_id: str = ""
    revision: int = 0
    version: int = VERSION
    expires_in_ms: int | None = None


class LeaseGrant(msgspec.Struct, frozen=True, omit_defaults=True):
    """A lease as the ledger holds it, after this message. `granted_atoms` is a total that only grows.

    `pays_for_ms` is how long, from the moment the asker *sent* its request, it may admit on
    it: already cut to what is left of the period and of the grant; `starts_in_ms` after that
    moment it begins. `has_more`: the account has more to lend (L16). `returned_atoms` is what the
    ledger has heard to be returned: a holder that has forgotten an idle lease begins again there.
    """

    lease_id: str
    granted_atoms: int
    pays_for_ms: int
    starts_in_ms: int = 0
    has_more: bool = False
    recall: bool = False
    returned_atoms: int = 0


class AccountReading(msgspec.Struct, frozen=True, omit_defaults=True):
    """One budget or grant that applies, as the book has it after this message.

    `used_atoms` is posted; `escrow_atoms` is lent to this asker and not yet posted or returned,
    `elsewhere_atoms` to all others; `unlent_atoms` = what could still be lent, never below 0.
    `overdrawn_atoms`: by how much more was posted on this asker's lease than was lent: it is taken out of the account
    already, and with the next that is lent the lease's total makes up for it. None from a ledger that does not say.
    """

    account: str
    kind: str  # budget | grant
    id: str
    child: str
    limit_atoms: int
    used_atoms: int
    escrow_atoms: int
    elsewhere_atoms: int
    unlent_atoms: int
    resets_in_ms: int | None = None
    overdrawn_atoms: int | None = None


class ResolveReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The standing, leases that cover the need if the limits allow it, and how each account stands.

    `refusal` is empty, or a word of `decisions.Reason` (customer_unknown, subject_conflict,
    too_many_subjects, debt_limit_reached) and `detail` its sentence; then there is no
    standing. Lending is all
    or none: where one account is short, nothing was lent, and `readings` say which; `leases` are
    then the asker's leases as they stood before. `owner` is the customer, node or user that the refusal
    is of (`acme`, `acme/team:data`), where it is of one.
    """

    standing: Standing | None = None
    leases: tuple[LeaseGrant, ...] = ()
    readings: tuple[AccountReading, ...] = ()
    refusal: str = ""
    detail: str = ""
    version: int = VERSION
    owner: str = ""


class Admission(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call that may run, as it stands in the outbox before the provider is called (L49).

    It is all that is needed to settle the call if nothing more is ever heard of it (L25).
    `held_atoms` was held whole on each lease of `budget_leases`, and once over `slices` (lease
    id, atoms) of the grants that pay, in burn order. `admitted_at_ms` is the holder's wall
    clock: the ledger uses only its distance from the message's `sent_at_ms`. `reported` is the usage
    where it is known before it runs: a report of what is no model call, charged exactly what is held.
    """

    request_id: str
    subject: Subject
    provider: str
    protocol: str
    model: str
    admitted_at_ms: int
    currency: str
    held_atoms: int
    decision: Decision
    budget_leases: tuple[str, ...] = ()
    slices: tuple[tuple[str, int], ...] = ()
    reported: Usage | None = None


class UsageEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One settled call, booked once by its admission's `request_id` (L29).

    `charge_atoms` None: the model has no price. Each of the admission's budget leases is charged
    the whole; `paid` (lease id, atoms) are the grants' leases that paid, in burn order, and
    `excess_atoms` what they could not. `status` is the provider's, 0 if it never answered.
    `flags`: estimated, overrun, crash, unpriced … A flagged charge can be corrected by evidence.
    """

    admission: Admission
    duration_ms: int
    status: int
    ending: str
    usage: Usage
    charge_atoms: int | None
    paid: tuple[tuple[str, int], ...] = ()
    excess_atoms: int = 0
    flags: tuple[str, ...] = ()


class LeaseReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a holder says of one lease: its growing `returned_atoms`, and how much more it wants.

    `tally_atoms` is what was charged on it in all, by its holder's count, with the calls of this message and those
    that still wait in its outbox: what the book lacks of it is known and not booked yet. None: it is not said.
    `closed`: it will never admit on it again; `returned_atoms` is then granted − tally (L42): so what was lent in an
    answer that its holder never heard is free as well.
    `granted_atoms` is the total as its holder was told, 0 where it does not say: more than the book has
    means that the book has lost something, and that so much more of the account is out (L50a).
    """

    lease_id: str
    returned_atoms: int
    want_atoms: int = 0
    closed: bool = False
    tally_atoms: int | None = None
    granted_atoms: int = 0


class CustomerPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything of one customer in a sync: applied in one transaction or not at all.

    `heard` is the revision of the customer by which the sender decides: nothing that was compiled before
    it is used any more (L35). 0: it does not say.
    """

    customer: str
    events: tuple[UsageEvent, ...] = ()
    leases: tuple[LeaseReport, ...] = ()
    heard: int = 0


class SyncRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happened since the last one.

    `ended`: this incarnation is over and gets no new grant. With it, `all_booked`: each call that it
    ever admitted is booked. What is left on any lease of it is then free again, also on one whose
    grant it died before hearing of. `history_id` is of the book that has all that the sender keeps, empty while
    it is bringing that up; `heard` the greatest count that it was told of it. Either proves it, where the
    book has lost something since (L50a). `state`: None from a sidecar that does not say.
    """

    sidecar: str
    incarnation: str
    sent_at_ms: int
    parts: tuple[CustomerPart, ...] = ()
    ended: bool = False
    all_booked: bool = False
    version: int = VERSION
    history_id: str = ""
    heard: int = 0
    state: SidecarState | None = None


class RecordedPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `CustomerPart` whose events are still the bytes in which they were recorded.

    On the wire it is the same: each of `events` is a UsageEvent as `contract.codec` writes it. So who
    only passes it on need not read it, and who books it reads of it what booking takes.
    """

    customer: str
    events: tuple[msgspec.Raw, ...] = ()
    leases: tuple[LeaseReport, ...] = ()
    heard: int = 0


class RecordedSync(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `SyncRequest` of such parts; on the wire it is the same."""

    sidecar: str
    incarnation: str
    sent_at_ms: int
    parts: tuple[RecordedPart, ...] = ()
    ended: bool = False
    all_booked: bool = False
    version: int = VERSION
    history_id: str = ""
    heard: int = 0
    state: SidecarState | None = None


AnyPart = CustomerPart | RecordedPart
AnySync = SyncRequest | RecordedSync


class PartReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one customer's part.

    `error` empty: all of it is booked, for good. Else `booked` says whether its events are all
    the same: a report on a lease that the ledger does not know is an error, and loses nothing else.
    `revision` is the customer's, 0 where it is not told: a change that was not heard of shows itself by it.
    """

    customer: str
    leases: tuple[LeaseGrant, ...] = ()
    error: str = ""
    booked: bool = False
    revision: int = 0


class SyncReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """One reply per part, in the request's order.

    `heard` counts in the book itself how often it has heard this sidecar: it is greater than in
    every reply before, unless an earlier copy of the book was put back; 0: it is not counted.
    The next sync that carries settlements is asked to carry at most `window_events` (0: as many as one may), and
    not to come before `pause_ms` after this reply; what is wanted or given back need not wait.
    `sidecars` were heard of late, this one among them at place `rank`, from 0: they share what they cannot count
    together. `now_ms` is the ledger's clock, in Unix milliseconds, by which calls are stamped; 0: it does not say.
    """

    parts: tuple[PartReply, ...] = ()
    history_id: str = ""
    heard: int = 0
    window_events: int = 0
    pause_ms: int = 0
    version: int = VERSION
    sidecars: int = 1
    rank: int = 0
    now_ms: int = 0


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something about a customer changed: drop its standings, give back what is idle (L35).

    With a `checkpoint` it is no change: it is a line to keep, as `core.credits.checkpoints` writes it, and
    customer and revision are empty. With a `recall` it is none either: somebody waits for what is idle of that
    account of the customer's (L45), the incarnation `by`, the least of several. With a `history` it says which one
    the book has: at the beginning, and when it has become another (L50a). All three come only to who has asked for
    them.
    """

    customer: str
    revision: int
    checkpoint: str = ""
    recall: str = ""
    by: str = ""
    history: str = ""


class ChangesRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tell me of changes from now on, and first of every customer whose revision is not the one I have `seen`.

    So nothing is lost between two connections, whichever ledger process answers the second: the
    cursor is what the asker knows, and the ledger keeps none. `checkpoints`, `recalls`, `histories`: tell me of
    these too.
    """

    sidecar: str
    seen: tuple[Change, ...] = ()
    checkpoints: bool = False
    recalls: bool = False
    histories: bool = False
    version: int = VERSION


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why there is no answer: a `code` for programs, and for `unknown_version` the one that this side speaks."""

    code: str
    detail: str
    retry_after_ms: int = 0
    version: int = VERSION
