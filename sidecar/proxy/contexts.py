"""How long the context of an answer was that a later call may continue by its id.

A Responses call that names an earlier response is billed for all that was said before, which is not in its body. What
the earlier call was settled at bounds that: its whole input, and all that it generated. So a call that continues
an answer which went through here has a bound after all; one that continues any other has none.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.providers.dialect import RequestFacts
from sidecar.providers.openai_responses_prompt import HISTORY

CONTINUED: Final = frozenset({"openai.responses"})
"""Dialects whose answers a later call may continue by their id."""

ANSWERS_REMEMBERED: Final = 16_384
"""Answers whose context is known; the one settled longest ago goes first. A few megabytes at most."""


class Contexts:
    """Remembers by an answer's id the model asked for and its tokens. Another model may make more of the same text."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, int]] = {}

    def learn(self, model: str, usage: Usage) -> None:
        """Take in what a call of this model was settled at; only a provider's closing figures say how long it was."""
        answer_id = usage.provider_request_id
        if usage.state is not UsageState.FINAL or not answer_id:
            return
        whole = usage.total()
        if whole.input_tokens is None or whole.output_tokens is None:
            return
        self._known.pop(answer_id, None)
        self._known[answer_id] = (model, whole.input_tokens + whole.output_tokens)
        if len(self._known) > ANSWERS_REMEMBERED:
            del self._known[next(iter(self._known))]

    def bounded(self, facts: RequestFacts) -> RequestFacts:
        """The request with the context that it continues in its bound, if that is known; else as it is."""
        model, tokens = self._known.get(facts.continues, ("", 0))
        if model != facts.model:
            return facts
        ceiling = facts.ceiling
        ceiling = msgspec.structs.replace(
            ceiling,
            input_tokens=ceiling.input_tokens + tokens,
            unbounded=tuple(feature for feature in ceiling.unbounded if feature != HISTORY),
        )
        return msgspec.structs.replace(facts, ceiling=ceiling)
