"""A scripted provider in a thread of its own that keeps every byte which reaches it.

What it was asked is in `requests`; what else came (half a request, bytes behind one) stands only in
`transcripts`, one for each connection, so that nothing that leaves the sidecar goes unseen.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import SupportsIndex

from tests.support.scripted_provider import Received, Script, ScriptedProvider, openai_answer, openai_stream
from tests.support.threads import in_thread

ANTHROPIC_ANSWER = Script.json(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-3-haiku",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 3},
    }
)


class RecordingProvider(ScriptedProvider):
    """The provider; `then` and `otherwise` may be called from the test's thread."""

    def __init__(self) -> None:
        super().__init__(answers=usual_answer)
        self.transcripts: list[bytearray] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transcript, feed = bytearray(), reader.feed_data
        self.transcripts.append(transcript)

        def record(data: Iterable[SupportsIndex]) -> None:
            piece = bytes(data)
            transcript.extend(piece)
            feed(piece)

        reader.feed_data = record  # type: ignore[method-assign]
        await super()._serve(reader, writer)

    @property
    def heard(self) -> int:
        """How many bytes have come, in all."""
        return sum(map(len, self.transcripts))

    def all_heard(self) -> bytes:
        """Every byte that has come, connection by connection."""
        return b"\n".join(bytes(transcript) for transcript in self.transcripts)

    def strays(self) -> list[bytes]:
        """What came on a connection beside whole requests, each exactly a head and as many bytes as it declares."""
        found = []
        for number, transcript in enumerate(self.transcripts, 1):
            asked = b"".join(each.head + each.body for each in self.requests if each.connection == number)
            if bytes(transcript) != asked:
                found.append(bytes(transcript))
        return found


def usual_answer(received: Received) -> Script:
    """What a model's API would say, in the protocol and manner asked for."""
    if received.target.endswith("/messages"):
        return ANTHROPIC_ANSWER
    streams = b'"stream":true' in received.body or b'"stream": true' in received.body
    return openai_stream(3) if streams else openai_answer()


@contextmanager
def recording_provider() -> Iterator[RecordingProvider]:
    """A provider on a loopback port until the block ends."""
    provider = RecordingProvider()

    async def serve(started: threading.Event, stopping: asyncio.Event) -> None:
        async with provider:
            started.set()
            await stopping.wait()

    with in_thread(serve):
        yield provider
