"""What a chat completion's prompt can cost beyond its own bytes: pictures, sound, tools, hidden context.

Text is bounded by its bytes, and so is everything that travels as text. A picture's bytes say
nothing of its tokens; it is bounded by its family's table instead. What brings context that is not
in the request (files by id, searches, stored prompts) or that we do not know has no bound, and
says so by name. So does a top-level field we do not know, unless it asks for nothing (null, false): a
new field is a new tool more often than a new sampling knob.

Source: openai/openai-openapi openapi.json and the API references of the compatible servers named
in `openai_chat`; checked 2026-11.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.pricing.ceilings import WITHIN_WINDOW
from sidecar.providers.dialect import BadRequest
from sidecar.providers.image_tokens import image_tokens
from sidecar.providers.request_json import (
    Member,
    Members,
    Reasons,
    is_text,
    lists_nothing,
    may_hide_words,
    read_inner,
    read_objects,
    refuse_unfit,
    says_something,
    shown,
    text_of,
)
from sidecar.providers.token_estimates import AUDIO_PART_TOKENS

KNOWN_FIELDS: Final = frozenset({
    # OpenAI's own
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "messages", "metadata", "modalities", "model", "moderation", "n", "parallel_tool_calls",
    "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream",
    "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
    "web_search_options",
    # sampling and rendering on vLLM, TGI, Groq, Mistral, Together, OpenRouter, Cerebras, Z.ai
    "add_generation_prompt", "add_special_tokens", "allowed_token_ids", "bad_words", "chat_template_kwargs",
    "clear_thinking", "disable_reasoning", "do_sample", "echo", "enable_thinking", "guided_choice",
    "guided_decoding_backend", "guided_grammar", "guided_json", "guided_regex", "guided_whitespace_pattern",
    "ignore_eos", "include_reasoning", "include_stop_str_in_output", "keep_alive", "length_penalty", "min_p",
    "min_tokens", "mirostat", "mirostat_eta", "mirostat_tau", "priority", "random_seed", "reasoning",
    "reasoning_format", "repeat_penalty", "repetition_penalty", "request_id", "return_token_ids", "safe_prompt",
    "skip_special_tokens", "spaces_between_special_tokens", "stop_token_ids", "structured_outputs", "thinking",
    "tool_stream", "top_a", "top_k", "transforms", "truncate_prompt_tokens", "typical_p", "usage",
})  # fmt: skip
"""Fields that cannot make a call cost more than its bytes and its output limit say."""

_NOT_SEARCHED: Final = ("text", "image_url")
"""Members of a part that `read_objects` leaves to us."""

_INLINE_PARTS: Final = frozenset({"text", "refusal", "thinking", "input_text", "output_text"})
_CALLER_TOOLS: Final = frozenset({"function", "custom"})
_LISTS: Final = frozenset({"plugins"})
"""Fields that are not known to be free, and are documented as lists: an empty one asks for nothing."""


class Prompt:
    """What was found. `media_bytes` are the body's bytes that are pictures; `media_tokens` bound pictures instead."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.media_bytes = 0
        self.media_tokens = 0
        self.audio = False
        self.tools = 0
        self.predicted_bytes = 0
        self.unbounded = Reasons()


def read_prompt(members: Members, model: str) -> Prompt:
    """Look through messages and tools. A shape we do not know is unbounded, not an error: the provider decides.

    Raises:
        BadRequest: a key stands twice in a message, a part, a picture or a tool.
    """
    prompt = Prompt(model)
    _read_messages(prompt, members.get("messages"))
    _read_tools(prompt, members)
    prediction = members.get("prediction")
    if says_something(prediction) and prediction is not None:
        # Tokens of it that are not used are billed as output, beyond the limit; each has a byte at least.
        prompt.predicted_bytes = len(prediction.raw)
    modalities = members.get("modalities")
    if says_something(members.get("audio")) or (modalities is not None and _may_speak(modalities.raw)):
        prompt.audio = True
    return prompt


def asks_for_nothing(name: str, member: Member) -> bool:
    """Whether a field, known or not, has a value that cannot cost anything."""
    if name == "provider":
        return routes_for_no_more(member)
    return not says_something(member) or (name in _LISTS and lists_nothing(member))


def routes_for_no_more(provider: Member) -> bool:
    """Whether OpenRouter's `provider` leaves the choice of the model's host to it: another host has another price.

    Source: openrouter.ai/docs/features/provider-routing, checked 2026-11.

    Raises:
        BadRequest: a key stands in it twice.
    """
    if not says_something(provider):
        return True
    return provider.raw.startswith(b"{") and read_inner(provider.raw, param="provider").keys() <= _ROUTING_FREE


_ROUTING_FREE: Final = frozenset(
    {
        "allow_fallbacks",
        "data_collection",
        "enforce_distillable_text",
        "ignore",
        "max_price",
        "require_parameters",
        "zdr",
    }
)


def _may_speak(modalities: bytes) -> bool:
    return may_hide_words(modalities) or b'"audio"' in modalities


def _read_messages(prompt: Prompt, messages: Member | None) -> None:
    if messages is None:
        return
    try:
        for message in read_objects(messages.raw, param="messages", usual=("role", "content"), read_on=("content",)):
            if "audio" in message and bytes(message["audio"]) != b"null":
                prompt.unbounded.append("an earlier spoken answer by its id: its length is not in the request")
            content = bytes(message.get("content", b""))
            if content.startswith(b"["):
                for part in read_objects(content, param="content", usual=("type", "text"), read_on=("image_url",)):
                    _read_part(prompt, part)
            elif content.startswith(b"{"):
                prompt.unbounded.append("message content of an unknown shape")
            elif not content.startswith(b'"'):
                refuse_unfit(content, "content")
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        prompt.unbounded.append("messages of an unknown shape")


def _read_part(prompt: Prompt, part: dict[str, msgspec.Raw]) -> None:
    kind = text_of(part.get("type"))
    if kind == "image_url":
        _read_image(prompt, bytes(part.get("image_url", b"")))
    elif kind in _INLINE_PARTS:
        for name in _NOT_SEARCHED:
            if name in part and not is_text(part[name]):
                refuse_unfit(bytes(part[name]), "content")
    elif kind == "input_audio":
        # Its bytes stay in the bound: a second has a thousand at least, and at most 32 tokens.
        prompt.audio = True
        prompt.media_tokens += AUDIO_PART_TOKENS
    elif kind == "file":
        prompt.unbounded.append(f"{_unknown_part(kind)}{WITHIN_WINDOW}")
    else:
        prompt.unbounded.append(_NAMELESS_PART if kind is None else _unknown_part(kind))


def _read_image(prompt: Prompt, image: bytes) -> None:
    inner = read_inner(image, param="image_url") if image.startswith(b"{") else {"url": image}
    url = text_of(inner.get("url"))
    prompt.media_tokens += image_tokens(prompt.model, url, text_of(inner.get("detail")))
    if url is not None and url[:11].lower() == "data:image/" and url.isascii():
        prompt.media_bytes += len(url)


def _unknown_part(kind: str) -> str:
    return f"content part {shown(kind)}: its length is not in the request"


_NAMELESS_PART: Final = _unknown_part("(none)")


def _read_tools(prompt: Prompt, members: Members) -> None:
    try:
        for name in ("functions", "tools"):
            asked = members.get(name)
            if asked is None or not says_something(asked):
                continue
            listed = read_objects(asked.raw, param=name)
            prompt.tools += len(listed)
            if name == "tools":
                _read_tool_kinds(prompt, listed)
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        prompt.unbounded.append("tools of an unknown shape")


def _read_tool_kinds(prompt: Prompt, tools: list[dict[str, msgspec.Raw]]) -> None:
    for tool in tools:
        written = bytes(tool.get("type", b"null"))
        kind = text_of(written)
        if written != b"null" and kind not in _CALLER_TOOLS:
            prompt.unbounded.append(f"tool {shown(kind or '')}: it runs at the provider")
