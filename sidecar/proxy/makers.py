"""Whose a thing is that its provider keeps, and that comes back by its id: answers, files, conversations.

A provider knows one account: ours, where the sidecar holds the key. To it every customer of ours is the same, so
whoever knew the id of another's stored answer could read, cancel or delete it, or go on from it. So with a key of
ours such an id is good for the customer whose call made the answer, and for nobody else. An id that is not known here
is nobody's, and an answer that is another's looks just like one that is not there.

So it is with all else that an account keeps and that a request can name (`providers.held_by_id`): what went through
here is its maker's, what the configuration says is `shared` is everybody's, and what is not known is nobody's.

What is known: the latest answers that went through here with their items, and what was made by calls that are passed
on counted; after a restart the answers that the outbox still has (a day of them), but for stored chat completions, and
nothing else. Another sidecar's are not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from sidecar.core.pricing.usage import Usage
from sidecar.providers.doors import ANSWERS_KEPT_MAX, KEPT_BY_ID, Kind

_ID: Final = re.compile(
    r"/(?:responses|chat/completions|interactions)/([A-Za-z0-9_.~-]+)(?:/(?:input_items|messages|cancel)|:cancel)?\Z",
    re.ASCII,
)
_COLLECTION: Final = re.compile(
    r"/(files|uploads|vector_stores|containers|batches|conversations|threads|assistants|agents|sessions|videos|evals"
    r"|cachedContents|fileSearchStores|tunedModels|fine_tuning/[a-z]+|fine-tunes|embed-jobs|async-invoke|jobs)"
    r"(?:/([^/:]+)|(?=[/:]|\Z))",
    re.ASCII,
)
"""In a path, a collection of things that an account keeps, and the id of one of them."""

_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_.~-]+", re.ASCII)

KEEPING: Final = frozenset({Kind.FILES, Kind.BATCH, Kind.AGENTS, Kind.VIDEO, Kind.TRAINING, Kind.BACKGROUND})
"""Kinds of doors behind which an account keeps things, beside `stored`."""

ID_CHARS_MAX: Final = 256
"""Of an id that is remembered; no provider's is nearly as long."""

_ASKED_TO_KEEP: Final = {"openai.chat": b'"store"'}
"""Dialects whose answers are kept where the request asks for it, by words without which none can."""


class Makers:
    """Remembers by a provider and an answer's id the customer whose call made it: the latest ANSWERS_KEPT_MAX."""

    def __init__(self, known: Mapping[tuple[str, str], str] | None = None) -> None:
        """Begin with those that are known from before."""
        self._customers: dict[tuple[str, str], str] = dict(known or {})

    def learn(self, provider: str, customer: str, usage: Usage, kept: Iterable[str] = ()) -> None:
        """Take in who made an answer, and the parts of it that are `kept` by ids of their own."""
        for held in (usage.provider_request_id or "", *kept):
            self.learn_of(provider, customer, held)

    def learn_of(self, provider: str, customer: str, held: str) -> None:
        """Take in who made a thing. Who is known stays: nobody can take an id over."""
        if not 0 < len(held) <= ID_CHARS_MAX or (provider, held) in self._customers:
            return
        self._customers[provider, held] = customer
        if len(self._customers) > ANSWERS_KEPT_MAX:
            del self._customers[next(iter(self._customers))]

    def is_of(self, provider: str, answer_id: str, customer: str) -> bool:
        """Whether this customer's call made it; false for what is not known."""
        return bool(answer_id) and self._customers.get((provider, answer_id)) == customer


class Apart(NamedTuple):
    """What of a provider's things is one customer's, where the account is ours."""

    makers: Makers
    provider: str
    customer: str
    shared: frozenset[str] = frozenset()

    def has(self, *held: str) -> bool:
        """Whether a thing, by one of its names, is this customer's, or everybody's by the configuration."""
        return any(
            name in self.shared or self.makers.is_of(self.provider, name, self.customer) for name in held if name
        )


def may_be_kept(dialect: str, body: bytes) -> bool:
    """Whether an answer to this request may come back by its id."""
    if dialect in KEPT_BY_ID:
        return True
    word = _ASKED_TO_KEEP.get(dialect)
    return word is not None and word in body


def answer_id_in(target: str) -> str:
    """The id in the raw target of a stored answer, as it is written; `` where there is none in plain letters."""
    found = _ID.search(target.partition("?")[0])
    return "" if found is None else found[1]


def thing_in(target: str) -> tuple[str, ...] | None:
    """The names of the thing that a raw path stands for: its id, and that behind its collection, as Google writes it.

    () for one that is not in plain letters, and None where the path names a collection, or none.
    """
    found = _COLLECTION.search(target.partition("?")[0])
    if found is None or found[2] is None:
        return None
    return (found[2], f"{found[1]}/{found[2]}") if _PLAIN_ID.fullmatch(found[2]) else ()
