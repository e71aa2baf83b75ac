"""The cheap bound of a prompt: right for at least 99 of 100, and near enough to be shown to people.

The bound that a hard budget holds (`token_estimates.prompt_bound`) is the prompt's bytes, three to five times its
tokens. For what is only shown, that says too little. So the texts are taken at two and a half bytes a token, which
dense JSON and most languages stay above, and what the provider adds of its own (chat template, tool preamble) at
constants per family. It is **not** a bound in the sense of L0: nothing is ever refused or held by it.

Sources: the formula and its constants were measured on 5,390 recorded text-only prompts, checked 2026-11;
`tests/recordings/test_cheap_bounds.py` holds it to the shared recordings.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from sidecar.providers.token_estimates import MODELS_REMEMBERED

BODY_BYTES_MAX: Final = 2**20
"""Of a longer body nothing is told: it is walked for a display, on the loop's thread."""

VALUES_MAX: Final = 100_000
"""Values of a body that are walked at most."""


class _Adds(NamedTuple):
    """What a family adds: to each prompt, with the first tool, with each tool, with a schema for the answer."""

    base: int
    first_tool: int
    each_tool: int
    structured: int


_OTHER: Final = _Adds(90, 400, 60, 100)
_FAMILIES: Final[tuple[tuple[tuple[str, ...], _Adds], ...]] = (
    # first match wins, anywhere in the name
    (("gpt-oss",), _Adds(90, 60, 30, 60)),
    (("claude",), _Adds(40, 650, 60, 250)),
    (("gemini", "gemma"), _Adds(2, 40, 30, 40)),
    (("nova",), _Adds(40, 900, 60, 60)),
    (("reasoning",), _Adds(1_400, 1_550, 60, 300)),  # Cohere's
    (("command", "c4ai", "cohere"), _Adds(600, 1_550, 60, 300)),
    (("grok",), _Adds(220, 400, 60, 60)),
    (("llama",), _Adds(60, 700, 60, 60)),
    (("deepseek",), _Adds(100, 350, 60, 60)),
    (("mistral", "mixtral", "ministral", "magistral", "codestral", "devstral"), _Adds(8, 40, 60, 60)),
    (("gpt-", "o1", "o3", "o4", "codex", "davinci", "babbage", "text-embedding"), _Adds(8, 100, 12, 20)),
)  # fmt: skip

_MESSAGE_TOKENS: Final = 6
_PROMPTS: Final = frozenset({
    "messages", "input", "prompt", "contents", "content", "requests", "message", "chat_history", "texts",
})  # fmt: skip
_SYSTEM: Final = frozenset({"system", "instructions", "systemInstruction", "system_instruction", "preamble", "suffix"})
_TOOLS: Final = frozenset({"tools", "functions", "toolConfig"})
_SCHEMAS: Final = frozenset({
    "response_format", "format", "responseSchema", "response_schema", "responseJsonSchema", "output_config",
    "outputConfig", "output_format",
})  # fmt: skip
_HOLDS_SCHEMAS: Final = frozenset({"generationConfig", "generation_config", "text"})
_SEALED: Final = frozenset({
    "encrypted_content", "signature", "thoughtSignature", "thought_signature", "redactedContent", "encrypted_index",
})  # fmt: skip
"""Members whose text is sealed: four of its characters make a token at most."""

_MEDIA: Final = frozenset({
    "image_url", "input_audio", "file_data", "file_id", "fileData", "file_uri", "inlineData", "inline_data", "images",
    "image", "document", "video", "audio",
})  # fmt: skip
_MEDIA_KINDS: Final = frozenset({"base64", "image", "document", "input_image", "input_file", "file"})


@lru_cache(maxsize=MODELS_REMEMBERED)
def _adds_of(model: str) -> _Adds:
    name = model.lower()
    return next((adds for words, adds in _FAMILIES if any(word in name for word in words)), _OTHER)


class _Walk:
    """What the texts of a request come to. `media`: there is something whose bytes say nothing of its tokens."""

    def __init__(self) -> None:
        self.text_bytes = 0
        self.sealed_bytes = 0
        self.media = False
        self.left = VALUES_MAX

    def add(self, value: Any) -> None:
        """Take in a value and all within it, without recursion."""
        waiting = [value]
        while waiting and self.left > 0:
            self.left -= 1
            one = waiting.pop()
            if isinstance(one, str):
                self.text_bytes += len(one.encode())
            elif isinstance(one, list):
                waiting += one
            elif isinstance(one, dict):
                self._members(one, waiting)
            elif isinstance(one, int | float):
                self.text_bytes += len(str(one)) if not isinstance(one, bool) else 5
        self.left -= len(waiting)

    def _members(self, members: dict[str, Any], waiting: list[Any]) -> None:
        kind = members.get("type")
        if isinstance(kind, str) and kind in _MEDIA_KINDS and len(members) > 1:
            self.media = True
        for name, value in members.items():
            if name in _SEALED and isinstance(value, str):
                self.sealed_bytes += len(value)
                continue
            if name in _MEDIA and value and isinstance(value, str | dict | list):
                self.media = True
            self.text_bytes += len(name.encode())
            waiting.append(value)


def cheap_bound(model: str, body: bytes) -> int | None:
    """The tokens of a request's prompt, rarely more; None where it is not texts alone, or too long to be walked.

    Args:
        model: as a caller, a path or a rate card has it.
        body: of any protocol that is metered; a history held at the provider is not in it and not counted.
    """
    if len(body) > BODY_BYTES_MAX:
        return None
    try:
        members = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(members, dict):
        return None
    adds, walk, messages, structured = _adds_of(model), _Walk(), 0, False
    tools: list[Any] = []
    for name, value in members.items():
        if name in _PROMPTS or name in _SYSTEM:
            messages += len(value) if isinstance(value, list) and name in _PROMPTS else 1
            walk.add(value)
        elif name in _TOOLS:
            tools += _tools_in(value)
        elif name in _SCHEMAS or name in _HOLDS_SCHEMAS:
            schema = _schema_in(value) if name in _HOLDS_SCHEMAS else value
            structured = structured or bool(schema)
            walk.add(schema)
    if walk.media or walk.left <= 0:
        return None
    bound = -(-2 * walk.text_bytes // 5) - (-walk.sealed_bytes // 4) + _MESSAGE_TOKENS * messages + adds.base
    if tools:
        written = len(msgspec.json.encode(tools))
        bound += adds.first_tool + adds.each_tool * len(tools) - (-written // 3)
    return bound + adds.structured if structured else bound


def _tools_in(value: Any) -> list[Any]:
    """Each tool of a request's, those among them that Google's and Amazon's lists hold one level deeper."""
    if isinstance(value, dict):
        value = value.get("tools")
    if not isinstance(value, list):
        return []
    tools: list[Any] = []
    for tool in value:
        inner = None
        if isinstance(tool, dict):
            inner = tool.get("functionDeclarations") or tool.get("function_declarations")
        tools += inner if isinstance(inner, list) else [tool]
    return tools


def _schema_in(value: Any) -> Any:
    """The schema that a member of other things holds, None where it holds none."""
    if not isinstance(value, dict):
        return None
    for name in ("responseSchema", "response_schema", "responseJsonSchema", "format"):
        if value.get(name):
            return value[name]
    return None
