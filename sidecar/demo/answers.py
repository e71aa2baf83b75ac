"""What the demo provider says: words without meaning, the same for the same request.

A word stands for a token, so that what is billed can be counted by looking. An answer is
ANSWER_TOKENS long, or as long as the request allows, whichever is shorter.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

ANSWER_TOKENS: Final = 120
CACHE_FROM_TOKENS: Final = 1024
"""A prompt shorter than this is never read from a cache, at either provider."""

CACHE_STEP_TOKENS: Final = 128
_BYTES_PER_TOKEN: Final = 4
_PER_MESSAGE: Final = 4

_OPENING: Final = "This is the demo provider of Spend Sidecar: no model was asked, and nothing was billed."
_PROSE: Final = (
    "a ledger budget sheep counts quietly under the amber hill while seven grants burn in order and nobody "
    "spends twice what once was lent so the small lease rests beside its river of integers until morning"
)
_WORDS: Final = tuple(_PROSE.split())


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `cut` says that the request's limit ended it; `name` goes into its ids."""

    words: tuple[str, ...]
    input_tokens: int
    cached_tokens: int
    cut: bool
    name: str

    @property
    def output_tokens(self) -> int:
        """A word is a token."""
        return len(self.words)

    @property
    def text(self) -> str:
        """The whole of it."""
        return " ".join(self.words)


def answer(body: Mapping[str, Any], raw: bytes, name: str = "") -> Answer:
    """Make up the answer to a request.

    Args:
        body: the request, decoded; its messages (or input) and output limit are read.
        raw: the request's bytes, from which the words follow.
        name: of this answer, different for each: the words repeat, ids must not.
    """
    wanted = ANSWER_TOKENS
    limits = (body.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
    limit = min((limit for limit in limits if type(limit) is int and limit > 0), default=wanted)
    chance = random.Random(hashlib.sha256(raw).digest())
    opening = _OPENING.split()
    words = opening + [chance.choice(_WORDS) for _ in range(wanted - len(opening))]
    messages = body.get("messages", body.get("input"))
    texts = [text for said in (messages, body.get("system"), body.get("instructions")) for text in _texts(said)]
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    count = len(messages) if isinstance(messages, list) else 1
    tokens = _PER_MESSAGE * count + -(-size // _BYTES_PER_TOKEN)
    cached = tokens // CACHE_STEP_TOKENS * CACHE_STEP_TOKENS if tokens >= CACHE_FROM_TOKENS else 0
    return Answer(tuple(words[:limit]), tokens, cached, cut=limit < wanted, name=name)


def _texts(value: object) -> list[str]:
    """Every text below a value: contents may be texts, lists of parts, or parts of parts."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict):
            waiting.extend(part.get(name) for name in ("content", "text"))
    return found
