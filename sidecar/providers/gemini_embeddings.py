"""Gemini's embeddings: `embedContent`, `batchEmbedContents`, and Vertex's `predict` of its models for them.

A text goes in and none comes out. Gemini tells of the prompt in `usageMetadata`, Vertex of each text by itself.

Source: ai.google.dev/api `embeddings`, googleapis/python-genai `google/genai/types.py` (EmbedContentResponse,
ContentEmbeddingStatistics), cloud.google.com "Text embeddings API"; checked 2026-11.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Line, Tokens
from sidecar.providers.counters import Counts, decode_object
from sidecar.providers.dialect import AnswerMeter, BadRequest, RequestFacts
from sidecar.providers.gemini import check_query, model_in
from sidecar.providers.gemini_prompt import Prompt, by_camel, read_contents
from sidecar.providers.gemini_usage import read_usage
from sidecar.providers.metering import Meter, Reading, Told
from sidecar.providers.request_json import Members, not_known, read_object, read_objects, says_something
from sidecar.providers.token_estimates import family_of, prompt_bound

_KNOWN: Final = frozenset({"autoTruncate", "content", "instances", "labels", "model", "outputDimensionality",
                           "parameters", "requests", "taskType", "title"})  # fmt: skip
_KNOWN_INSTANCE: Final = frozenset({"content", "taskType", "task_type", "title"})

_NO_TEXT: Final = re.compile(rb"(?!)()")
_EACH_TEXT: Final = 8
"""Tokens that a text may have of its own beside its bytes."""


class GeminiEmbed:
    """The dialect of `:embedContent`, `:batchEmbedContents`, and `:predict` of a model with embeddings in its name."""

    name = "gemini.embed"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`; the model is the path's."""
        model = model_in(target)
        check_query(target)
        members: Members = by_camel(read_object(body), "")
        family = family_of(model)
        prompt = Prompt(family)
        texts = _read_texts(prompt, members)
        for name, member in members.items():
            if name not in _KNOWN and says_something(member):
                prompt.unbounded.append(not_known(name))
        bound = prompt_bound(
            family,
            text_bytes=len(body) - prompt.media_bytes + _EACH_TEXT * texts,
            tools=0,
            structured=False,
            media_tokens=prompt.media_tokens,
        )
        return RequestFacts(Ceiling(model, bound, 0, unbounded=tuple(prompt.unbounded)), stream=False, body=body)

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """None: there is no output."""
        del facts, tokens, own_field
        return None

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`."""
        del lines
        return Meter(facts, EmbeddingReading(), status=status, content_encoding=content_encoding)


def _read_texts(prompt: Prompt, members: Members) -> int:
    """Look through what is to be embedded; gives how many texts there are.

    Raises:
        BadRequest: a key stands twice in one of the objects.
    """
    if "content" in members:
        read_contents(prompt, members["content"].raw, "content")
    texts = 1
    try:
        if "requests" in members:
            requests = read_objects(members["requests"].raw, param="requests")
            texts += len(requests)
            for request in requests:
                named = by_camel(request, "requests")
                read_contents(prompt, bytes(named.get("content", b"null")), "requests")
                for name in named.keys() - _KNOWN:
                    prompt.unbounded.append(not_known(name))
        if "instances" in members:
            instances = read_objects(members["instances"].raw, param="instances")
            texts += len(instances)
            for instance in instances:
                for name in instance.keys() - _KNOWN_INSTANCE:
                    prompt.unbounded.append(not_known(name))
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        prompt.unbounded.append("requests of an unknown shape")
    return texts


class EmbeddingReading(Reading):
    """What such an answer says of its input."""

    text_pattern = _NO_TEXT
    usage_key = b'"usageMetadata"'

    def __init__(self) -> None:
        super().__init__()
        self._tokens: Tokens | None = None
        self._raw = b""
        self._odd = False

    def wants(self, events: bytes) -> bool:
        """Such an answer is never streamed."""
        del events
        return False

    def read_event(self, name: bytes, data: bytes) -> bool:
        """Never called: nothing is wanted."""
        del name, data
        return False

    def read_body(self, members: dict[str, msgspec.Raw]) -> None:
        """Take in the answer."""
        self.error = self.error or "error" in members
        usage = decode_object(members.get("usageMetadata"))
        if usage:
            read = read_usage(usage, generated=False)
            self._tokens, self._odd, self.tier = read.tokens, read.odd, read.tier
            self._raw = bytes(members["usageMetadata"])
        elif "predictions" in members:
            self._tokens = _predicted(members["predictions"])

    def told(self) -> Told | None:
        """The figures of the input; None where there were none."""
        if self._tokens is None:
            return None
        return Told((Line(self._tokens),), self._raw, closing=not self.missed, odd=self._odd)


def _predicted(raw: msgspec.Raw) -> Tokens | None:
    """The tokens of all texts that Vertex embedded; None where one of them is not told of."""
    try:
        counts = [_tokens_of(prediction) for prediction in _PREDICTIONS.decode(raw)]
    except (ValueError, RecursionError):
        return None
    known = [count for count in counts if count is not None]
    return Tokens(input_tokens=sum(known)) if known and len(known) == len(counts) else None


class _Embedding(msgspec.Struct, frozen=True):
    statistics: dict[str, Any] = {}


class _Prediction(msgspec.Struct, frozen=True):
    embeddings: _Embedding = msgspec.field(default_factory=_Embedding)


_PREDICTIONS: Final = msgspec.json.Decoder(list[_Prediction])


def _tokens_of(prediction: _Prediction) -> int | None:
    return Counts(prediction.embeddings.statistics).get("token_count")
