"""What an Anthropic prompt can cost beyond its own bytes: pictures, caching, what runs at the provider.

Text is bounded by its bytes, a picture by its size, or by the largest that the API scales one to. Documents, files,
tools that run at Anthropic, connected servers and held conversations bring input that is not in the
request and is read several times within one call: they have no bound, and say so by name. So does
a top-level field or a kind of block we do not know.

Source: anthropics/anthropic-sdk-python src/anthropic/types/beta/message_create_params.py and
beta_content_block_param.py, checked 2026-11.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from sidecar.core.pricing.ceilings import WITHIN_WINDOW
from sidecar.providers.dialect import BadRequest
from sidecar.providers.image_tokens import claude_image_tokens, size_of
from sidecar.providers.request_json import (
    Member,
    Members,
    Reasons,
    is_text,
    lists_nothing,
    may_hide_words,
    not_known,
    read_inner,
    read_objects,
    refuse_unfit,
    says_something,
    shown,
    text_of,
    tools_in,
)
from sidecar.providers.token_estimates import CLAUDE, CLIENT_TOOL_TOKENS, Family

KNOWN_FIELDS: Final = frozenset(
    {
        "anthropic_beta", "anthropic_version", "billing_policy", "cache_control", "context_management", "diagnostics",
        "fallback_credit_token", "inference_geo", "max_tokens", "messages", "metadata", "model", "output_config",
        "output_format", "service_tier", "speed", "stop_sequences", "stream", "system", "temperature", "thinking",
        "tool_choice", "tools", "top_k", "top_p",
    }
)  # fmt: skip
"""Fields that cannot make a call cost more than its bytes and its output limit say."""

_PARTS: Final = frozenset({"content", "source"})
"""Members of a block that hold further blocks or a picture, and are read by themselves."""

_NOT_SEARCHED: Final = ("text", "source")
"""Members of a block of text that `read_objects` leaves to us."""

_INLINE_BLOCKS: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use", "search_result"})
_CALLER_TOOLS: Final = re.compile(r"(?:bash|text_editor|computer|memory)_\d+", re.ASCII)
_LISTS: Final = frozenset({"mcp_servers"})
"""Fields that are not known to be free, and are documented as lists: an empty one asks for nothing."""

_CLEARING_EDITS: Final = "clear_"
_NESTING_MAX: Final = 8
"""Tool results within tool results; the API allows one."""


class Prompt:
    """What was found. `media_bytes` are the body's bytes that are pictures; `media_tokens` bound them instead."""

    def __init__(self, family: Family, model: str) -> None:
        self.family = family
        self.model = model
        self.media_bytes = 0
        self.media_tokens = 0
        self.tools = 0
        self.client_tool_tokens = 0
        self.unbounded = Reasons()


def read_prompt(members: Members, family: Family, model: str) -> Prompt:
    """Look through messages, system and tools. A shape we do not know is unbounded, not an error.

    Raises:
        BadRequest: a key stands twice in a message, a block, a picture's source or a tool.
    """
    prompt = Prompt(family, model)
    messages, system = members.get("messages"), members.get("system")
    try:
        written = b"[]" if messages is None else messages.raw
        for message in read_objects(written, param="messages", usual=("role", "content"), read_on=("content",)):
            _read_content(prompt, bytes(message.get("content", b"")), 0)
        _read_content(prompt, system.raw if system else b"", 0)
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        prompt.unbounded.append("messages of an unknown shape")
    _read_tools(prompt, members.get("tools"))
    _read_context_management(prompt, members.get("context_management"))
    for name, member in members.items():
        if name not in KNOWN_FIELDS and says_something(member) and not (name in _LISTS and lists_nothing(member)):
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
        for block in read_objects(content, param="content", usual=("type", "text"), read_on=_PARTS):
            _read_block(prompt, block, depth)
    elif content.startswith(b"{"):
        prompt.unbounded.append("message content of an unknown shape")
    elif not content.startswith(b'"'):
        refuse_unfit(content, "content")


def _read_block(prompt: Prompt, block: dict[str, msgspec.Raw], depth: int) -> None:
    kind = text_of(block.get("type"))
    if "content" in block:
        _read_content(prompt, bytes(block["content"]), depth + 1)
    if kind == "image":
        _read_image(prompt, bytes(block.get("source", b"")))
    elif kind in _INLINE_BLOCKS:
        for name in _NOT_SEARCHED:
            if name in block and not is_text(block[name]):
                refuse_unfit(bytes(block[name]), "content")
    elif kind == "document":
        prompt.unbounded.append(f"{_unknown_block(kind)}{WITHIN_WINDOW}")
    elif kind != "tool_result":
        prompt.unbounded.append(_NAMELESS_BLOCK if kind is None else _unknown_block(kind))


def _unknown_block(kind: str) -> str:
    return f"content block {shown(kind)}: its length is not in the request"


_NAMELESS_BLOCK: Final = _unknown_block("(none)")


def _read_image(prompt: Prompt, source: bytes) -> None:
    inner = read_inner(source, param="source")
    kind, data = text_of(inner.get("type")), text_of(inner.get("data"))
    if prompt.family is CLAUDE:
        size = size_of(data) if kind == "base64" and data is not None else None
        prompt.media_tokens += claude_image_tokens(prompt.model, size)
    else:
        prompt.media_tokens += prompt.family.image
    if kind == "base64" and data is not None and data.isascii():
        prompt.media_bytes += len(data)
    elif kind not in ("base64", "url"):
        prompt.unbounded.append(f"an image by its file id{WITHIN_WINDOW}")


def _read_tools(prompt: Prompt, tools: Member | None) -> None:
    listed = tools_in(tools, prompt.unbounded)
    prompt.tools = len(listed)
    for tool in listed:
        written = bytes(tool.get("type", b"null"))
        kind = text_of(written)
        if written == b"null" or kind == "custom":
            continue
        if kind is not None and _CALLER_TOOLS.fullmatch(kind):
            prompt.client_tool_tokens += CLIENT_TOOL_TOKENS
        else:
            prompt.unbounded.append(f"tool {shown(kind or '')}: it runs at the provider")


def _read_context_management(prompt: Prompt, management: Member | None) -> None:
    """Edits that clear only shorten the prompt; any other, compaction above all, is a further pass."""
    if management is None or not says_something(management):
        return
    try:
        known = management.raw.startswith(b"{") and _only_clears(management.raw)
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        known = False
    if not known:
        prompt.unbounded.append("context_management: compaction is a further pass over the context")


def _only_clears(management: bytes) -> bool:
    edits = read_inner(management, param="context_management").get("edits", b"[]")
    kinds = (text_of(edit.get("type")) or "" for edit in read_objects(edits, param="context_management"))
    return all(kind.startswith(_CLEARING_EDITS) for kind in kinds)


def _field_reason(name: str) -> str:
    return _REASONS.get(name, not_known(name))


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
    thinking = members.get("thinking")
    if thinking is not None and thinking.raw.startswith(b"{"):
        return text_of(read_inner(thinking.raw, param="thinking").get("type")) != "disabled"
    return _THINKS_WHEN_ASKED.search(model.lower()) is None


def thinking_budget(members: Members) -> int:
    """The tokens that a request sets aside for thinking, which its output limit must exceed; 0 for none.

    Source: docs.anthropic.com/en/docs/build-with-claude/extended-thinking, checked 2026-11.
    """
    thinking = members.get("thinking")
    if thinking is None or not thinking.raw.startswith(b"{"):
        return 0
    written = read_inner(thinking.raw, param="thinking").get("budget_tokens", b"0")
    return int(written) if written.isdigit() and len(written) < 12 else 0


_THINKS_WHEN_ASKED: Final = re.compile(r"claude-(?:instant|[23]|(?:opus|sonnet|haiku)-4)(?:\D|\Z)")
