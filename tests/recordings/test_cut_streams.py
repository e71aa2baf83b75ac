"""A provider that cuts every stream at every byte: each is settled, for no less than what was visibly produced (L25).

Every cut is judged as `cutting.Judge` does: never less than was seen, the hold where the provider may bill on, and a
last word only where it is the whole answer's. Each test run cuts the streams of our own making at every third byte and
the recorded ones, where they are, at a spread; `make soak` cuts all of both at every byte, and says how many that were.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace

import brotli
import pytest
from backports import zstd

from sidecar.app.tokenizing import SplintrTokenizer
from sidecar.providers.dialect import Ending
from sidecar.providers.event_stream import split_events
from tests.recordings import test_shared_recordings
from tests.recordings.cutting import (
    Stream,
    check,
    check_compressed,
    every_byte,
    every_event_and_a_spread,
    own_streams,
    recorded_streams,
)
from tests.support.twins import twin

LEAST_CUTS = 10_000
CUTS_OF_EACH = 40
PARTS = 24
"""So many tests share the recorded streams at every byte: none takes more than some minutes."""

RECORDED_STREAMS = 465
"""Of protocols that are metered, each with a request that can be read; `test_all_recordings` counts the others."""

COMPRESSED_BYTES_MAX = 2_500
SAMPLE = 3
"""So many streams of each protocol are compressed, and cut at each byte of that."""

needs_recordings = pytest.mark.skipif(
    not test_shared_recordings.FOLDER.is_dir(), reason=f"no recordings at {test_shared_recordings.FOLDER}"
)


@pytest.fixture(scope="module")
def tokenizer() -> SplintrTokenizer:
    return SplintrTokenizer()


@pytest.mark.parametrize("stream", own_streams(), ids=lambda stream: f"{stream.dialect.name} {stream.name}")
def test_a_stream_cut_anywhere_is_charged_what_was_seen(stream: Stream, tokenizer: SplintrTokenizer) -> None:
    """L25: of our own streams, at every third byte and about every end of an event."""
    places = {*every_event_and_a_spread(stream)[:LEAST_CUTS], *range(0, min(len(stream.body), LEAST_CUTS), 3)}
    assert not list(check(stream, sorted(places), tokenizer))


@pytest.mark.soak
@pytest.mark.parametrize("stream", own_streams(), ids=lambda stream: f"{stream.dialect.name} {stream.name}")
def test_a_stream_cut_at_every_byte_is_charged_what_was_seen(stream: Stream, tokenizer: SplintrTokenizer) -> None:
    """L25: of our own streams, at every byte (of the longest, at every byte of the beginning)."""
    places = {*every_event_and_a_spread(stream)[:LEAST_CUTS], *every_byte(stream)[:LEAST_CUTS]}
    assert not list(check(stream, sorted(places), tokenizer))


@needs_recordings
def test_recorded_streams_cut_anywhere_are_charged_what_was_seen(tokenizer: SplintrTokenizer) -> None:
    """L25: of each recorded stream, at some ends of events and at some bytes."""
    wrong: list[str] = []
    cuts = 0
    for stream in recorded_streams():
        dice = random.Random(stream.name)
        places = every_event_and_a_spread(stream)
        places = sorted(dice.sample(places, min(len(places), CUTS_OF_EACH)))
        cuts += len(places)
        wrong += check(stream, places, tokenizer)
    assert not wrong
    assert cuts > LEAST_CUTS
    assert len(recorded_streams()) == RECORDED_STREAMS


@needs_recordings
@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_recorded_streams_cut_at_every_byte_are_charged_what_was_seen(part: int, tokenizer: SplintrTokenizer) -> None:
    """L25: of every recorded stream, at every byte; the parts are of about the same size."""
    began, cuts, wrong = time.monotonic(), 0, list[str]()
    streams = part_of(recorded_streams(), part)
    for stream in streams:
        cuts += len(stream.body) + 1
        wrong += check(stream, every_byte(stream), tokenizer)
    print(
        f"part {part + 1} of {PARTS}: {len(streams)} streams, {cuts} cuts, {time.monotonic() - began:.0f} s", flush=True
    )
    assert not wrong[:20]


def part_of(streams: Iterable[Stream], part: int) -> list[Stream]:
    """The streams of one part: the longest first, each to the part that has the fewest bytes."""
    parts: list[list[Stream]] = [[] for _ in range(PARTS)]
    sizes = [0] * PARTS
    for stream in sorted(streams, key=lambda stream: -len(stream.body)):
        least = sizes.index(min(sizes))
        parts[least].append(stream)
        sizes[least] += len(stream.body)
    return parts[part]


@needs_recordings
def test_a_twin_says_of_a_cut_what_a_meter_says_that_read_all_anew() -> None:
    """What the cuts stand on: of every tenth recorded stream, at some bytes, byte by byte and in one piece."""
    for stream in recorded_streams()[::10]:
        dice = random.Random(stream.name)
        reader, read = stream.meter(), 0
        for place in sorted(dice.choices(range(len(stream.body) + 1), k=8)):
            for at in range(read, place):
                reader.feed(stream.body[at : at + 1])
            read = place
            anew = stream.meter()
            anew.feed(stream.body[:place])
            copied = twin(reader)
            for ending in Ending:
                assert copied.usage(ending) == anew.usage(ending), (stream.name, place, ending)


# -- compressed


def flushed(events: Iterable[bytes], coding: str) -> bytes:
    """Events compressed as providers do it: each can be read once its last byte is here."""
    if coding == "gzip":
        packer = zlib.compressobj(wbits=31)
        packed = [packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) for event in events]
        return b"".join(packed) + packer.flush()
    if coding == "br":
        folder = brotli.Compressor()
        return bytes(b"".join([folder.process(event) + folder.flush() for event in events]) + folder.finish())
    squeezer = zstd.ZstdCompressor()
    return b"".join([squeezer.compress(event, squeezer.FLUSH_BLOCK) for event in events]) + squeezer.flush()


DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda packed: zlib.decompressobj(31).decompress(packed),
    "br": lambda packed: bytes(brotli.Decompressor().process(packed)),
    "zstd": lambda packed: zstd.ZstdDecompressor().decompress(packed),
}


def sampled(streams: Iterable[Stream]) -> list[Stream]:
    """Of each protocol some that come in plain events and are not long, so that each beginning can be read anew."""
    found: dict[str, list[Stream]] = {}
    for stream in sorted(streams, key=lambda stream: -len(stream.body)):
        if len(stream.body) <= COMPRESSED_BYTES_MAX and not stream.encoding and stream.body[:1].isalpha():
            found.setdefault(stream.dialect.name, []).append(stream)
    return [stream for each in found.values() for stream in each[:SAMPLE]]


@pytest.mark.parametrize("coding", DECODERS)
def test_a_compressed_stream_cut_at_every_byte_is_charged_what_was_seen(
    coding: str, tokenizer: SplintrTokenizer
) -> None:
    """L25: cut anywhere in its compression, which flushes after every event (as Anthropic's does) or never."""
    recorded = recorded_streams() if test_shared_recordings.FOLDER.is_dir() else ()
    wrong: list[str] = []
    cuts = 0
    for stream in sampled(own_streams()) + sampled(recorded):
        events = [event for _, event in split_events(stream.body)]
        for packed in (flushed(events, coding), flushed([stream.body], coding)):
            compressed = replace(stream, body=packed, encoding=coding)
            cuts += len(packed) + 1
            wrong += check_compressed(compressed, every_byte(compressed), DECODERS[coding], tokenizer)
    print(f"{cuts} cuts in {coding}")
    assert not wrong[:20]
    assert cuts > LEAST_CUTS
