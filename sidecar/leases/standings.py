"""Standings heard of and not yet stale, and the ledger's refusals of a moment ago."""

from __future__ import annotations

from typing import Final

from sidecar.core.governance.decisions import Reason
from sidecar.core.governance.standing import Standing
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.leases.verdicts import Uncovered

MAX_STANDINGS: Final = 16_384
"""Standings remembered over all customers. A customer that has more than an even share of them makes room for its
own next one (S-35); otherwise the one asked for longest ago is forgotten first."""

MAX_CUSTOMERS: Final = 16_384
"""Customers whose last change is remembered, or the revision of their first standing; likewise."""

Place = tuple[str, tuple[Node, ...], str]
"""Customer, path and user as the application named them: what a standing is compiled for."""


def place_of(subject: Subject) -> Place:
    """Under what a subject's standing is kept."""
    return subject.customer, subject.path, subject.user


_Child = tuple[str, tuple[Node, ...], str, str, str]
"""A place, and the agent and session of one subject there."""


def _child_of(subject: Subject) -> _Child:
    return subject.customer, subject.path, subject.user, subject.agent, subject.session


class Known:
    """A standing, when it was asked for and last used (monotonic seconds), and for which call."""

    __slots__ = ("asked_at", "model", "provider", "standing", "subject", "used_at")

    def __init__(self, standing: Standing, subject: Subject, model: str, provider: str, asked_at: float) -> None:
        self.standing = standing
        self.subject = subject
        self.model = model
        self.provider = provider
        self.asked_at = asked_at
        self.used_at = asked_at

    def is_fresh(self, now: float) -> bool:
        """Whether it may be decided by without asking again."""
        return (now - self.asked_at) * 1000 <= self.standing.fresh_for_ms

    def age_ms(self, now: float) -> int:
        """How long ago it was asked for."""
        return max(0, round((now - self.asked_at) * 1000))


class StandingCache:
    """What is known of subjects. A change at the ledger empties a customer's part of it at once (L35)."""

    def __init__(self, *, max_standings: int = MAX_STANDINGS) -> None:
        self._max = max_standings
        self._known: dict[Place, Known] = {}
        self._places: dict[str, dict[Place, None]] = {}
        self._refused: dict[Place | _Child, tuple[Uncovered, float]] = {}
        self._changes: dict[str, tuple[int, float]] = {}

    def get(self, subject: Subject) -> Known | None:
        """The standing of a subject, however old."""
        return self._known.get((subject.customer, subject.path, subject.user))

    def put(self, known: Known) -> bool:
        """Remember a standing; False if it was compiled before a change we have heard of: then it is not taken.

        One that was asked for after we heard is as new, whatever its number: an earlier copy of the book, put
        back, counts from where it stands.
        """
        place = place_of(known.subject)
        revision, heard_at = self._changes.get(known.standing.customer, (-1, 0.0))
        if known.standing.revision < revision and known.asked_at <= heard_at:
            return False
        if revision < 0:  # the first that is known of this customer: there is nothing older here
            self._note_change(known.standing.customer, known.standing.revision, float("-inf"))
        former = self._forget(place)
        if former is not None:
            known.used_at = former.used_at
        self._known[place] = known
        self._places.setdefault(place[0], {})[place] = None
        if len(self._known) > self._max:
            own = self._places[place[0]]
            has_more = len(own) > 1 and len(own) * len(self._places) > self._max
            self._forget(next(iter(own if has_more else self._known)))
        self._refused.pop(place, None)
        return True

    def refuse(self, subject: Subject, refusal: Uncovered, *, until: float) -> None:
        """The ledger would not have this subject: remember it until then, and its standing no more.

        Where there were too many new users, agents or sessions, only this very one is meant: those that
        share its path and exist are not turned away with it.
        """
        place = place_of(subject)
        who: Place | _Child = place
        if refusal.reason is Reason.TOO_MANY_SUBJECTS:
            who = _child_of(subject)
        else:
            self._forget(place)
        self._refused.pop(who, None)
        self._refused[who] = refusal, until
        if len(self._refused) > self._max:
            del self._refused[next(iter(self._refused))]

    def refusal(self, subject: Subject, now: float) -> Uncovered | None:
        """What the ledger said of a subject a moment ago, if it said no."""
        if not self._refused:
            return None
        refused = self._refused.get(place_of(subject)) or self._refused.get(_child_of(subject))
        return refused[0] if refused is not None and now < refused[1] else None

    def change(self, customer: str, revision: int, now: float) -> None:
        """Something about a customer changed: forget what was compiled before."""
        for place in self._places.pop(customer, {}):
            del self._known[place]
        for refused in [refused for refused in self._refused if refused[0] == customer]:
            del self._refused[refused]
        former, _ = self._changes.pop(customer, (-1, 0.0))
        self._note_change(customer, max(revision, former), now)

    def revision(self, customer: str) -> int:
        """The customer's revision since which nothing older is decided by; 0 where none was heard of."""
        return max(0, self._changes.get(customer, (0, 0.0))[0])

    def _forget(self, place: Place) -> Known | None:
        known = self._known.pop(place, None)
        if known is not None:
            places = self._places[place[0]]
            del places[place]
            if not places:
                del self._places[place[0]]
        return known

    def _note_change(self, customer: str, revision: int, heard_at: float) -> None:
        self._changes[customer] = revision, heard_at
        if len(self._changes) > MAX_CUSTOMERS:
            del self._changes[next(iter(self._changes))]

    def changed_at(self, customer: str) -> float:
        """When we last heard of a change of a customer; what was read before proves nothing any more."""
        return self._changes.get(customer, (0, float("-inf")))[1]

    def stale_soon(self, now: float, *, within_s: float, used_since: float) -> list[Known]:
        """Standings in use that will be stale within a while."""
        return [
            known
            for known in self._known.values()
            if known.used_at >= used_since and not known.is_fresh(now + within_s)
        ]

    def __len__(self) -> int:
        return len(self._known)
