"""Anthropic's messages on Vertex: the same bodies and answers, with the model in the path.

`publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict`, or `:streamRawPredict`. The date stands behind an
at-sign where Anthropic itself has a hyphen; the rate cards have the hyphen.

Source: anthropics/anthropic-sdk-python `src/anthropic/lib/vertex/_client.py`, cloud.google.com "Use Claude models";
checked 2026-11.
"""

from __future__ import annotations

from sidecar.providers.anthropic import AnthropicMessages
from sidecar.providers.dialect import AnswerMeter, RequestFacts
from sidecar.providers.gemini import model_in
from sidecar.providers.request_json import read_flag, read_object


class AnthropicOnVertex:
    """The dialect of `publishers/anthropic/models/{model}:rawPredict` and `:streamRawPredict`."""

    name = "anthropic.vertex"

    def __init__(self) -> None:
        self._messages = AnthropicMessages()

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`; the model is the path's, and whether it streams the body's, as on Anthropic's own API."""
        members = read_object(body)
        model = model_in(target).replace("@", "-")
        return self._messages.read_members(members, body, model, stream=read_flag(members, "stream"))

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """See `Dialect`."""
        return self._messages.limit_output(facts, tokens, own_field=own_field)

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`."""
        return self._messages.meter(facts, status=status, lines=lines, content_encoding=content_encoding)
