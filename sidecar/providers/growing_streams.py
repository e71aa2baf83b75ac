"""Which streams show what they bill, so that a hold can grow with them, and what ends each of them.

A hold that grows is safe only if nothing is billed that the stream does not show: every token of the answer shows at
least a byte of text. It does not where a model reasons unseen, where tools are offered (their names and frames are
tokens too), in answers of sound or pictures, and in several answers at once, which no one end fits. So Interactions are
not here: whatever model they name may reason unseen, and they have no setting that is documented to end it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sidecar.providers.dialect import BadRequest, RequestFacts
from sidecar.providers.invoked_ends import invoked_end
from sidecar.providers.openai_ends import ChatEnd, CompletionsEnd, ResponsesEnd
from sidecar.providers.other_ends import (
    AnthropicEnd,
    CohereEnd,
    CohereFirstEnd,
    ConverseEnd,
    GeminiEnd,
    OllamaEnd,
)
from sidecar.providers.request_json import Members, read_object, says_something
from sidecar.providers.stream_end import StreamEnd
from sidecar.providers.token_estimates import ESTIMATE_MARGIN

_HIDES: Final = frozenset({
    "audio", "bestof", "echo", "functions", "modalities", "prediction", "responsemodalities", "toolconfig", "tools",
    "websearchoptions",
})  # fmt: skip
"""Fields of requests whose answers may bill what their stream does not show; without underscores, in small letters."""

_WITHIN: Final = "generationconfig"
"""Gemini's object for the fields of the answer."""

_ENDS: Final[Mapping[str, Callable[[RequestFacts], StreamEnd | None]]] = {
    "openai.chat": lambda facts: ChatEnd(tells_usage=not facts.hide_usage),
    "openai.completions": lambda facts: CompletionsEnd(tells_usage=not facts.hide_usage),
    "openai.responses": lambda _: ResponsesEnd(),
    "anthropic.messages": lambda _: AnthropicEnd(),
    "anthropic.vertex": lambda _: AnthropicEnd(),
    "gemini.generate": lambda _: GeminiEnd(),
    "bedrock.converse": lambda _: ConverseEnd(),
    "ollama.chat": lambda _: OllamaEnd(),
    "bedrock.invoke": invoked_end,
    "cohere.chat": lambda _: CohereEnd(),
    "cohere.chat_v1": lambda _: CohereFirstEnd(),
}


def may_grow(protocol: str, facts: RequestFacts) -> bool:
    """Whether a hold for this request can grow with its answer. Asked only where the whole bound does not fit.

    Args:
        protocol: the dialect's name.
        facts: of the request, its body too.
    """
    ceiling = facts.ceiling
    if protocol not in _ENDS or not facts.stream or facts.may_reason or facts.continues or facts.later:
        return False
    if ceiling.choices != 1 or ceiling.audio or ceiling.units or ceiling.unbounded:
        return False
    try:
        members = read_object(facts.body)
        inner = [members[name] for name in members if _plain(name) == _WITHIN]
        if any(_hides(each) for each in (members, *(read_object(one.raw) for one in inner))):
            return False
        return end_for(protocol, facts) is not None
    except BadRequest:
        return False


def end_for(protocol: str, facts: RequestFacts) -> StreamEnd | None:
    """What ends a stream of this protocol; None where nothing does."""
    make = _ENDS.get(protocol)
    return None if make is None else make(facts)


def most_tokens(pieces: int, visible_bytes: int) -> int:
    """Output tokens at most of what a stream has shown: no tokenizer makes more of a text than it has bytes."""
    return max(pieces, visible_bytes) + ESTIMATE_MARGIN


def likely_tokens(pieces: int, visible_bytes: int, per_1000_bytes: int) -> int:
    """Output tokens of the same, hardly ever more, of a kind of stream that has so many in a thousand bytes."""
    return max(pieces, -(-per_1000_bytes * visible_bytes // 1000)) + ESTIMATE_MARGIN


def _hides(members: Members) -> bool:
    return any(_plain(name) in _HIDES and says_something(members[name]) for name in members)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
