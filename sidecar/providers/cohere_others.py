"""Cohere's further calls: `generate`, which writes from a bare prompt, and `rerank`, which puts documents in an order.

A rerank is billed by search units: one for a query with up to 100 documents, where one of more than 510 tokens counts
as so many as it is cut into. Its tokens are not billed. Bedrock bills its own by the same unit, and tells none in its
answer.

Source: docs.cohere.com/reference/generate, /reference/rerank, /v2/docs/reranking-best-practices, cohere.com/pricing,
docs.aws.amazon.com/bedrock/latest/userguide/rerank-pricing; checked 2026-11.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Line, Tokens
from sidecar.providers.cohere import CohereReading
from sidecar.providers.dialect import AnswerMeter, RequestFacts
from sidecar.providers.metering import Meter, Told
from sidecar.providers.output_limit import splice_whole
from sidecar.providers.request_json import (
    OUTPUT_LIMIT_MAX,
    REASONS_MAX,
    Members,
    read_flag,
    read_model,
    read_object,
    read_whole,
    unknown_fields,
)
from sidecar.providers.token_estimates import family_of, may_reason_unseen, prompt_bound

GENERATIONS_MAX: Final = 5
"""`num_generations` at most, by the API's reference."""

DOCUMENTS_A_UNIT: Final = 100
CHUNK_TOKENS: Final = 250
"""A document is cut where it has more than 510 tokens with its query, and of those a query has half at most."""

SEARCH_UNITS: Final = "search_units"

_FREE_GENERATE: Final = frozenset({
    "end_sequences", "frequency_penalty", "k", "logit_bias", "max_tokens", "model", "num_generations", "p",
    "presence_penalty", "prompt", "raw_prompting", "return_likelihoods", "seed", "stop_sequences", "stream",
    "temperature", "truncate",
})  # fmt: skip
RERANK_FIELDS: Final = frozenset({
    "api_version", "documents", "max_chunks_per_doc", "max_tokens_per_doc", "model", "priority", "query", "rank_fields",
    "return_documents", "top_n",
})  # fmt: skip
_LISTED: Final = msgspec.json.Decoder(list[msgspec.Raw])


class CohereGenerate:
    """The dialect of `/v1/generate`."""

    name = "cohere.generate"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`; a `preset` is a prompt that is held at the provider."""
        del target
        members = read_object(body)
        model = read_model(members)
        ceiling = Ceiling(
            model=model,
            input_tokens=prompt_bound(
                family_of(model), text_bytes=len(body), tools=0, structured=False, media_tokens=0
            ),
            output_limit=read_whole(members, "max_tokens", least=0, most=OUTPUT_LIMIT_MAX) or None,
            choices=generations_asked(members),
            unbounded=_unknown(members, _FREE_GENERATE),
        )
        return RequestFacts(ceiling, read_flag(members, "stream"), body, may_reason=may_reason_unseen(model))

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """See `Dialect`."""
        del own_field
        body = splice_whole(facts.body, read_object(facts.body), "max_tokens", tokens)
        return facts.limited_to(body, tokens)

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`; a stream begins as a single answer does, so the request tells."""
        del lines
        return Meter(facts, CohereReading(lines=facts.stream), status=status, content_encoding=content_encoding)


class CohereRerank:
    """The dialect of `/v2/rerank`."""

    name = "cohere.rerank"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`."""
        del target
        members = read_object(body)
        units, reasons = search_units(members)
        unbounded = (*_unknown(members, RERANK_FIELDS), *reasons)
        ceiling = Ceiling(read_model(members), 0, 0, unbounded=unbounded, units=((SEARCH_UNITS, units),))
        return RequestFacts(ceiling, stream=False, body=body)

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """Never: there is no output to shorten."""
        del facts, tokens, own_field
        return None

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`."""
        del lines
        return Meter(facts, RerankReading(), status=status, content_encoding=content_encoding)


class RerankReading(CohereReading):
    """What the answer to a rerank says: its search units."""

    def told(self) -> Told | None:
        """Units alone: where they are told, nothing else is billed."""
        told = super().told()
        if told is None:
            return None
        odd = not told.units.get(SEARCH_UNITS)
        units = {SEARCH_UNITS: told.units.get(SEARCH_UNITS, 0)} if not odd else {}
        return Told((Line(Tokens(0, output_tokens=0)),), told.raw, closing=not odd, odd=odd, units=units)


def generations_asked(members: Members) -> int:
    """How many answers a request asks for.

    Raises:
        BadRequest: no whole number, or more than there are.
    """
    return read_whole(members, "num_generations", least=1, most=GENERATIONS_MAX) or 1


def search_units(members: Members) -> tuple[int, tuple[str, ...]]:
    """The most search units that a rerank is billed, and why it has no bound, if it has none.

    Each document is taken at its bytes, as a text never has more tokens than bytes.
    """
    asked = members.get("documents")
    try:
        documents = [] if asked is None or asked.raw == b"null" else _LISTED.decode(asked.raw)
    except (ValueError, RecursionError):
        return 1, ("documents of an unknown shape",)
    chunks = sum(max(1, -(-len(bytes(document)) // CHUNK_TOKENS)) for document in documents)
    return max(1, -(-chunks // DOCUMENTS_A_UNIT)), ()


def _unknown(members: Members, known: frozenset[str]) -> tuple[str, ...]:
    return tuple(unknown_fields(members, known)[:REASONS_MAX])
