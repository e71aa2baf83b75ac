"""Gemini's `generateContent` and `streamGenerateContent`, on Google's own API and on Vertex.

The model stands in the path, and whether it streams; the limit within `generationConfig`. An answer is one
object, a stream is server-sent events (`alt=sse`) or one array of the same objects. There is no closing mark:
a stream whose last chunk gives the reason why it finished is over when HTTP says so.

Source: googleapis/python-genai `google/genai/models.py` and `_api_client.py`, ai.google.dev/api
`generate-content`, cloud.google.com/vertex-ai `publishers.models.streamGenerateContent`; checked 2026-11.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Line
from sidecar.providers.counters import decode_object, decode_text, members_of
from sidecar.providers.dialect import AnswerMeter, BadRequest, RequestFacts
from sidecar.providers.event_stream import EventStream
from sidecar.providers.gemini_prompt import (
    SCHEMAS,
    by_camel,
    read_config,
    read_prompt,
    read_words,
    thinking_budget,
)
from sidecar.providers.gemini_usage import merge_usage, read_usage
from sidecar.providers.json_stream import JsonStream
from sidecar.providers.metering import Meter, Reading, Told
from sidecar.providers.output_limit import splice_within
from sidecar.providers.request_json import (
    MODEL_CHARS_MAX,
    OUTPUT_LIMIT_MAX,
    Members,
    read_object,
    read_whole,
    read_word,
    says_something,
    text_of,
)
from sidecar.providers.token_estimates import family_of, may_reason_unseen, prompt_bound

CANDIDATES_MAX: Final = 64
QUERIES_MAX: Final = 1024
"""Searches of one answer that are told apart; more are counted as so many."""

_MODEL_IN_PATH: Final = re.compile(r"/(?:models|tunedModels)/([^/:]+?)(?::|%3A)\w+\Z", re.ASCII | re.IGNORECASE)
_MODEL: Final = re.compile(rf"[A-Za-z0-9._@-]{{1,{MODEL_CHARS_MAX}}}", re.ASCII)
_TEXT: Final = re.compile(rb'"text": ?"([^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+)"')
_ANSWER_FORMS: Final = frozenset({"json", "sse", "json;enum-encoding=int"})
_ALT: Final = frozenset({"alt", "$alt"})
_MASKS: Final = frozenset({"fields", "$fields"})
_PREFIX: Final = "SERVICE_TIER_"
_NO_TIER: Final = frozenset({"", "unspecified"})


def model_in(target: str) -> str:
    """The model that a path names.

    Raises:
        BadRequest: it names none, or one with characters that no model's name has.
    """
    found = _MODEL_IN_PATH.search(target.partition("?")[0])
    model = unquote(found[1]) if found else ""
    if not _MODEL.fullmatch(model):
        raise BadRequest("The path must name a model, such as models/gemini-2.5-flash.", param="model")
    return model


def check_query(target: str) -> None:
    """Refuse a query that asks for an answer in which the usage could not be read.

    Raises:
        BadRequest: a form other than JSON or events, or only some fields of it.
    """
    for name, value in parse_qsl(target.partition("?")[2], keep_blank_values=True):
        if name in _ALT and value not in _ANSWER_FORMS:
            raise BadRequest("`alt` must be json or sse: the usage of another form cannot be read.", param="alt")
        if name in _MASKS:
            raise BadRequest("`fields` cannot be taken: it may leave the usage out of the answer.", param="fields")


def check_model(members: Members, model: str) -> None:
    """Refuse a body that names another model than its path.

    Raises:
        BadRequest: it does.
    """
    if "model" in members and (text_of(members["model"].raw) or "").rpartition("/")[2] != model:
        raise BadRequest("`model` is not the model of the path.", param="model")


class GeminiGenerate:
    """The dialect of `models/{model}:generateContent` and `:streamGenerateContent`."""

    name = "gemini.generate"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`; the model is the path's."""
        model = model_in(target)
        check_query(target)
        members = by_camel(read_object(body), "")
        check_model(members, model)
        family = family_of(model)
        prompt = read_prompt(members, family, model)
        config = read_config(members, prompt)
        limit = read_whole(config, "maxOutputTokens", least=1, most=OUTPUT_LIMIT_MAX)
        choices = read_whole(config, "candidateCount", least=1, most=CANDIDATES_MAX) or 1
        tier = (read_word(members, "serviceTier") or "").removeprefix(_PREFIX).lower()
        wanted = read_words(config.get("responseModalities"))
        bound = prompt_bound(
            family,
            text_bytes=len(body) - prompt.media_bytes,
            tools=prompt.tools,
            structured=any(says_something(config.get(name)) for name in SCHEMAS),
            media_tokens=prompt.media_tokens,
        )
        ceiling = Ceiling(
            model=model,
            input_tokens=bound,
            # What a picture costs does not end at the limit for text.
            output_limit=None if _draws(model, wanted) else limit,
            choices=choices,
            tier=None if tier in _NO_TIER else tier,
            audio="AUDIO" in wanted,
            unbounded=tuple(prompt.unbounded),
        )
        stream = target.partition("?")[0].lower().endswith("streamgeneratecontent")
        may_reason = may_reason_unseen(model) and thinking_budget(config) != 0
        return RequestFacts(ceiling, stream, body, may_reason=may_reason)

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """See `Dialect`; a request for pictures is not shortened, nor one whose thinking would not fit."""
        del own_field
        members = read_object(facts.body)
        named = by_camel(members, "")
        written = named.get("generationConfig")
        inner = read_object(written.raw) if written is not None and written.raw != b"null" else {}
        config = by_camel(inner, "generationConfig")
        if _draws(facts.model, read_words(config.get("responseModalities"))):
            return None
        if tokens <= (thinking_budget(config) or 0):
            return None
        outer = next((name for name in members if named.get("generationConfig") is members[name]), "generationConfig")
        field = next((name for name in inner if config.get("maxOutputTokens") is inner[name]), "maxOutputTokens")
        body = splice_within(facts.body, members, (outer, field), tokens)
        return facts.limited_to(body, tokens)

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`; framing is told by the bytes, so the head is not looked at."""
        del lines
        return Meter(facts, GeminiReading(facts.ceiling.choices), status=status, content_encoding=content_encoding)


def _draws(model: str, wanted: frozenset[str]) -> bool:
    """Whether the answer may have pictures: asked for, or what the model does unless told not to."""
    return "IMAGE" in wanted or ("image" in model.lower() and not wanted)


class GeminiReading(Reading):
    """What an answer has said so far, chunk by chunk or in one; a stream is over once all `candidates` are."""

    text_pattern = _TEXT
    usage_key = b'"usageMetadata"'

    def __init__(self, candidates: int = 1) -> None:
        super().__init__()
        self._usage: dict[str, Any] | None = None
        self._raw: list[bytes] = []
        self._candidates = candidates
        self._ended: set[int] = set()  # candidates, by their index
        self._finished = False
        self._unreadable = False
        self._stale = False  # text came after the last figures
        self._queries: set[str] = set()

    def stream_for(self, first: bytes) -> EventStream | None:
        """An array is read object by object."""
        return JsonStream() if first.startswith(b"[") else None

    def wants(self, events: bytes) -> bool:
        """Whether there are figures, which nearly every chunk has, a failure is told of, or more follows figures."""
        return (
            events.rfind(b'"usageMetadata"') >= 0
            or events.rfind(b'"error"') >= 0
            or (self._usage is not None and events.rfind(b'"candidates"') >= 0)
        )

    def read_event(self, name: bytes, data: bytes) -> bool:
        """Take in one chunk; none is ever hidden."""
        del name
        members = members_of(data)
        if members is not None:
            self.read_body(members)
        return False

    def read_whole(self, body: bytes) -> bool:
        """Take in an answer that is one object: it is over where it ends."""
        read = super().read_whole(body)
        self._finished = self._finished or read
        return read

    def read_body(self, members: dict[str, msgspec.Raw]) -> None:
        """Take in the members of a chunk, or of a whole answer."""
        self.error = self.error or "error" in members
        self.request_id = decode_text(members.get("responseId")) or self.request_id
        self.model = decode_text(members.get("modelVersion")) or self.model
        candidates = bytes(members.get("candidates", b""))
        if candidates.rfind(b'"finishReason"') >= 0:
            self._read_ends(candidates)
        if b'"blockReason"' in bytes(members.get("promptFeedback", b"")):
            self._finished = True
        if candidates.rfind(b'"webSearchQueries"') >= 0:
            self._read_searches(candidates)
        if not self._take_usage(members.get("usageMetadata")):
            self._stale = self._stale or any(self.text_pattern.findall(candidates))

    def told(self) -> Told | None:
        """The figures so far, merged over the chunks."""
        if not self._usage and not self._unreadable:
            return None
        read = read_usage(self._usage or {})
        if read.tokens.input_tokens is None and read.tokens.output_tokens is None and not self._unreadable:
            return None  # only a tier: nothing was counted, so nothing is known
        return Told(
            lines=(Line(read.tokens, self.model),),
            raw=b"\n".join(self._raw),
            closing=self._finished and not self._stale and not self.missed,
            odd=read.odd or self._unreadable,
            units={"google_search_queries": len(self._queries)} if self._queries else {},
            notes=read.notes,
        )

    def _take_usage(self, raw: msgspec.Raw | None) -> bool:
        """Merge a usage object; false if there is none."""
        if raw is None or bytes(raw) in (b"null", b"{}"):
            return False
        usage = decode_object(raw)
        if usage is None:
            self._unreadable = True
            return True
        self.missed = self._stale = False
        self._usage, notes = merge_usage(self._usage or {}, usage)
        self.notes |= dict.fromkeys(notes)
        self._raw = [*self._raw[:1], bytes(raw)]  # the first and the last
        self.tier = read_usage(self._usage).tier or self.tier
        return True

    def _read_ends(self, candidates: bytes) -> None:
        """Which candidates are over: the figures behind the first of several are not the last of the others."""
        if self._candidates == 1:
            self._finished = True
            return
        try:
            listed = _ENDED.decode(candidates)
        except (ValueError, RecursionError):
            return
        self._ended |= {candidate.index for candidate in listed if candidate.reason}
        self._finished = len(self._ended) >= self._candidates

    def _read_searches(self, candidates: bytes) -> None:
        """The searches that grounded the answer: each chunk tells them anew, each is billed once."""
        try:
            listed = _CANDIDATES.decode(candidates)
        except (ValueError, RecursionError):
            return
        for candidate in listed:
            for query in candidate.grounding.queries:
                if len(self._queries) < QUERIES_MAX:
                    self._queries.add(query)


class _Grounding(msgspec.Struct, frozen=True):
    queries: list[str] = msgspec.field(name="webSearchQueries", default_factory=list)


class _Candidate(msgspec.Struct, frozen=True):
    grounding: _Grounding = msgspec.field(name="groundingMetadata", default_factory=_Grounding)


class _Ended(msgspec.Struct, frozen=True):
    index: int = 0
    reason: str = msgspec.field(name="finishReason", default="")


_ENDED: Final = msgspec.json.Decoder(list[_Ended])
_CANDIDATES: Final = msgspec.json.Decoder(list[_Candidate])
