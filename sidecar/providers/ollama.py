"""Ollama's own API: chat and generate, one JSON object a line, and its embeddings.

An answer is streamed unless `stream` is false. The last line says `done` and has the counts: `prompt_eval_count`,
left out where it is none (a prompt that was in its cache), and `eval_count`. Models run on one's own machines; those
whose name ends in `:cloud` are billed elsewhere. `num_predict` −1 is endless, −2 fills the context, and 0 is
no limit either: the runner looks at one above 0 alone.

Source: ollama/ollama docs/api.md, api/types.go (GenerateRequest, ChatRequest, Metrics), runner/ollamarunner/runner.go,
recorded traffic; checked 2026-11.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Line, Tokens
from sidecar.providers.counters import Counts, decode_object, decode_text, members_of
from sidecar.providers.dialect import AnswerMeter, BadRequest, RequestFacts
from sidecar.providers.event_stream import EventStream
from sidecar.providers.line_stream import LineStream
from sidecar.providers.metering import Meter, Reading, Told
from sidecar.providers.output_limit import splice_whole
from sidecar.providers.request_json import (
    OUTPUT_LIMIT_MAX,
    REASONS_MAX,
    Members,
    lists_nothing,
    not_known,
    read_model,
    read_object,
    read_objects,
    says_something,
)
from sidecar.providers.token_estimates import OTHER, prompt_bound

_KNOWN: Final = frozenset({
    "dimensions", "format", "input", "keep_alive", "logprobs", "messages", "model", "options", "prompt", "raw",
    "stream", "suffix", "system", "template", "think", "tools", "top_logprobs", "truncate",
})  # fmt: skip
_TEXT: Final = re.compile(rb'"(?:response|content|thinking)": ?"([^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+)"')
_COUNT: Final = re.compile(rb"-?[0-9]{1,10}")
_DONE: Final = re.compile(rb'"done"\s*:\s*true')


class Ollama:
    """The dialect of `/api/chat` and `/api/generate`."""

    name = "ollama.chat"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`."""
        del target
        members = read_object(body)
        model = read_model(members)
        unbounded = [
            not_known(name)
            for name, member in members.items()
            if name not in _KNOWN and says_something(member) and not lists_nothing(member)
        ]
        tools = _length(members, "tools", unbounded)
        pictures, picture_bytes = _pictures(members, unbounded)
        ceiling = Ceiling(
            model=model,
            input_tokens=prompt_bound(
                OTHER,
                text_bytes=len(body) - picture_bytes,
                tools=tools,
                structured=says_something(members.get("format")),
                media_tokens=pictures * OTHER.image,
            ),
            output_limit=_limit(members),
            unbounded=tuple(dict.fromkeys(unbounded))[:REASONS_MAX],
        )
        streamed = "stream" not in members or members["stream"].raw in (b"true", b"null")
        if not streamed and members["stream"].raw != b"false":
            raise BadRequest("`stream` must be true or false.", param="stream")
        return RequestFacts(ceiling, streamed, body, may_reason=False)

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """See `Dialect`: `num_predict` of the options."""
        del own_field
        members = read_object(facts.body)
        options = members.get("options")
        if options is None or not says_something(options):
            inner = b'{"num_predict":%d}' % tokens
        else:
            inner = splice_whole(options.raw, read_object(options.raw, param="options"), "num_predict", tokens)
        if options is None:
            at = facts.body.index(b"{") + 1
            body = facts.body[:at] + b'"options":' + inner + (b"," if members else b"") + facts.body[at:]
        else:
            body = facts.body[: options.start] + inner + facts.body[options.end :]
        return facts.limited_to(body, tokens)

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`; framing is told by the bytes and by whether a stream was asked for."""
        del lines
        return Meter(facts, OllamaReading(lines=facts.stream), status=status, content_encoding=content_encoding)


class OllamaEmbeddings(Ollama):
    """The dialect of `/api/embed` and `/api/embeddings`: there is no output and no stream."""

    name = "ollama.embed"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`."""
        facts = super().read_request(body, target)
        ceiling = msgspec.structs.replace(facts.ceiling, output_limit=0)
        return msgspec.structs.replace(facts, stream=False, ceiling=ceiling)

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """None: there is no output."""
        del facts, tokens, own_field
        return None


class OllamaReading(Reading):
    """What an answer has said so far, line by line or in one."""

    text_pattern = _TEXT

    def __init__(self, *, lines: bool) -> None:
        super().__init__()
        self._lines = lines
        self._last: bytes | msgspec.Raw | None = None

    def stream_for(self, first: bytes) -> EventStream | None:
        """See `Reading`."""
        return LineStream() if self._lines and first.startswith(b"{") else None

    def wants(self, events: bytes) -> bool:
        """Whether the last line or an error is in it."""
        return (events.rfind(b'"done"') >= 0 and _DONE.search(events) is not None) or (
            not self.error and events.rfind(b'"error"') >= 0
        )

    def read_event(self, name: bytes, data: bytes) -> bool:
        """Take in one line; none is ever hidden."""
        del name
        members = members_of(data)
        if members is not None:
            self._read(members, data)
        return False

    def read_whole(self, body: bytes) -> bool:
        """Take in a whole answer."""
        members = members_of(body)
        if members is None:
            return False
        self._read(members, body, whole=True)
        return True

    def read_body(self, members: dict[str, msgspec.Raw]) -> None:
        """Never called: `read_whole` needs the bytes as well."""
        raise NotImplementedError

    def told(self) -> Told | None:
        """The last line's counts. A prompt whose count is left out was in the cache, so nothing of it was worked on."""
        if self._last is None:
            return None
        answer = decode_object(self._last) or {}
        counts = Counts(answer)
        given, made = counts.get("prompt_eval_count"), counts.get("eval_count")
        if given is None and made is None and not counts.odd:
            return None
        raw = msgspec.json.encode({name: answer[name] for name in answer if name.endswith(("_count", "_duration"))})
        return Told((Line(Tokens(given, output_tokens=made), self.model),), raw, closing=not counts.odd, odd=counts.odd)

    def _read(self, members: dict[str, msgspec.Raw], data: bytes, *, whole: bool = False) -> None:
        self.model = decode_text(members.get("model")) or self.model
        error = members.get("error")
        self.error = self.error or (error is not None and bytes(error) != b"null")
        is_last = bytes(members.get("done", b"")) == b"true"
        self.done = self.done or (is_last and not whole)
        if is_last or whole:
            self._last = data


def _limit(members: Members) -> int | None:
    """`options.num_predict`, None where it is not there or means no limit of its own."""
    options = members.get("options")
    if options is None or not says_something(options):
        return None
    inner = read_object(options.raw, param="options").get("num_predict")
    if inner is None or not says_something(inner):
        return None
    value = int(inner.raw) if _COUNT.fullmatch(inner.raw) else None
    if value is None or value > OUTPUT_LIMIT_MAX:
        raise BadRequest("`options.num_predict` must be a whole number.", param="options")
    return value if value > 0 else None


def _length(members: Members, name: str, unbounded: list[str]) -> int:
    member = members.get(name)
    if member is None or not says_something(member):
        return 0
    try:
        return len(read_objects(member.raw, param=name))
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        unbounded.append(f"{name} of an unknown shape")
        return 0


_TEXTS: Final = msgspec.json.Decoder(list[str])


def _pictures(members: Members, unbounded: list[str]) -> tuple[int, int]:
    """How many pictures a request has, and how many of its bytes are theirs."""
    held: list[bytes] = [members["images"].raw] if "images" in members else []
    messages = members.get("messages")
    try:
        if messages is not None and says_something(messages):
            found = read_objects(messages.raw, param="messages", usual=("role", "content"))
            held += [bytes(message["images"]) for message in found if "images" in message]
        listed = [picture for raw in held if raw not in (b"null", b"[]") for picture in _TEXTS.decode(raw)]
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        unbounded.append("messages of an unknown shape")
        return 0, 0
    return len(listed), sum(len(picture) for picture in listed if picture.isascii())
