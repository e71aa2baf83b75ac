"""Checking what people ask for, field by field, before anything is done."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final, NamedTuple

from sidecar.core.credits.amounts import AmountError, Currency, parse_amount
from sidecar.core.credits.grants import Category
from sidecar.core.credits.scopes import is_pattern
from sidecar.core.governance.budgets import DIMENSIONS, Budget, Each, Kind, OnOutage
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.periods import MONTHS, Weekday
from sidecar.core.governance.standing import Wallet
from sidecar.core.governance.tenancy import Node, Subject, is_id, parse_path
from sidecar.core.governance.zone_names import nearest_zones, zone_names
from sidecar.errors import Rejected
from sidecar.ledger.administration import Act, NewBudget, NewGrant, NewKey, NodeMove
from sidecar.ledger.idempotency import MAX_KEY

MAX_PATTERNS = 64
"""Patterns of one kind on a grant."""

MAX_PRIORITY = 1_000_000

FIRST_ANCHOR, LAST_ANCHOR = date(1900, 1, 1), date(2999, 12, 31)
"""Between which a period must begin that others are counted from."""

MAX_REASON = 500
"""Characters of the reason that an act gives."""

MAX_KEY_LIFE_MS: Final = 10 * 366 * 86_400_000

MIN_WINDOW_S, MAX_WINDOW_S = 60, 366 * 86_400

MAX_INSTANT_MS = 253_402_300_799_000
"""The last second of the year 9999."""


_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Outage(NamedTuple):
    """What an outage does, as `Budget` has it."""

    on_outage: OnOutage
    grace_atoms: int


NO_GRACE: Final = Outage(OnOutage.DENY, 0)


class Problems:
    """Every field at fault, so that all are told at once; the first one's word is the code."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}
        self._code = ""

    def add(self, code: str, field: str, expected: str) -> None:
        """A field is at fault: the machine's word, and what was expected there."""
        self._code = self._code or code
        self._found.setdefault(field, expected)

    def raise_any(self) -> None:
        """Refuse it, if any field is at fault.

        Raises:
            Rejected: with every field at fault, and the machine's word for the first.
        """
        if self._found:
            raise Rejected(self._code, self._found)


def act(who: Act) -> None:
    """Refuse an act without an actor, or with a key too long to keep."""
    problems = Problems()
    if not who.actor or len(who.actor) > MAX_KEY:
        problems.add("invalid_field", "actor", f"1 to {MAX_KEY} characters")
    if len(who.idempotency_key) > MAX_KEY:
        problems.add("invalid_field", "idempotency_key", f"at most {MAX_KEY} characters")
    if who.reason:
        check_reason(problems, who.reason)
    problems.raise_any()


def customer(name: str, wallet: str) -> Wallet:
    """The wallet of a customer to make."""
    problems = Problems()
    _check_customer(problems, "customer", name)
    if wallet not in set(Wallet):
        problems.add("invalid_field", "wallet", one_of(Wallet))
    problems.raise_any()
    return Wallet(wallet)


def timezone(customer: str, name: str) -> None:
    """Refuse a name that no time zone has."""
    problems = Problems()
    _check_customer(problems, "customer", customer)
    if name not in zone_names():
        near = nearest_zones(name)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        problems.add("invalid_field", "timezone", f"an IANA time zone such as Europe/Berlin{meant}")
    problems.raise_any()


def path(text: str) -> tuple[str, tuple[Node, ...]]:
    """The customer and the nodes to make of `acme/kind:id/…`, of which at least one must be named."""
    problems = Problems()
    name, nodes = check_path(problems, text)
    if not nodes:
        problems.add("invalid_path", "path", "a node below the customer, such as acme/team:data")
    if any(node.kind == "user" for node in nodes):
        problems.add("invalid_path", "path", "no user: users are taken as they come, and can have budgets")
    if any(node.kind in DIMENSIONS for node in nodes):
        problems.add("invalid_path", "path", f"kinds of your own, and none of {', '.join(DIMENSIONS)}: calls say those")
    problems.raise_any()
    return name, nodes


def owner(text: str, reason: str) -> tuple[str, tuple[Node, ...]]:
    """The customer and the nodes, as named, of what an act is about (`acme`, `acme/team:data`, `acme/user:ada`)."""
    problems = Problems()
    name, nodes = check_path(problems, text)
    check_reason(problems, reason)
    problems.raise_any()
    return name, nodes


def move(form: NodeMove) -> tuple[str, tuple[Node, ...], tuple[Node, ...]]:
    """The customer, the nodes to move as named, and those as named below which it goes: none for the customer."""
    problems = Problems()
    name, nodes = check_path(problems, form.path)
    other, to = check_path(problems, form.to, field="to")
    check_reason(problems, form.reason)
    if not nodes or nodes[-1].kind == "user":
        problems.add("invalid_path", "path", "a node below the customer, such as acme/team:data")
    if other != name:
        problems.add("invalid_path", "to", f"a place in {name}'s tree: {name}, or a node of it")
    if to and to[-1].kind == "user":
        problems.add("invalid_path", "to", "a node, or the customer: nothing stands below a user")
    problems.raise_any()
    return name, nodes, to


def reason(text: str) -> None:
    """Refuse a reason that is none.

    Raises:
        Rejected: it is empty, too long, or not printable on one line.
    """
    problems = Problems()
    check_reason(problems, text)
    problems.raise_any()


def about(name: str, reason: str) -> None:
    """Refuse an act on something of a customer's that names no customer, or does not say why."""
    problems = Problems()
    _check_customer(problems, "customer", name)
    check_reason(problems, reason)
    problems.raise_any()


def grant(form: NewGrant, currencies: Mapping[str, Currency]) -> int:
    """The atoms of a grant to issue."""
    problems = Problems()
    _check_customer(problems, "customer", form.customer)
    atoms = _amount(problems, "amount", form.amount, form.currency, currencies)
    if atoms == 0:
        problems.add("invalid_amount", "amount", "more than zero")
    if form.category not in set(Category):
        problems.add("invalid_field", "category", one_of(Category))
    if not -MAX_PRIORITY <= form.priority <= MAX_PRIORITY:
        problems.add("invalid_field", "priority", f"-{MAX_PRIORITY} to {MAX_PRIORITY}")
    for field, instant in (("effective_at_ms", form.effective_at_ms), ("expires_at_ms", form.expires_at_ms)):
        if instant is not None and not 0 <= instant <= MAX_INSTANT_MS:
            problems.add("invalid_field", field, "Unix milliseconds")
    for field, patterns in (("models", form.models), ("features", form.features)):
        if len(patterns) > MAX_PATTERNS or not all(map(is_pattern, patterns)):
            problems.add("invalid_field", field, f"at most {MAX_PATTERNS} patterns such as gpt-4o*")
    problems.raise_any()
    return atoms or 0


def budget(form: NewBudget, currencies: Mapping[str, Currency]) -> tuple[str, tuple[Node, ...], int, Outage | None]:
    """The customer, the nodes as named, the limit of a budget to set, and what an outage does; None: as before."""
    problems = Problems()
    name, nodes = check_path(problems, form.path)
    atoms = _amount(problems, "limit", form.limit, form.currency, currencies)
    if form.per not in set(Cadence):
        problems.add("invalid_field", "per", one_of(Cadence))
    else:
        _check_anchor(problems, Cadence(form.per), form.anchor)
    if form.each not in set(Each):
        problems.add("invalid_field", "each", one_of(Each))
    if form.per == Cadence.WINDOW and not MIN_WINDOW_S <= form.window_s <= MAX_WINDOW_S:
        problems.add("invalid_field", "window_s", f"how long a window is: {MIN_WINDOW_S} to {MAX_WINDOW_S} seconds")
    elif form.per != Cadence.WINDOW and form.window_s:
        problems.add("invalid_field", "window_s", "0: only a window has a length of its own")
    if form.per == Cadence.WINDOW and not form.hard:
        problems.add(
            "invalid_field", "hard", "true: a window begins with what is lent, and of a soft budget nothing is"
        )
    if form.kind not in ("", *Kind):
        problems.add("invalid_field", "kind", one_of(Kind))
    elif form.kind == Kind.ALLOCATION and (form.each or form.guardrail or form.per == Cadence.WINDOW):
        problems.add(
            "invalid_field",
            "kind",
            "cap: what each child or a member has of its own, or a window, is no part of anything",
        )
    for dimension, pattern in form.match.items():
        if dimension not in DIMENSIONS or not is_pattern(pattern):
            problems.add("invalid_field", "match", f"a pattern for any of {', '.join(DIMENSIONS)}")
    outage = _outage(problems, form, currencies)
    problems.raise_any()
    return name, nodes, atoms or 0, outage


def outage_kept(form: NewBudget, budget: Budget) -> Outage:
    """What an outage does to a budget that is edited without a word about it."""
    return Outage(budget.on_outage, budget.grace_atoms) if form.hard else NO_GRACE


def key(form: NewKey) -> Subject:
    """The subject that a virtual key names, its nodes as named."""
    problems = Problems()
    customer, nodes = check_path(problems, form.path)
    if not _SHA256.fullmatch(form.sha256):
        problems.add("invalid_field", "sha256", "64 hex digits, the SHA-256 of the key")
    for field in ("name", "agent", "session", "feature", "product"):
        value: str = getattr(form, field)
        if value and not is_id(value):
            problems.add("invalid_field", field, "at most 128 of A-Z a-z 0-9 . _ : @ -")
    if form.expires_in_ms is not None and not 0 < form.expires_in_ms <= MAX_KEY_LIFE_MS:
        problems.add("invalid_field", "expires_in_ms", f"1 to {MAX_KEY_LIFE_MS}")
    problems.raise_any()
    user = nodes[-1].id if nodes and nodes[-1].kind == "user" else ""
    return Subject(
        customer,
        nodes[:-1] if user else nodes,
        user=user,
        agent=form.agent,
        session=form.session,
        feature=form.feature,
        product=form.product,
    )


def _check_anchor(problems: Problems, per: Cadence, anchor: str) -> None:
    if per is Cadence.WEEK:
        if anchor and anchor not in set(Weekday):
            problems.add("invalid_field", "anchor", f"the day on which weeks start: {one_of(Weekday)}")
    elif per not in MONTHS:
        if anchor:
            problems.add("invalid_field", "anchor", f"none: a {per.value} begins by the clock")
    elif anchor and not _is_date(anchor):
        problems.add("invalid_field", "anchor", f"a date from {FIRST_ANCHOR} to {LAST_ANCHOR}, such as 2026-01-31")


def _is_date(text: str) -> bool:
    try:
        return FIRST_ANCHOR <= date.fromisoformat(text) <= LAST_ANCHOR and len(text) == len("2026-01-31")
    except ValueError:
        return False


def check_reason(problems: Problems, text: str) -> None:
    """Whether it says why."""
    if not text.strip() or len(text) > MAX_REASON or not text.isprintable():
        problems.add("invalid_field", "reason", f"why, in 1 to {MAX_REASON} printable characters on one line")


def _check_customer(problems: Problems, field: str, name: str) -> None:
    if not is_id(name) or name.startswith("_"):  # names with an underscore are the ledger's own books
        problems.add("invalid_field", field, "1 to 128 of A-Z a-z 0-9 . _ : @ -, not beginning with _")


def check_path(problems: Problems, text: str, *, field: str = "path") -> tuple[str, tuple[Node, ...]]:
    """The customer and the nodes, as named, of `acme/kind:id…`."""
    name, _, rest = text.partition("/")
    _check_customer(problems, field, name)
    try:
        nodes = parse_path(rest)
    except ValueError as problem:
        problems.add("invalid_path", field, str(problem))
        return name, ()
    if any(node.kind == "user" for node in nodes[:-1]):
        problems.add("invalid_path", field, "a user is the last of a path")
    return name, nodes


def _amount(problems: Problems, field: str, text: str, currency: str, currencies: Mapping[str, Currency]) -> int | None:
    known = currencies.get(currency)
    if known is None:
        problems.add("unit_mismatch", "currency", f"one of {', '.join(sorted(currencies))}")
        return None
    try:
        return parse_amount(text, known)
    except AmountError as problem:
        problems.add("invalid_amount", field, str(problem))
        return None


def one_of(words: Iterable[str]) -> str:
    """What is expected where only some words are taken."""
    return "one of " + ", ".join(repr(str(word)) for word in words)


def _outage(problems: Problems, form: NewBudget, currencies: Mapping[str, Currency]) -> Outage | None:
    atoms = _amount(problems, "grace", form.grace, form.currency, currencies) if form.grace else 0
    if form.on_outage not in ("", *OnOutage):
        problems.add("invalid_field", "on_outage", one_of(OnOutage))
    elif form.on_outage == OnOutage.GRACE and not atoms:
        problems.add("invalid_field", "grace", "more than zero: what may be spent beyond the limit in an outage")
    elif form.on_outage != OnOutage.GRACE and form.grace:
        problems.add("invalid_field", "on_outage", "grace, which an amount of grace goes with")
    elif form.on_outage == OnOutage.GRACE and (not form.hard or form.per == Cadence.WINDOW):
        problems.add("invalid_field", "on_outage", "deny: grace is for hard budgets of a calendar's periods")
    elif form.on_outage:
        return Outage(OnOutage(form.on_outage), atoms or 0)
    return None
