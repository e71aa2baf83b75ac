"""What a prompt to Amazon Bedrock's Converse can cost beyond its own bytes.

Text is bounded by its bytes, a picture by the most that the model's family bills for one. Documents, videos, what
lies in S3, tools that run at Amazon, prompts and guardrails that are stored there have no bound, and say so by name;
so does a field or a kind of block we do not know. Fields for the model alone (`additionalModelRequestFields`) are
merged into the model's own request and may say anything there, a higher output limit too: but for a few that are
known they have no bound either.

Source: boto/botocore `data/bedrock-runtime/2023-09-30/service-2.json` (ConverseRequest, ContentBlock, Tool),
docs.aws.amazon.com "Converse API", "Prompt caching"; checked 2026-11.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.pricing.ceilings import WITHIN_WINDOW
from sidecar.providers.dialect import BadRequest
from sidecar.providers.image_tokens import claude_image_tokens, size_of
from sidecar.providers.request_json import (
    Member,
    Members,
    Reasons,
    may_hide_words,
    not_known,
    read_inner,
    read_objects,
    says_something,
    shown,
    text_of,
)
from sidecar.providers.token_estimates import CLAUDE, Family

KNOWN_FIELDS: Final = frozenset(
    {"additionalModelRequestFields", "additionalModelResponseFieldPaths", "inferenceConfig", "messages", "outputConfig",
     "performanceConfig", "requestMetadata", "schemaVersion", "serviceTier", "system", "toolConfig"}
)  # fmt: skip
"""Fields that cannot make a call cost more than its bytes and its output limit say."""

_KNOWN_ADDITIONS: Final = frozenset(
    {"output_config", "reasoning_config", "reasoningConfig", "reasoning_effort", "thinking", "top_k"}
)
_INLINE_BLOCKS: Final = frozenset(
    {"text", "toolUse", "reasoningContent", "guardContent", "citationsContent", "searchResult", "cachePoint", "json"}
)
_NESTING_MAX: Final = 2
"""Content within a tool's result, and no deeper."""


class Prompt:
    """What was found. `media_bytes` are the body's bytes that are pictures; `media_tokens` bound them instead."""

    def __init__(self, family: Family, model: str) -> None:
        self.family = family
        self.model = model
        self.media_bytes = 0
        self.media_tokens = 0
        self.tools = 0
        self.unbounded = Reasons()


def read_prompt(members: Members, family: Family, model: str) -> Prompt:
    """Look through messages, system and tools. A shape we do not know is unbounded, not an error.

    Raises:
        BadRequest: a key stands twice in a message, a block, a picture's source or a tool.
    """
    prompt = Prompt(family, model)
    try:
        if "messages" in members:
            usual = ("role", "content")
            for message in read_objects(members["messages"].raw, param="messages", usual=usual, read_on=("content",)):
                _read_blocks(prompt, bytes(message.get("content", b"[]")), "messages", 0)
        if "system" in members and says_something(members["system"]):
            _read_blocks(prompt, members["system"].raw, "system", 0)
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        prompt.unbounded.append("messages of an unknown shape")
    _read_tools(prompt, members.get("toolConfig"))
    _read_additions(prompt, members.get("additionalModelRequestFields"))
    for name, member in members.items():
        if name not in KNOWN_FIELDS and says_something(member):
            prompt.unbounded.append(_REASONS.get(name, not_known(name)))
    return prompt


def cache_lifetime(body: bytes) -> str:
    """The dearest lifetime that the request may write to the cache: ``, `5m` or `1h`."""
    if may_hide_words(body):
        return "1h"
    if b'"cachePoint"' not in body:
        return ""
    return "1h" if b'"1h"' in body else "5m"


def _read_blocks(prompt: Prompt, raw: bytes, param: str, depth: int) -> None:
    for block in read_objects(raw, param=param):
        for kind, value in block.items():
            if kind == "toolResult" and depth < _NESTING_MAX:
                inner = read_inner(bytes(value), param=param)
                _read_blocks(prompt, inner.get("content", b"[]"), param, depth + 1)
            elif kind == "image":
                _read_image(prompt, bytes(value), param)
            elif kind not in _INLINE_BLOCKS:
                window = WITHIN_WINDOW if kind == "document" else ""
                prompt.unbounded.append(f"content block {shown(kind)}: its bytes do not bound its tokens{window}")


def _read_image(prompt: Prompt, raw: bytes, param: str) -> None:
    source = read_inner(read_inner(raw, param=param).get("source", b""), param=param)
    data = text_of(source.get("bytes"))
    if prompt.family is CLAUDE:
        prompt.media_tokens += claude_image_tokens(prompt.model, None if data is None else size_of(data))
    else:
        prompt.media_tokens += prompt.family.image
    if data is not None and data.isascii():
        prompt.media_bytes += len(data)


def _read_tools(prompt: Prompt, config: Member | None) -> None:
    if config is None or not says_something(config):
        return
    try:
        for tool in read_objects(read_inner(config.raw, param="toolConfig").get("tools", b"[]"), param="toolConfig"):
            prompt.tools += "toolSpec" in tool
            for kind in tool.keys() - {"toolSpec", "cachePoint"}:
                prompt.unbounded.append(f"tool {shown(kind)}: it runs at the provider")
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        prompt.unbounded.append("tools of an unknown shape")


def _read_additions(prompt: Prompt, additions: Member | None) -> None:
    if additions is None or not says_something(additions):
        return
    for name, raw in read_inner(additions.raw, param="additionalModelRequestFields").items():
        if name not in _KNOWN_ADDITIONS and not (name == "inferenceConfig" and _only_sampling(raw)):
            prompt.unbounded.append(not_known(name, "additionalModelRequestFields."))


def _only_sampling(raw: bytes) -> bool:
    return read_inner(raw, param="additionalModelRequestFields").keys() <= {"topK"}


_REASONS: Final = {
    "guardrailConfig": "guardrailConfig: its policies are billed beside the tokens",
    "promptVariables": "promptVariables: the prompt is stored at the provider",
}


def thinking_budget(members: Members) -> int:
    """The tokens that a request sets aside for thinking, which its output limit must exceed; 0 for none."""
    additions = members.get("additionalModelRequestFields")
    if additions is None:
        return 0
    inner = read_inner(additions.raw, param="additionalModelRequestFields")
    budgets = [
        read_inner(inner.get(name, b""), param="additionalModelRequestFields").get("budget_tokens", b"0")
        for name in ("thinking", "reasoning_config")
    ]
    return max(int(raw) if raw.isdigit() and len(raw) < 10 else 0 for raw in budgets)


def asked_tier(members: Members) -> str | None:
    """The tier that is asked for: a service tier's name, or `latency-optimized`; None for what is the default.

    Raises:
        BadRequest: a key stands twice there.
    """
    for name, key in (("performanceConfig", "latency"), ("serviceTier", "type")):
        member = members.get(name)
        word = text_of(read_inner(member.raw, param=name).get(key)) if member is not None else None
        if word and word not in {"standard", "default"}:
            return f"latency-{shown(word)}" if key == "latency" else shown(word)
    return None
