"""Embeddings and moderations: a text goes in, no text comes out, and the usage counts the input alone.

OpenAI's embeddings count `prompt_tokens`, Voyage's `total_tokens` alone; OpenAI's moderations are free and say nothing
of usage, Mistral's classifiers are billed and do.

Sources: openai/openai-openapi openapi.json (CreateEmbeddingRequest, CreateModerationRequest), docs.voyageai.com,
docs.mistral.ai; checked 2026-11.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Line, Tokens
from sidecar.providers.counters import Counts, decode_object, decode_text
from sidecar.providers.dialect import AnswerMeter, BadRequest, RequestFacts
from sidecar.providers.image_tokens import image_tokens
from sidecar.providers.metering import Meter, Reading, Told
from sidecar.providers.request_json import (
    REASONS_MAX,
    Members,
    read_inner,
    read_object,
    read_objects,
    says_something,
    shown,
    text_of,
    unknown_fields,
)
from sidecar.providers.request_model import model_asked
from sidecar.providers.token_estimates import EMBEDDING_BASE, Family, embedded_text_frame, family_of

MODERATION_MODEL: Final = "omni-moderation-latest"
"""What OpenAI takes where a request names no model."""

_KNOWN: Final = frozenset({
    "dimensions", "encoding_format", "input", "input_type", "metadata", "model", "output_dimension", "output_dtype",
    "truncation", "user",
})  # fmt: skip
_EACH_TEXT: Final = 8
"""Tokens that a text to be judged may have of its own beside its bytes: marks of its beginning and end."""

_NO_TEXT: Final = re.compile(rb"(?!)()")
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


class OpenAIEmbeddings:
    """The dialect of `…/embeddings`."""

    name = "openai.embeddings"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`."""
        members = read_object(body)
        model = model_asked(members, target)
        return _facts(body, members, model, frame=embedded_text_frame(model), base=EMBEDDING_BASE)

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """None: there is no output."""
        del facts, tokens, own_field
        return None

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`."""
        del lines
        return Meter(facts, InputReading(), status=status, content_encoding=content_encoding)


class OpenAIModerations(OpenAIEmbeddings):
    """The dialect of `…/moderations`, and of Mistral's other classifiers."""

    name = "openai.moderations"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`."""
        members = read_object(body)
        named = says_something(members.get("model"))
        model = model_asked(members, target) if named else MODERATION_MODEL
        return _facts(body, members, model, frame=_EACH_TEXT, base=family_of(model).base)


class InputReading(Reading):
    """What such an answer says of its input."""

    text_pattern = _NO_TEXT

    def __init__(self) -> None:
        super().__init__()
        self._usage: msgspec.Raw | None = None

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
        self.request_id = decode_text(members.get("id")) or ""
        self.model = decode_text(members.get("model"))
        error = members.get("error")
        self.error = self.error or (error is not None and bytes(error) != b"null")
        usage = members.get("usage")
        if usage is not None and bytes(usage) not in (b"null", b"{}"):
            self._usage = usage

    def told(self) -> Told | None:
        """The input's count; of Voyage's the total, which is nothing else."""
        if self._usage is None:
            return None
        counts = Counts(decode_object(self._usage) or {})
        given = counts.first(("prompt_tokens",), ("input_tokens",), ("total_tokens",))
        tokens = Tokens(
            input_tokens=given,
            output_tokens=counts.first(("completion_tokens",), ("output_tokens",)),
            input_text_tokens=counts.first(("prompt_tokens_details", "text_tokens"), ("text_tokens",)),
            input_image_tokens=counts.get("prompt_tokens_details", "image_tokens"),
        )
        odd = counts.odd or given is None
        return Told((Line(tokens, self.model),), bytes(self._usage), closing=not odd, odd=odd)


def _facts(body: bytes, members: Members, model: str, *, frame: int, base: int) -> RequestFacts:
    unbounded = unknown_fields(members, _KNOWN)
    family = family_of(model)
    texts, media_bytes, media_tokens = _parts(members, family, model, unbounded)
    bound = len(body) - media_bytes + media_tokens + base + frame * texts
    ceiling = Ceiling(model, bound, 0, unbounded=tuple(dict.fromkeys(unbounded))[:REASONS_MAX])
    return RequestFacts(ceiling, stream=False, body=body)


def _parts(members: Members, family: Family, model: str, unbounded: list[str]) -> tuple[int, int, int]:
    """How many texts an input has, how many of its bytes are pictures, and what those cost at most."""
    del family
    asked = members.get("input")
    if asked is None or not asked.raw.startswith(b"["):
        return 1, 0, 0
    try:
        listed = _LIST.decode(asked.raw)
        if listed and all(bytes(entry)[:1].isdigit() for entry in listed):
            return 1, 0, 0  # one text, as its tokens: each has a byte at least
        if not any(bytes(entry).startswith(b"{") for entry in listed):
            return len(listed), 0, 0
        media_bytes = media_tokens = 0
        for part in read_objects(asked.raw, param="input", usual=("type", "text"), read_on=("image_url",)):
            kind = text_of(part.get("type"))
            if kind == "image_url":
                url = text_of(read_inner(bytes(part.get("image_url", b"")), param="image_url").get("url"))
                media_tokens += image_tokens(model, url, None)
                if url is not None and url[:11].lower() == "data:image/" and url.isascii():
                    media_bytes += len(url)
            elif kind != "text":
                unbounded.append(f"input part {shown(kind or '(none)')}: its length is not in the request")
        return len(listed), media_bytes, media_tokens
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        unbounded.append("input of an unknown shape")
        return 1, 0, 0
