"""Amazon Bedrock's Converse and ConverseStream.

The model stands in the path, as a name, an inference profile's or an ARN; the answer does not name it. A stream is
of binary messages, whose last (`metadata`) has the usage; a failure within it is a message of its own.

Source: boto/botocore `data/bedrock-runtime/2023-09-30/service-2.json`, docs.aws.amazon.com "Converse API",
"ConverseStream", "Supported Regions and models for inference profiles"; checked 2026-11.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Line
from sidecar.providers.bedrock_prompt import asked_tier, cache_lifetime, read_prompt, thinking_budget
from sidecar.providers.bedrock_usage import read_converse
from sidecar.providers.binary_stream import BinaryStream
from sidecar.providers.counters import cut_word, decode_object, members_of
from sidecar.providers.dialect import AnswerMeter, BadRequest, RequestFacts
from sidecar.providers.event_stream import EventStream
from sidecar.providers.metering import Meter, Reading, Told
from sidecar.providers.output_limit import splice_within
from sidecar.providers.request_json import (
    MODEL_CHARS_MAX,
    OUTPUT_LIMIT_MAX,
    read_object,
    read_whole,
    says_something,
)
from sidecar.providers.token_estimates import family_of, may_reason_unseen, prompt_bound

_MODEL_IN_PATH: Final = re.compile(r"/model/([^/]+)/[a-z-]+\Z", re.ASCII | re.IGNORECASE)
_MODEL: Final = re.compile(rf"[A-Za-z0-9._:/-]{{1,{MODEL_CHARS_MAX}}}", re.ASCII)
_NAMED_BY_ARN: Final = re.compile(r"arn:aws[a-z-]*:bedrock:[a-z0-9-]*:\d*:(?:foundation-model|inference-profile)/(.+)")
_TEXT: Final = re.compile(rb'"(?:text|input)": ?"([^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+)"')
_USAGE: Final = b"\x07\x00\x08metadata"
_EXCEPTION: Final = b"\x07\x00\x09exception"
_ERROR: Final = b"\x07\x00\x05error"
_THINKS: Final = (b'"thinking"', b'"reasoning_config"', b'"reasoningConfig"', b'"reasoning_effort"')


def model_in(target: str) -> str:
    """The model that a path names: an ARN that only repeats a model's or a profile's name is that name.

    Its query names none, and its letters may come in either case: every spelling that is a door must be read here.

    Raises:
        BadRequest: it names none, or one with characters that no model's name has.
    """
    found = _MODEL_IN_PATH.search(target.partition("?")[0])
    model = unquote(found[1]) if found else ""
    if not _MODEL.fullmatch(model):
        raise BadRequest("The path must name a model, such as /model/amazon.nova-lite-v1:0/converse.", param="modelId")
    named = _NAMED_BY_ARN.fullmatch(model)
    return named[1] if named else model


def is_streamed(target: str) -> bool:
    """Whether the path asks for a stream."""
    return target.partition("?")[0].lower().endswith("-stream")


def hidden_prompt(model: str) -> tuple[str, ...]:
    """Why a call to this model has no bound: what it names is a prompt that is stored at Amazon; () if it is none."""
    return ("a stored prompt: its length is not in the request",) if ":prompt/" in model else ()


class BedrockConverse:
    """The dialect of `/model/{id}/converse` and `/converse-stream`."""

    name = "bedrock.converse"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`; the model is the path's."""
        model = model_in(target)
        members = read_object(body)
        family = family_of(model)
        prompt = read_prompt(members, family, model)
        written = members.get("inferenceConfig")
        config = read_object(written.raw) if written is not None and written.raw != b"null" else {}
        limit = read_whole(config, "maxTokens", least=1, most=OUTPUT_LIMIT_MAX)
        bound = prompt_bound(
            family,
            text_bytes=len(body) - prompt.media_bytes,
            tools=prompt.tools,
            structured=says_something(members.get("outputConfig")),
            media_tokens=prompt.media_tokens,
        )
        ceiling = Ceiling(
            model=model,
            input_tokens=bound,
            output_limit=limit,
            tier=asked_tier(members),
            cache_write=cache_lifetime(body),
            unbounded=(*prompt.unbounded, *hidden_prompt(model)),
        )
        stream = is_streamed(target)
        may_reason = may_reason_unseen(model) or any(word in body for word in _THINKS)
        return RequestFacts(ceiling, stream, body, may_reason=may_reason)

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """See `Dialect`; not below a thinking budget."""
        del own_field
        members = read_object(facts.body)
        if tokens <= thinking_budget(members):
            return None
        body = splice_within(facts.body, members, ("inferenceConfig", "maxTokens"), tokens)
        return facts.limited_to(body, tokens)

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`; framing is told by the bytes, so the head is not looked at."""
        del lines
        return Meter(facts, ConverseReading(), status=status, content_encoding=content_encoding)


class ConverseReading(Reading):
    """What an answer has said so far, message by message or in one."""

    text_pattern = _TEXT

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[str, Any] | None = None
        self._raw = b""
        self._unreadable = False

    def stream_for(self, first: bytes) -> EventStream | None:
        """Binary messages begin with the high byte of a length, which is always 0."""
        return BinaryStream() if first.startswith(b"\0") else None

    def wants(self, events: bytes) -> bool:
        """Whether the closing figures or a failure are in it."""
        return events.rfind(_USAGE) >= 0 or events.rfind(_EXCEPTION) >= 0 or events.rfind(_ERROR) >= 0

    def read_event(self, name: bytes, data: bytes) -> bool:
        """Take in one message; none is ever hidden."""
        if name.startswith(b"!"):
            self.error = True
        elif name == b"metadata":
            members = members_of(data)
            if members is not None:
                self._take(members)
                self.done = self._usage is not None
        return False

    def read_body(self, members: dict[str, msgspec.Raw]) -> None:
        """Take in a whole answer."""
        self.error = self.error or ("message" in members and "output" not in members)
        self._take(members)

    def told(self) -> Told | None:
        """The figures, which come once and are the last."""
        if self._usage is None and not self._unreadable:
            return None
        read = read_converse(self._usage or {})
        return Told(
            lines=(Line(read.tokens),),
            raw=self._raw,
            closing=not self.missed,
            odd=read.odd or self._unreadable,
        )

    def _take(self, members: dict[str, msgspec.Raw]) -> None:
        raw = members.get("usage")
        if raw is None or bytes(raw) in (b"null", b"{}"):
            return
        self._usage = decode_object(raw)
        self._unreadable = self._usage is None
        self._raw = bytes(raw)
        self.missed = False
        for name, key, prefix in (("serviceTier", "type", ""), ("performanceConfig", "latency", "latency-")):
            said = decode_object(members.get(name))
            word = cut_word(said.get(key)) if said else None
            if word and word != "standard":
                self.tier = prefix + word
