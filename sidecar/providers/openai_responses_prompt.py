"""What a Responses request's prompt can cost beyond its own bytes: pictures, tools, and history held elsewhere.

As in chat, text is bounded by its bytes. But this API remembers: an earlier response, a conversation, a stored
prompt, an item or a file by its id bring input that is not in the request, and hosted tools read their own results
again and again. None of that has a bound, and each says so by name.

Sources: openai/openai-openapi openapi.json (CreateResponse, InputItem), openai/openai-python
src/openai/types/responses/, checked 2026-11.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.pricing.ceilings import WITHIN_WINDOW
from sidecar.providers.dialect import BadRequest
from sidecar.providers.held_by_id import is_reference
from sidecar.providers.image_tokens import image_tokens
from sidecar.providers.openai_prompt import routes_for_no_more
from sidecar.providers.request_json import (
    Member,
    Members,
    Reasons,
    is_text,
    lists_nothing,
    not_known,
    read_inner,
    read_objects,
    refuse_unfit,
    says_something,
    shown,
    text_of,
    tools_in,
)
from sidecar.providers.token_estimates import CLIENT_TOOL_TOKENS

KNOWN_FIELDS: Final = frozenset({
    "background", "include", "input", "instructions", "max_output_tokens", "max_tool_calls", "metadata", "model",
    "moderation", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "reasoning", "safety_identifier", "seed", "service_tier", "store", "stream", "stream_options",
    "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user", "verbosity",
})  # fmt: skip
"""Fields that cannot make a call cost more than its bytes and its output limit say."""

_LISTS: Final = frozenset({"context_management", "plugins"})
"""Fields that are not known to be free, and are documented as lists: an empty one asks for nothing."""

HISTORY: Final = "previous_response_id: what was said before is held at the provider and billed again"

_REASONS: Final = {
    "previous_response_id": HISTORY,
    "conversation": "conversation: what was said before is held at the provider and billed again",
    "prompt": "prompt: a stored prompt's length is not in the request",
    "context_management": "context_management: compaction is a further pass over the context",
}
_INLINE_ITEMS: Final = frozenset({
    "message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
    "local_shell_call", "local_shell_call_output", "apply_patch_call", "apply_patch_call_output",
})  # fmt: skip
_ENCRYPTED_ITEMS: Final = frozenset({"reasoning", "compaction"})
"""Items whose contents come sealed with the request, or else are remembered by the provider."""

_INLINE_PARTS: Final = frozenset({
    "input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text",
})  # fmt: skip
_HELD: Final = ("content", "output")
"""Members of an item that hold a text or parts."""

_CALLER_TOOLS: Final = frozenset({"function", "custom"})
_CLIENT_TOOLS: Final = frozenset({"local_shell", "apply_patch"})
"""Tools of OpenAI's own that run at the caller."""


class ResponsesPrompt:
    """What was found. `media_bytes` are the body's bytes that are pictures; `media_tokens` bound them instead."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.media_bytes = 0
        self.media_tokens = 0
        self.tools = 0
        self.client_tool_tokens = 0
        self.continues = ""
        self.unbounded = Reasons()


def read_prompt(members: Members, model: str) -> ResponsesPrompt:
    """Look through input and tools. A shape we do not know is unbounded, not an error: the provider decides.

    Raises:
        BadRequest: a key stands twice in an item, a part or a tool.
    """
    prompt = ResponsesPrompt(model)
    _read_input(prompt, members.get("input"))
    _read_tools(prompt, members.get("tools"))
    _read_mode(prompt, members.get("reasoning"))
    for name, member in members.items():
        if name in KNOWN_FIELDS or not says_something(member) or (name in _LISTS and lists_nothing(member)):
            continue
        if name == "provider" and routes_for_no_more(member):
            continue
        if name == "previous_response_id":
            prompt.continues = text_of(member.raw) or ""
        prompt.unbounded.append(_REASONS.get(name, not_known(name)))
    return prompt


def _read_input(prompt: ResponsesPrompt, asked: Member | None) -> None:
    if asked is None or asked.raw.startswith(b'"'):
        return
    try:
        for item in read_objects(asked.raw, param="input", usual=("role", "content"), read_on=_HELD):
            _read_item(prompt, item)
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        prompt.unbounded.append("input of an unknown shape")


def _read_item(prompt: ResponsesPrompt, item: dict[str, msgspec.Raw]) -> None:
    kind = text_of(item["type"]) if "type" in item else None
    if is_reference(kind, item):
        kind = "item_reference"
    elif "type" not in item:
        kind = "message"
    if kind in _ENCRYPTED_ITEMS:
        sealed = item.get("encrypted_content")
        if sealed is None or not is_text(sealed):
            prompt.unbounded.append(f"input item {shown(kind)}: its contents are held at the provider")
    elif kind not in _INLINE_ITEMS:
        prompt.unbounded.append(f"input item {shown(kind or '(none)')}: its length is not in the request")
    for name in _HELD:
        if name in item:
            _read_held(prompt, bytes(item[name]))


def _read_held(prompt: ResponsesPrompt, held: bytes) -> None:
    if held.startswith(b"["):
        for part in read_objects(held, param="content", usual=("type", "text")):
            _read_part(prompt, part)
    elif held.startswith(b"{"):
        prompt.unbounded.append("input content of an unknown shape")
    elif not held.startswith(b'"'):
        refuse_unfit(held, "content")


def _read_part(prompt: ResponsesPrompt, part: dict[str, msgspec.Raw]) -> None:
    kind = text_of(part.get("type"))
    if kind == "input_image":
        if "file_id" in part and bytes(part["file_id"]) != b"null":
            prompt.unbounded.append(f"an image by its file id{WITHIN_WINDOW}")
        url = text_of(part.get("image_url"))
        prompt.media_tokens += image_tokens(prompt.model, url, text_of(part.get("detail")))
        if url is not None and url[:11].lower() == "data:image/" and url.isascii():
            prompt.media_bytes += len(url)
    elif kind == "input_file":
        prompt.unbounded.append(f"input_file: a document's text and pages cannot be told from its bytes{WITHIN_WINDOW}")
    elif kind not in _INLINE_PARTS:
        prompt.unbounded.append(f"content part {shown(kind or '(none)')}: its length is not in the request")


def _read_tools(prompt: ResponsesPrompt, tools: Member | None) -> None:
    listed = tools_in(tools, prompt.unbounded)
    prompt.tools = len(listed)
    for tool in listed:
        kind = text_of(tool.get("type"))
        if kind in _CLIENT_TOOLS:
            prompt.client_tool_tokens += CLIENT_TOOL_TOKENS
        elif kind not in _CALLER_TOOLS:
            prompt.unbounded.append(f"tool {shown(kind or '')}: it runs at the provider")


def _read_mode(prompt: ResponsesPrompt, reasoning: Member | None) -> None:
    """`mode: pro` runs the model several times over."""
    if reasoning is None or not says_something(reasoning):
        return
    mode = read_inner(reasoning.raw, param="reasoning").get("mode", b"null")
    if mode != b"null" and text_of(mode) != "standard":
        prompt.unbounded.append("reasoning.mode: the model runs several times over")
