"""Whose an answer is that its provider keeps, and that comes back by its id.

A provider knows one account: ours, where the sidecar holds the key. To it every customer of ours is the same, so
whoever knew the id of another's stored answer could read, cancel or delete it, or go on from it. So with a key of
ours such an id is good for the customer whose call made the answer, and for nobody else. An id that is not known here
is nobody's, and an answer that is another's looks just like one that is not there.

What is known: the latest answers that went through here, and after a restart those that the outbox still has (a day of
them), but for stored chat completions. Another sidecar's are not known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sidecar.core.pricing.usage import Usage
from sidecar.providers.doors import ANSWERS_KEPT_MAX, KEPT_BY_ID

_ID: Final = re.compile(
    r"/(?:responses|chat/completions|interactions)/([A-Za-z0-9_.~-]+)(?:/(?:input_items|messages|cancel)|:cancel)?\Z",
    re.ASCII,
)
_ASKED_TO_KEEP: Final = {"openai.chat": b'"store"'}
"""Dialects whose answers are kept where the request asks for it, by words without which none can."""


class Makers:
    """Remembers by a provider and an answer's id the customer whose call made it: the latest ANSWERS_KEPT_MAX."""

    def __init__(self, known: Mapping[tuple[str, str], str] | None = None) -> None:
        """Begin with those that are known from before."""
        self._customers: dict[tuple[str, str], str] = dict(known or {})

    def learn(self, provider: str, customer: str, usage: Usage) -> None:
        """Take in who made an answer. Who is known stays: no later answer can take an id over."""
        answer_id = usage.provider_request_id
        if not answer_id or (provider, answer_id) in self._customers:
            return
        self._customers[provider, answer_id] = customer
        if len(self._customers) > ANSWERS_KEPT_MAX:
            del self._customers[next(iter(self._customers))]

    def is_of(self, provider: str, answer_id: str, customer: str) -> bool:
        """Whether this customer's call made it; false for what is not known."""
        return bool(answer_id) and self._customers.get((provider, answer_id)) == customer


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
