"""One answer on its way through: what framing it has, what is read of it, what its usage is.

A meter is shown every piece and gives it back, at once and unchanged; what it reads, it reads from
a copy. Framing is told by the first bytes and not by the header: providers send a JSON error as
`text/event-stream`, streams as JSON, and gzip without saying so. Deltas are never parsed: a piece
without the words that a dialect waits for costs a few searches in C.

Memory for one answer is bounded: one unfinished event (EVENT_BYTES_MAX), or a JSON body up to
JSON_BYTES_MAX, of which only the end is kept when it grows longer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState
from sidecar.providers.content_decoding import GZIP_MAGIC, Inflater, coding_of
from sidecar.providers.counters import RAW_BYTES_MAX, members_of
from sidecar.providers.dialect import Ending, RequestFacts
from sidecar.providers.event_stream import EventStream, Veil
from sidecar.providers.token_estimates import output_estimate

JSON_BYTES_MAX: Final = 4 * 2**20
"""A JSON answer is read whole up to here; of a longer one only the end, where the usage stands."""

JSON_TAIL_BYTES: Final = 64 * 1024

METER_DEGRADED: Final = "meter_degraded"
"""Something could not be read: an unknown coding, an event too long, bytes that are no JSON."""

SPLIT_BYTES_MAX: Final = 512
"""Of a run of events in which something matters, so much is taken apart event by event."""

HIDDEN_REASONING: Final = "hidden_reasoning"
"""The output was counted from what could be seen, and more may be billed: up to the whole limit."""

OUTPUT_UNSEEN: Final = "output_unseen"
"""An answer that is not streamed broke off: what was generated cannot be told, up to the whole limit."""

OUTPUT_COUNTED: Final = "output_counted"
"""The output was counted by us; the input is the provider's figure."""

USAGE_OUT_OF_RANGE: Final = "usage_out_of_range"
"""The provider sent something that is no count; the side it stood on is estimated."""

PROVIDER_ERROR: Final = "provider_error"
"""The provider said that it failed, in the answer or by its status."""

REFUSED_AFTER_WORK: Final = "refused_after_work"
"""The provider refused by its status, but its error shows that the model ran, or that the call is billed."""

UNSENT: Final = "unsent"

KEPT_MAX: Final = 256
"""Ids by which parts of one answer come back that are told."""

_BEFORE_A_BODY: Final = b" \t\r\n\xef\xbb\xbf"
"""Blank lines (DeepSeek keeps a JSON answer alive with them) and the bytes of a byte order mark."""


class Told(NamedTuple):
    """What a provider said of its usage so far.

    `closing`: these are its last figures. `odd`: a count of the prompt or the answer was none.
    """

    lines: tuple[Line, ...]
    raw: bytes
    closing: bool
    odd: bool = False
    units: Mapping[str, int] = MappingProxyType({})
    cost: str | None = None
    notes: tuple[str, ...] = ()


class Reading:
    """What one answer has said so far. A dialect fills it in; see the methods it must give.

    `texts` and `visible_bytes` count what the answer showed, for an estimate should the figures
    never come. `done` is the protocol's own closing mark. `missed`: an event that could not be read
    came after the last figures, so those may not be the last.
    """

    text_pattern: re.Pattern[bytes]
    """Finds the visible text of every delta; its one group is the text."""

    usage_key: bytes = b'"usage"'
    """The member of a JSON answer that has its usage, and near its end: where a very long one is read from."""

    def __init__(self) -> None:
        self.done = False
        self.missed = False
        self.error = False
        self.texts = 0
        self.visible_bytes = 0
        self.request_id: str | None = None
        self.model: str | None = None
        self.tier: str | None = None
        self.geo: str | None = None
        self.notes: dict[str, None] = {}

    def stream_for(self, first: bytes) -> EventStream | None:
        """What cuts this answer into events, by its first bytes; None: server-sent events, or one JSON object."""
        del first
        return None

    def wants(self, events: bytes) -> bool:
        """Whether anything in these events must be parsed. Runs on every piece: keep it cheap."""
        raise NotImplementedError

    def read_event(self, name: bytes, data: bytes) -> bool:
        """Take in one event; true if it is to be hidden from a caller who did not ask for usage."""
        raise NotImplementedError

    def read_whole(self, body: bytes) -> bool:
        """Take in a JSON answer (of a very long one, perhaps only its last members); false if it is no object."""
        members = members_of(body)
        if members is None:
            return False
        self.read_body(members)
        return True

    def read_body(self, members: dict[str, msgspec.Raw]) -> None:
        """Take in a JSON answer's top-level members."""
        raise NotImplementedError

    def told(self) -> Told | None:
        """The provider's figures, None if there were none. Only its protocol tells whether they are the last."""
        raise NotImplementedError

    def kept(self) -> Iterable[str]:
        """Ids by which parts of this answer come back, beside its own (`request_id`)."""
        return ()


class Meter:
    """An `AnswerMeter` over a dialect's `Reading`."""

    def __init__(self, facts: RequestFacts, reading: Reading, *, status: int, content_encoding: str) -> None:
        self._facts = facts
        self._reading = reading
        self._status = status
        coding = coding_of(content_encoding) if content_encoding else ""
        self._hides = facts.hide_usage and not coding
        self._unreadable = coding == "unknown"
        self._inflater = Inflater(coding) if coding and not self._unreadable else None
        self._opened = False  # the first byte is here
        self._json: bytearray | None = None
        self._json_cut = False
        self._json_read = -1  # bytes of it when it was last read
        self._stream: EventStream | None = None
        self._degraded = False  # an event was too long to be read
        self._veil: Veil | None = None

    @property
    def counted(self) -> tuple[int, int] | None:
        """Texts that a stream showed so far, and their bytes; None where part of it could not be read."""
        if self._unreadable or self._degraded:
            return None
        return self._reading.texts, self._reading.visible_bytes

    @property
    def kept(self) -> tuple[str, ...]:
        """Ids by which parts of this answer come back from the provider, KEPT_MAX at most; asked once it has ended."""
        return tuple(islice(self._reading.kept(), KEPT_MAX))

    # -- AnswerMeter

    def feed(self, piece: bytes) -> bytes:
        """See `AnswerMeter`."""
        try:
            if self._stream is not None and self._inflater is None:
                return self._feed_events(self._stream, piece)
            return self._feed_other(piece)
        except Exception:
            # A mistake of ours may cost the reading, never the answer.
            return self._give_up(piece)

    def flush(self) -> bytes:
        """See `AnswerMeter`."""
        try:
            self._read_last_event()
        except Exception:
            return self._give_up(b"")
        return self._veil.rest() if self._veil is not None else b""

    def finished(self) -> bool:
        """See `AnswerMeter`; a JSON answer has no mark of its own, HTTP says where it ends."""
        return self._reading.done

    def usage(self, ending: Ending) -> Usage:
        """See `AnswerMeter`."""
        if ending is Ending.UNSENT:
            return Usage(UsageState.ERROR, notes=(UNSENT,))
        told = None
        try:
            if not self._reading.done:
                self._read_last_event()
            self._read_whole_json(complete=ending is Ending.COMPLETE)
            told = self._reading.told()
        except Exception:
            self._give_up(b"")
        return self._state(told, ending)

    # -- the bytes

    def _feed_events(self, stream: EventStream, piece: bytes) -> bytes:
        events = stream.feed(piece)
        if events:
            reading = self._reading
            texts = stream.find(reading.text_pattern, events)
            if texts:
                reading.texts += len(texts)
                reading.visible_bytes += len(texts[0]) if len(texts) == 1 else len(b"".join(texts))
            if reading.wants(events):
                self._read_events(stream, events, stream.offset - len(events))
        if stream.skipped and stream.is_skipping:  # it began behind all events that were read
            self._reading.missed = self._degraded = True
        return piece if self._veil is None else self._veil.pass_on(piece, stream.offset)

    def _read_events(self, stream: EventStream, events: bytes, offset: int) -> None:
        """Take in the events that matter; a long run is halved first, so that what says nothing costs a search only."""
        reading = self._reading
        middle = stream.halve(events) if len(events) > SPLIT_BYTES_MAX else 0
        if middle:
            for start, half in ((0, events[:middle]), (middle, events[middle:])):
                if reading.wants(half):
                    self._read_events(stream, half, offset + start)
            return
        for start, event in stream.split(events):
            if reading.wants(event) and reading.read_event(*stream.read(event)) and self._veil is not None:
                self._veil.hide(offset + start, offset + start + len(event))

    def _feed_other(self, piece: bytes) -> bytes:
        """Pieces before the framing is known, of a compressed answer, or of a JSON one."""
        if piece and not self._opened:
            self._opened = True
            if self._inflater is None and not self._unreadable and piece.startswith(GZIP_MAGIC[:1]):
                self._inflater = Inflater("gzip")  # a header that does not say it
                self._hides = False
            elif self._inflater is not None and self._inflater.is_mislabelled(piece):
                self._inflater = None  # a header that says it over plain bytes
        if self._unreadable:
            return piece
        if self._inflater is None:
            return self._feed_plain(piece)
        for plain in self._inflater.feed(piece):
            self._feed_plain(plain)
        self._unreadable = self._inflater.broken
        return piece

    def _feed_plain(self, piece: bytes) -> bytes:
        if self._stream is not None:
            return self._feed_events(self._stream, piece)
        if self._json is None:
            body = piece.lstrip(_BEFORE_A_BODY)
            return self._begin(piece, body) if body else piece
        self._keep_json(self._json, piece)
        return piece

    def _begin(self, piece: bytes, body: bytes) -> bytes:
        """Tell the framing from `body`, which is `piece` from its first byte that is not blank."""
        self._stream = self._reading.stream_for(body)
        if self._stream is None and body[:1] in b"{[":
            self._json = bytearray()
            self._keep_json(self._json, body)
            return piece
        if self._stream is None and not (body[:1].isalpha() or body[:1] == b":"):
            self._unreadable = True  # HTML, or nothing we know
            return piece
        self._stream = self._stream or EventStream()
        if self._hides:
            self._veil = Veil()
        return piece[: len(piece) - len(body)] + self._feed_events(self._stream, body)

    def _keep_json(self, kept: bytearray, piece: bytes) -> None:
        kept += piece
        if len(kept) > (2 * JSON_TAIL_BYTES if self._json_cut else JSON_BYTES_MAX):
            self._json_cut = True
            del kept[:-JSON_TAIL_BYTES]

    def _read_last_event(self) -> None:
        """An event at the very end may lack its empty line."""
        if self._stream is None or not (event := self._stream.rest()):
            return
        end = self._stream.offset + len(event)
        self._stream.end()
        texts = self._reading.text_pattern.findall(event)
        self._reading.texts += len(texts)
        self._reading.visible_bytes += len(b"".join(texts))
        if self._reading.wants(event):
            self._read_events(self._stream, event, end - len(event))

    def _read_whole_json(self, *, complete: bool) -> None:
        kept = self._json
        if kept is None or len(kept) == self._json_read:
            return
        self._json_read = len(kept)
        is_read = self._reading.read_whole(
            _last_members(kept, self._reading.usage_key) if self._json_cut else bytes(kept)
        )
        self._unreadable = complete and not is_read

    def _give_up(self, piece: bytes) -> bytes:
        """Read no more of this answer; give back what was held, so that nothing is lost."""
        held = self._veil.rest() if self._veil is not None else b""
        self._veil = self._stream = self._json = None
        self._unreadable = True
        return held + piece

    # -- the reading

    def _state(self, told: Told | None, ending: Ending) -> Usage:
        if told is None:
            return self._untold(ending)
        if told.odd:
            return self._made(UsageState.ESTIMATED, told, self._filled(told.lines, USAGE_OUT_OF_RANGE))
        if told.closing:
            return self._made(UsageState.FINAL, told, (told.lines, ()))
        degraded = (METER_DEGRADED,) if self._degraded or self._unreadable else ()
        return self._made(UsageState.PARTIAL, told, self._filled(told.lines, *degraded, OUTPUT_COUNTED))

    def _untold(self, ending: Ending) -> Usage:
        """Not one figure: refused, counted from what was seen, or absent."""
        reading = self._reading
        if 400 <= self._status < 500 or (reading.error and not reading.texts):
            return self._made(UsageState.ERROR, None, ((), ()))
        degraded = (METER_DEGRADED,) if self._unreadable or self._degraded else ()
        if self._failed:  # a page that stands before the provider may have written it: that says nothing of the call
            return self._made(UsageState.ABSENT, None, ((), degraded))
        if self._unreadable or (ending is Ending.COMPLETE and not reading.texts):
            return self._made(UsageState.ABSENT, None, ((), degraded))
        unseen = () if self._stream is not None else (OUTPUT_UNSEEN,)
        return self._made(UsageState.ESTIMATED, None, self._filled((), *degraded, *unseen))

    @property
    def _failed(self) -> bool:
        return not 200 <= self._status < 300

    def _filled(self, lines: tuple[Line, ...], *notes: str) -> tuple[tuple[Line, ...], tuple[str, ...]]:
        """The lines with what they lack: the input's bound, and no less output than was seen; and notes on it."""
        reading, ceiling = self._reading, self._facts.ceiling
        if self._facts.may_reason:
            notes = (*notes, HIDDEN_REASONING)
        seen = output_estimate(reading.texts, reading.visible_bytes)
        if ceiling.output_limit is not None:
            seen = min(seen, ceiling.output_limit * ceiling.choices)
        if not lines:
            counted = Tokens(input_tokens=ceiling.input_tokens, output_tokens=seen)
            return (Line(counted, reading.model or ceiling.model),), notes
        *others, last = lines
        told = sum(line.tokens.output_tokens or 0 for line in lines)
        tokens = msgspec.structs.replace(
            last.tokens,
            input_tokens=ceiling.input_tokens if last.tokens.input_tokens is None else last.tokens.input_tokens,
            output_tokens=(last.tokens.output_tokens or 0) + max(0, seen - told),
        )
        return (*others, msgspec.structs.replace(last, tokens=tokens)), notes

    def _made(self, state: UsageState, told: Told | None, read: tuple[tuple[Line, ...], tuple[str, ...]]) -> Usage:
        reading = self._reading
        lines, notes = read
        failed = (PROVIDER_ERROR,) if reading.error or self._failed else ()
        if notes or failed or reading.notes or (told and told.notes):
            notes = tuple(dict.fromkeys((*reading.notes, *(told.notes if told else ()), *notes, *failed)))
        return Usage(
            state=state,
            lines=lines,
            units=dict(told.units) if told and told.units else {},
            tier=reading.tier,
            geo=reading.geo,
            reported_cost=told.cost if told else None,
            provider_request_id=reading.request_id or None,
            raw=told.raw[:RAW_BYTES_MAX] if told else b"",
            notes=notes,
        )


def _last_members(tail: bytearray, usage_key: bytes) -> bytes:
    """The end of a JSON object from its member `usage` on, as an object of its own.

    If it parses, the braces from there to the end balance, so `usage` is a member of the answer
    itself and not of something inside it.
    """
    at = tail.rfind(usage_key)
    return b"{" + bytes(tail[at:]) if at >= 0 else b""
