"""Pictures made of a prompt: `…/images/generations`, whole and streamed.

GPT image models bill tokens, of the prompt and of the picture, and say so. The older ones and most other providers
bill each picture by its quality and size, and say nothing: then the pictures of the answer are counted, under a unit
that is named by what was asked for (`image_hd_1024x1792`), and the rate card has a price for it.

Sources: openai/openai-openapi openapi.json (CreateImageRequest, ImagesResponse, ImageGenStreamEvent),
developers.openai.com/api/docs/guides/image-generation (tokens of a picture by size and quality); checked 2026-11.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Line
from sidecar.providers.counters import decode_object, decode_text, members_of
from sidecar.providers.dialect import AnswerMeter, RequestFacts
from sidecar.providers.event_stream import EventStream
from sidecar.providers.metering import Meter, Reading, Told
from sidecar.providers.openai_usage import read_usage
from sidecar.providers.request_json import (
    REASONS_MAX,
    read_flag,
    read_object,
    read_whole,
    read_word,
    unknown_fields,
)
from sidecar.providers.request_model import model_asked
from sidecar.providers.token_estimates import OPENAI, prompt_bound

PICTURES_MAX: Final = 128
"""Pictures of one request at most; OpenAI takes ten."""

PICTURE_TOKENS: Final = 6_240
"""The most that a picture has at the first GPT image models: high quality, 1024 by 1536."""

PARTIAL_TOKENS: Final = 100
"""What each partial picture of a stream adds."""

LONG_EVENT_BYTES_MAX: Final = 16 * 2**20
"""Of one event: it holds a picture."""

_KNOWN: Final = frozenset({
    "background", "model", "moderation", "n", "output_compression", "output_format", "partial_images", "prompt",
    "quality", "response_format", "size", "stream", "style", "user",
})  # fmt: skip
_FIRST_MODELS: Final = re.compile(r"gpt-image-1(?:\.5|-mini)?(?:-\d{4}-\d{2}-\d{2})?", re.ASCII)
_BY_TOKENS: Final = ("gpt-image", "chatgpt-image")
_UNIT: Final = re.compile(r"[^a-z0-9]+")
_NO_TEXT: Final = re.compile(rb"(?!)()")
_USAGE_SAID: Final = re.compile(rb'"usage"\s*:\s*\{')
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


class OpenAIImages:
    """The dialect of `…/images/generations`."""

    name = "openai.images"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`."""
        members = read_object(body)
        model = model_asked(members, target)
        pictures = read_whole(members, "n", least=1, most=PICTURES_MAX) or 1
        partial = read_whole(members, "partial_images", least=0, most=PICTURES_MAX) or 0
        unbounded = unknown_fields(members, _KNOWN)
        by_tokens = model.rpartition("/")[2].startswith(_BY_TOKENS)
        bound = prompt_bound(OPENAI, text_bytes=len(body), tools=0, structured=False, media_tokens=0)
        known = _FIRST_MODELS.fullmatch(model.rpartition("/")[2]) is not None
        ceiling = Ceiling(
            model,
            input_tokens=bound if by_tokens else 0,
            output_limit=(PICTURE_TOKENS + PARTIAL_TOKENS * partial if known else None) if by_tokens else 0,
            choices=pictures,
            unbounded=tuple(unbounded)[:REASONS_MAX],
            units=() if by_tokens else ((_unit(read_word(members, "quality"), read_word(members, "size")), pictures),),
        )
        return RequestFacts(ceiling, read_flag(members, "stream"), body)

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """None: a picture is whole or not at all."""
        del facts, tokens, own_field
        return None

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`; framing is told by the bytes, so the head is not looked at."""
        del lines
        unit = facts.ceiling.units[0][0] if facts.ceiling.units else ""
        return Meter(facts, ImagesReading(unit), status=status, content_encoding=content_encoding)


class ImagesReading(Reading):
    """What an answer with pictures has said so far. `unit` names what one is billed as, `` where tokens are."""

    text_pattern = _NO_TEXT

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit
        self._usage: msgspec.Raw | None = None
        self._pictures = 0
        self._ended = False

    def stream_for(self, first: bytes) -> EventStream | None:
        """See `Reading`: events are long here."""
        return None if first[:1] in b"{[<" else EventStream(LONG_EVENT_BYTES_MAX)

    def wants(self, events: bytes) -> bool:
        """Whether usage, the end or an error is in it."""
        return (
            (events.rfind(b'"usage"') >= 0 and _USAGE_SAID.search(events) is not None)
            or events.rfind(b".completed") >= 0
            or (not self.error and events.rfind(b'"error"') >= 0)
        )

    def read_event(self, name: bytes, data: bytes) -> bool:
        """Take in one event; none is ever hidden."""
        members = members_of(data)
        if members is None:
            return False
        kind = decode_text(members.get("type")) or name.decode("latin-1")
        self._read(members)
        self.error = self.error or kind == "error"
        if kind.endswith(".completed"):
            self._pictures += 1
            self._ended = self.done = True
            self.missed = False
        return False

    def read_body(self, members: dict[str, msgspec.Raw]) -> None:
        """Take in a whole answer, or the end of one that is too long to be kept."""
        self._read(members)
        try:
            self._pictures = len(_LIST.decode(members.get("data", b"[]")))
        except (ValueError, RecursionError):
            self._pictures = 0
        self._ended = True

    def told(self) -> Told | None:
        """The tokens, or the pictures where tokens are not what is billed."""
        if self._usage is None:
            if not self._unit or not self._pictures or not self._ended:
                return None
            return Told((), b"", closing=not self.missed, units={self._unit: self._pictures})
        usage = decode_object(self._usage)
        read = read_usage(usage) if usage is not None else None
        if read is None:
            return None if usage == {} else Told((), bytes(self._usage), closing=False, odd=True)
        tokens = read.tokens
        if tokens.output_image_tokens is None and tokens.output_text_tokens is None:
            tokens = msgspec.structs.replace(tokens, output_image_tokens=tokens.output_tokens)  # what else was made
        return Told(
            (Line(tokens, self.model),),
            bytes(self._usage),
            closing=self._ended and not self.missed,
            odd=read.odd,
            notes=read.notes,
        )

    def _read(self, members: dict[str, msgspec.Raw]) -> None:
        self.request_id = decode_text(members.get("id")) or self.request_id
        self.model = decode_text(members.get("model")) or self.model
        error = members.get("error")
        self.error = self.error or (error is not None and bytes(error) != b"null")
        usage = members.get("usage")
        if usage is not None and bytes(usage) != b"null":
            self._usage = usage


def _unit(quality: str | None, size: str | None) -> str:
    """The unit of a picture of this quality and size, such as `image_standard_1024x1024`."""
    written = f"image_{quality or 'standard'}_{size or '1024x1024'}".lower()
    return _UNIT.sub("_", written)[:64].rstrip("_")
