"""The cheap bound of a prompt: right for at least 99 of 100, and near enough to be shown to people.

The bound that a hard budget holds (`token_estimates.prompt_bound`) is the prompt's bytes, three to five times its
tokens. For what is only shown, that says too little. So its texts are taken apart as tokenizers do before they merge
anything: words, numbers, signs, spaces. A word of six letters is one token and every further six one more; two digits,
two signs, two bytes of other scripts one; and of all that a quarter more. What the provider adds of its own (chat
template, tool preamble) is a constant per family. It is **not** a bound in the sense of L0: nothing is ever refused or
held by it.

Of long texts only a part is taken apart; of the rest two and a half bytes make a token, which most texts stay above.

Sources: OpenAI's `num_tokens_from_messages` (three tokens a message, three for the answer); Anthropic's table of the
tool use system prompt; Meta's prompt format of Llama 3 (a system message with two dates); Cohere's `billed_units`,
without its template. What they do not tell is measured on recorded text-only prompts, family by family, and rounded up,
but not to the few whose context is not in the request; checked 2026-11. `tests/recordings/test_cheap_bounds.py` holds
it to the shared recordings.
"""

from __future__ import annotations

import re
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


_OTHER: Final = _Adds(40, 250, 20, 60)
_FAMILIES: Final[tuple[tuple[tuple[str, ...], _Adds], ...]] = (
    # first match wins, anywhere in the name
    (("gpt-oss",), _Adds(75, 60, 20, 60)),
    (("embed", "voyage-", "rerank"), _Adds(4, 0, 0, 0)),
    (("claude",), _Adds(36, 600, 60, 250)),
    (("gemini", "gemma"), _Adds(8, 10, 10, 20)),
    (("nova",), _Adds(20, 900, 60, 60)),
    (("command-a", "command-r", "c4ai", "cohere"), _Adds(8, 30, 20, 20)),
    (("command",), _Adds(60, 30, 20, 20)),
    (("grok",), _Adds(220, 400, 40, 60)),
    (("llama",), _Adds(45, 650, 20, 60)),
    (("deepseek-v4",), _Adds(90, 300, 20, 60)),
    (("deepseek",), _Adds(12, 300, 20, 60)),
    (("mistral", "mixtral", "ministral", "magistral", "codestral", "devstral"), _Adds(12, 30, 20, 40)),
    (("gpt-", "o1", "o3", "o4", "codex", "davinci", "babbage"), _Adds(8, 60, 10, 20)),
)  # fmt: skip

_DENSER: Final = ("opus-4-7", "opus-4-8", "opus-4-9", "opus-5", "sonnet-5", "haiku-5", "fable", "mythos")
"""Names of Claude's models whose tokenizer makes up to a third more tokens of a text (Anthropic, "What's new")."""

_MESSAGE_TOKENS: Final = 4
_MARGIN_PERCENT: Final = 130
_CLAUDE_PERCENT: Final = 145
_DENSE_PERCENT: Final = 180
"""Of the pieces of a text: Claude's tokenizers make more of it than others'."""

TAKEN_APART_MAX: Final = 16 * 1024
"""Characters of a request's texts that are taken apart: some milliseconds."""

_PIECES: Final = re.compile(
    r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\sA-Za-z0-9\x80-\U0010ffff]+|[\x80-\U0010ffff]+|\n\s*|\s{2,}"
)
_FRAME: Final = frozenset({"role", "content", "type", "text", "parts"})
"""Names of members that are the frame of a message, and not its text."""

_FRAME_VALUES: Final = frozenset({"role", "type"})
_PROMPTS: Final = frozenset({
    "messages", "input", "prompt", "contents", "content", "requests", "message", "chat_history", "texts",
    "inputText", "inputs", "instances",
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


@lru_cache(maxsize=MODELS_REMEMBERED)
def _percent_of(model: str) -> int:
    name = model.lower()
    if any(word in name for word in _DENSER):
        return _DENSE_PERCENT
    return _CLAUDE_PERCENT if "claude" in name else _MARGIN_PERCENT


class _Walk:
    """What the texts of a request come to. `media`: there is something whose bytes say nothing of its tokens."""

    def __init__(self) -> None:
        self.text_tokens = 0
        self.apart = TAKEN_APART_MAX
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
                self.text(one)
            elif isinstance(one, list):
                waiting += one
            elif isinstance(one, dict):
                self._members(one, waiting)
            elif isinstance(one, int | float):
                self.text_tokens += 1 if isinstance(one, bool) else (len(str(one)) + 1) // 2
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
            if name in _FRAME_VALUES and isinstance(value, str):
                continue
            if name not in _FRAME:
                self.text(name)
            waiting.append(value)

    def text(self, text: str) -> None:
        """Take in a text."""
        near = text[: self.apart]
        self.apart -= len(near)
        self.text_tokens += sum(map(_tokens_of, _PIECES.findall(near)))
        if len(near) < len(text):
            self.text_tokens += -(-2 * len(text[len(near) :].encode()) // 5)


def _tokens_of(piece: str) -> int:
    """Of a word, a number, a row of signs, spaces that are not one, or letters of another script."""
    first, length = piece[0], len(piece)
    if first >= "\x80":
        return -(-len(piece.encode()) // 2)
    if first.isalpha():
        return 1 + (length - 1) // 6
    return 1 if first.isspace() else (length + 1) // 2


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
    if tools:
        walk.text(msgspec.json.encode(tools).decode())
    percent = _percent_of(model)
    bound = -(-percent * walk.text_tokens // 100) - (-walk.sealed_bytes // 4) + _MESSAGE_TOKENS * messages + adds.base
    if tools:
        bound += adds.first_tool + adds.each_tool * len(tools)
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
