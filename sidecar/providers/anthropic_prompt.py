"""What an Anthropic prompt can cost beyond its own bytes: pictures, caching, what runs at the provider.

Text is bounded by its bytes, a picture by the largest that the API scales it to. Documents, files,
tools that run at Anthropic, connected servers and held conversations bring input that is not in the
request and is read several times within one call: they have no bound, and say so by name. So does
a top-level field or a kind of block we do not know.

Source: anthropics/anthropic-sdk-python src/anthropic/types/beta/message_create_params.py and
beta_content_block_param.py, checked 2026-11.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from sidecar.providers.request_json import Member, Members, decoded, may_hide_words, says_something, shown
from sidecar.providers.token_estimates import CLIENT_TOOL_TOKENS, Family

KNOWN_FIELDS: Final = frozenset(
    {
        "anthropic_beta", "anthropic_version", "billing_policy", "cache_control", "context_management", "diagnostics",
        "fallback_credit_token", "inference_geo", "max_tokens", "messages", "metadata", "model", "output_config",
        "output_format", "service_tier", "speed", "stop_sequences", "stream", "system", "temperature", "thinking",
        "tool_choice", "tools", "top_k", "top_p",
    }
)  # fmt: skip
"""Fields that cannot make a call cost more than its bytes and its output limit say."""

_INLINE_BLOCKS: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use", "search_result"})
_CALLER_TOOLS: Final = re.compile(r"(?:bash|text_editor|computer|memory)_\d+", re.ASCII)
_CLEARING_EDITS: Final = "clear_"
_NESTING_MAX: Final = 8
"""Tool results within tool results; the API allows one."""


class _Message(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw()


class _Block(msgspec.Struct):
    type: str | None = None
    source: Any = None
    content: msgspec.Raw = msgspec.Raw()


class _Tool(msgspec.Struct):
    type: str | None = None


class _Edit(msgspec.Struct):
    type: str = ""


class _ContextManagement(msgspec.Struct):
    edits: list[_Edit] = []


_MESSAGES: Final = msgspec.json.Decoder(list[_Message])
_BLOCKS: Final = msgspec.json.Decoder(list[_Block])
_TOOLS: Final = msgspec.json.Decoder(list[_Tool])
_CONTEXT: Final = msgspec.json.Decoder(_ContextManagement)


class Prompt:
    """What was found. `media_bytes` are the body's bytes that are pictures; `media_tokens` bound them instead."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.media_bytes = 0
        self.media_tokens = 0
        self.tools = 0
        self.client_tool_tokens = 0
        self.unbounded: list[str] = []


def read_prompt(members: Members, family: Family) -> Prompt:
    """Look through messages, system and tools. A shape we do not know is unbounded, not an error."""
    prompt = Prompt(family)
    messages = members.get("messages")
    try:
        for message in _MESSAGES.decode(messages.raw) if messages else ():
            _read_content(prompt, bytes(message.content), 0)
        system = members.get("system")
        _read_content(prompt, system.raw if system else b"", 0)
    except (ValueError, RecursionError):
        prompt.unbounded.append("messages of an unknown shape")
    _read_tools(prompt, members.get("tools"))
    _read_context_management(prompt, members.get("context_management"))
    for name, member in members.items():
        if name not in KNOWN_FIELDS and says_something(member):
            prompt.unbounded.append(_field_reason(name))
    return prompt


def cache_lifetime(body: bytes) -> str:
    """The dearest lifetime that the request may write to the cache: ``, `5m` or `1h`."""
    if may_hide_words(body):
        return "1h"
    if b"cache_control" not in body:
        return ""
    return "1h" if b'"1h"' in body else "5m"


def _read_content(prompt: Prompt, content: bytes, depth: int) -> None:
    if content.startswith(b"["):
        if depth > _NESTING_MAX:
            prompt.unbounded.append("content nested too deeply")
            return
        for block in _BLOCKS.decode(content):
            _read_block(prompt, block, depth)
    elif content.startswith(b"{"):
        prompt.unbounded.append("message content of an unknown shape")


def _read_block(prompt: Prompt, block: _Block, depth: int) -> None:
    if block.type == "tool_result":
        _read_content(prompt, bytes(block.content), depth + 1)
    elif block.type == "image":
        _read_image(prompt, block.source if isinstance(block.source, dict) else {})
    elif block.type not in _INLINE_BLOCKS:
        prompt.unbounded.append(f"content block {shown(block.type or '(none)')}: its length is not in the request")


def _read_image(prompt: Prompt, source: dict[str, Any]) -> None:
    prompt.media_tokens += prompt.family.image
    kind, data = source.get("type"), source.get("data")
    if kind == "base64" and isinstance(data, str) and data.isascii():
        prompt.media_bytes += len(data)
    elif kind not in ("base64", "url"):
        prompt.unbounded.append("an image by its file id")


def _read_tools(prompt: Prompt, tools: Member | None) -> None:
    if tools is None or not says_something(tools):
        return
    try:
        listed = _TOOLS.decode(tools.raw)
    except (ValueError, RecursionError):
        prompt.unbounded.append("tools of an unknown shape")
        return
    prompt.tools = len(listed)
    for tool in listed:
        if tool.type in (None, "custom"):
            continue
        if _CALLER_TOOLS.fullmatch(tool.type):
            prompt.client_tool_tokens += CLIENT_TOOL_TOKENS
        else:
            prompt.unbounded.append(f"tool {shown(tool.type)}: it runs at the provider")


def _read_context_management(prompt: Prompt, management: Member | None) -> None:
    """Edits that clear only shorten the prompt; any other, compaction above all, is a further pass."""
    if management is None or not says_something(management):
        return
    try:
        known = all(edit.type.startswith(_CLEARING_EDITS) for edit in _CONTEXT.decode(management.raw).edits)
    except (ValueError, RecursionError):
        known = False
    if not known:
        prompt.unbounded.append("context_management: compaction is a further pass over the context")


def _field_reason(name: str) -> str:
    return _REASONS.get(name, f"field {shown(name)}: not known, so its cost is not either")


_REASONS: Final = {
    "mcp_servers": "mcp_servers: their tools run at the provider",
    "container": "container: it holds files and runs code at the provider",
    "fallbacks": "fallbacks: a further model at another price",
    "compaction": "compaction: a summary is a pass of its own",
    "thread": "thread: the conversation is held at the provider",
}


def thinks_unseen(members: Members, model: str) -> bool:
    """Whether thinking may be billed that the stream does not show: it is summarised or left out.

    Models of generation 4 and before think only when asked to; later ones unless told not to.
    """
    thinking = decoded(members.get("thinking"))
    if isinstance(thinking, dict):
        return thinking.get("type") != "disabled"
    return _THINKS_WHEN_ASKED.search(model.lower()) is None


_THINKS_WHEN_ASKED: Final = re.compile(r"claude-(?:instant|[23]|(?:opus|sonnet|haiku)-4)(?:\D|\Z)")
