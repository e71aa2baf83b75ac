"""Completions of a bare prompt, OpenAI's first API, which many servers still speak; Mistral's fill-in-the-middle too.

An answer is told as in chat, and so is its usage. A request may hold many prompts at once, each answered `n` times
over, or `best_of`, which are all generated and billed though fewer are given.

Sources: openai/openai-openapi openapi.json (CreateCompletionRequest), docs.mistral.ai (`fim/completions`),
vllm-project/vllm vllm/entrypoints/openai/completion/protocol.py; checked 2026-11.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.providers.dialect import AnswerMeter, BadRequest, RequestFacts
from sidecar.providers.metering import Meter
from sidecar.providers.openai_chat import CHOICES_MAX, OpenAIChatReading, ask_for_usage
from sidecar.providers.openai_prompt import KNOWN_FIELDS, asks_for_nothing
from sidecar.providers.output_limit import splice_whole
from sidecar.providers.request_json import (
    OUTPUT_LIMIT_MAX,
    REASONS_MAX,
    Members,
    not_known,
    read_flag,
    read_object,
    read_whole,
    read_word,
    says_something,
)
from sidecar.providers.request_model import model_asked
from sidecar.providers.token_estimates import family_of, may_reason_unseen, prompt_bound

PROMPTS_MAX: Final = 2048
"""Prompts of one request at most; OpenAI takes no more."""

_KNOWN: Final = (KNOWN_FIELDS - {"messages", "tools", "functions", "audio", "modalities", "prediction"}) | {
    "best_of", "prompt", "suffix", "use_beam_search", "return_tokens_as_token_ids", "min_completion_tokens",
}  # fmt: skip
_TEXT: Final = re.compile(rb'"(?:text|value|content)": ?"([^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+)"')
"""Writer's deltas are a `value` and nothing else."""

_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


class OpenAICompletions:
    """The dialect of `…/completions`."""

    name = "openai.completions"

    def read_request(self, body: bytes, target: str = "") -> RequestFacts:
        """See `Dialect`."""
        members = read_object(body)
        model = model_asked(members, target)
        stream = read_flag(members, "stream")
        limit = read_whole(members, "max_tokens", least=0, most=OUTPUT_LIMIT_MAX)
        wanted = read_whole(members, "n", least=1, most=CHOICES_MAX) or 1
        made = read_whole(members, "best_of", least=1, most=CHOICES_MAX) or 1
        bound = prompt_bound(
            family_of(model), text_bytes=len(body), tools=0, structured=_is_formed(members), media_tokens=0
        )
        if limit is not None and read_flag(members, "echo"):
            limit += bound  # what repeats the prompt may be counted as made
        ceiling = Ceiling(
            model=model,
            input_tokens=bound,
            output_limit=limit,
            choices=max(wanted, made) * prompts_in(members),
            tier=read_word(members, "service_tier"),
            cache_write="5m",
            unbounded=tuple(
                dict.fromkeys(
                    not_known(name)
                    for name, member in members.items()
                    if name not in _KNOWN and not asks_for_nothing(name, member)
                )
            )[:REASONS_MAX],
        )
        asked = body if not stream else ask_for_usage(body, members)
        may_reason = may_reason_unseen(model)
        return RequestFacts(ceiling, stream, asked, hide_usage=asked is not body, may_reason=may_reason)

    def limit_output(self, facts: RequestFacts, tokens: int, *, own_field: bool) -> RequestFacts | None:
        """See `Dialect`; every server knows `max_tokens` here. None where the prompt is repeated."""
        del own_field
        members = read_object(facts.body)
        if says_something(members.get("echo")):
            return None
        body = splice_whole(facts.body, members, "max_tokens", tokens)
        return facts.limited_to(body, tokens)

    def meter(self, facts: RequestFacts, *, status: int, lines: bytes, content_encoding: str) -> AnswerMeter:
        """See `Dialect`; framing is told by the bytes, so the head is not looked at."""
        del lines
        return Meter(facts, CompletionsReading(facts.ceiling.choices), status=status, content_encoding=content_encoding)


class CompletionsReading(OpenAIChatReading):
    """What a completion has said so far: as in chat, but for where its text stands."""

    text_pattern = _TEXT


def prompts_in(members: Members) -> int:
    """How many prompts a request holds: a text is one and so is a list of tokens; a list of either is many.

    Raises:
        BadRequest: more than PROMPTS_MAX.
    """
    prompt = members.get("prompt")
    if prompt is None or not prompt.raw.startswith(b"["):
        return 1
    try:
        listed = _LIST.decode(prompt.raw)
    except (ValueError, RecursionError):
        listed = []
    many = [entry for entry in listed if bytes(entry)[:1] in b'"[']
    if len(many) > PROMPTS_MAX:
        raise BadRequest(f"`prompt` may hold {PROMPTS_MAX} prompts at most.", param="prompt")
    return len(many) or 1


def _is_formed(members: Members) -> bool:
    return any(says_something(members.get(name)) for name in ("response_format", "guided_json", "structured_outputs"))
