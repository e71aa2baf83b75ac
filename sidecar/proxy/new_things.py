"""Learns whose a thing is that a call passed on has made at the provider: a file, a batch, a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from sidecar.core.pricing.usage import Usage
from sidecar.providers.dialect import AnswerMeter, Ending
from sidecar.proxy.makers import Apart
from sidecar.proxy.observe import NOTHING_READ
from sidecar.proxy.outcomes import Outcome
from sidecar.proxy.refusals import Header

ANSWER_BYTES_MAX: Final = 256 * 1024
"""Of an answer that says what was made; of a longer one nothing is learned, so it is nobody's."""


class _Made(msgspec.Struct):
    """What an answer says: OpenAI and Anthropic name a thing by `id`, Google by `name`, of a file within `file`."""

    id: str | None = None
    name: str | None = None
    file: _Made | None = None


_DECODER: Final = msgspec.json.Decoder(_Made)


class NewThing:
    """Keeps an answer as it passes, and learns at its end who made what it names. It is the meter of that answer."""

    def __init__(self, apart: Apart) -> None:
        self._apart = apart
        self._kept: bytearray | None = bytearray()

    def meter_for(self, status: int, content_encoding: str, lines: bytes) -> AnswerMeter:
        """As `forward` asks for one; a refusal, and what is compressed, is not read."""
        del lines
        if not 200 <= status < 300 or content_encoding:
            self._kept = None
        return self

    def on_end(self, outcome: Outcome) -> Sequence[Header]:
        """Learn, where the answer came whole."""
        if self._kept is not None and outcome.ending is Ending.COMPLETE:
            try:
                made = _DECODER.decode(self._kept)
            except (ValueError, RecursionError):
                return ()
            for told in (made, made.file):
                held = "" if told is None else told.id or told.name or ""
                self._apart.makers.learn_of(self._apart.provider, self._apart.customer, held)
        return ()

    def feed(self, piece: bytes) -> bytes:
        """The piece itself."""
        if self._kept is not None:
            self._kept += piece
            if len(self._kept) > ANSWER_BYTES_MAX:
                self._kept = None
        return piece

    def flush(self) -> bytes:
        """Nothing: nothing is held back."""
        return b""

    def finished(self) -> bool:
        """Never: only the provider ends it."""
        return False

    def usage(self, ending: Ending) -> Usage:
        """Nothing is metered here."""
        del ending
        return NOTHING_READ
