"""Whatever Google, Amazon or Cohere send, in whatever pieces: nothing is raised, lost, or read otherwise."""

from __future__ import annotations

import json
import sys
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import WireFormatError
from sidecar.providers.binary_stream import BinaryStream
from sidecar.providers.dialect import Ending
from sidecar.providers.event_stream import EventStream
from sidecar.providers.metering import Meter
from sidecar.providers.registry import dialect_for
from tests.recordings import bedrock_exchanges, cohere_exchanges, gemini_exchanges
from tests.recordings.exchange import Exchange, cut_at

EXCHANGES = (*gemini_exchanges.EXCHANGES, *bedrock_exchanges.EXCHANGES, *cohere_exchanges.EXCHANGES)
BITS = st.binary(max_size=12) | st.sampled_from(
    [b"\0", b"\xff" * 4, b"{", b"}", b"[", b"]", b'"', b"\\", b"null", b"-1", b"1e999", b"\r\n\r\n", b"data: ",
     b'"usage":', b'"usageMetadata":',
     b'"candidates":[{}]', b'"error":', b"event: message-end\n", b"[DONE]", b"\x1f\x8b",
     b"amazon-bedrock-invocationMetrics", b'"billed_units":{"input_tokens":"x"}', b'"modality":7']
)  # fmt: skip
CHANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 40), BITS), min_size=1, max_size=4)


def changed(answer: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """The answer with some of its bytes left out and others put in their place."""
    for at, length, bits in changes:
        place = at % (len(answer) + 1)
        answer = answer[:place] + bits + answer[place + length :]
    return answer


@settings(max_examples=600)  # there are some eighty seeds
@given(
    st.sampled_from(EXCHANGES),
    CHANGES,
    st.lists(st.integers(0, 4000), max_size=5),
    st.sampled_from(list(Ending)),
    st.sampled_from([200, 400, 503]),
)
def test_an_answer_that_was_changed_is_passed_on_and_read_alike(
    exchange: Exchange, changes: list[tuple[int, int, bytes]], places: list[int], ending: Ending, status: int
) -> None:
    """F-28: every byte as it came; one reading in any cut; what goes wrong is an error of the wire, none of ours."""
    dialect = dialect_for(exchange.path.partition("?")[0])
    assert dialect is not None
    facts = dialect.read_request(json.dumps(exchange.request).encode(), exchange.path)
    answer = changed(exchange.answer, changes)
    wrong: list[BaseException] = []

    def give_up(meter: Meter, piece: bytes) -> bytes:
        found = sys.exc_info()[1]
        if found is not None and not isinstance(found, WireFormatError):
            wrong.append(found)
        return original(meter, piece)

    original = Meter._give_up
    readings = []
    for pieces in ([answer], cut_at(answer, sorted(place % (len(answer) + 1) for place in places))):
        with mock.patch.object(Meter, "_give_up", give_up):
            meter = dialect.meter(facts, status=status, lines=b"", content_encoding=exchange.encoding)
            assert b"".join(meter.feed(piece) for piece in pieces) == answer
            if ending is Ending.COMPLETE:
                assert meter.flush() == b""
            usage = meter.usage(ending)
            assert meter.usage(ending) == usage
        readings.append((usage.state, usage.total(), usage.units))
    assert wrong == []
    # A checksum that is wrong ends the reading where the piece ends: what was read before it depends on the cut.
    if not isinstance(meter, Meter) or not _was_binary(answer):
        assert readings[0] == readings[1]


def _was_binary(answer: bytes) -> bool:
    return answer.startswith((b"\0", b"\x1f"))


def test_the_framings_are_those_that_are_meant() -> None:
    """The seeds reach each framing: events, an array, lines, binary messages."""
    kinds = {type(_stream(exchange)) for exchange in EXCHANGES if exchange.encoding == ""}
    assert len(kinds) >= 4
    assert BinaryStream in kinds
    assert EventStream in kinds


def _stream(exchange: Exchange) -> EventStream | None:
    dialect = dialect_for(exchange.path.partition("?")[0])
    assert dialect is not None
    facts = dialect.read_request(json.dumps(exchange.request).encode(), exchange.path)
    meter = dialect.meter(facts, status=200, lines=b"", content_encoding="")
    meter.feed(exchange.answer[:1])
    assert isinstance(meter, Meter)
    return meter._stream
