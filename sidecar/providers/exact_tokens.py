"""A lower bound of a prompt, by counting: for OpenAI's own models, where nothing but texts is asked.

The bound of a text is its bytes, three to five times its tokens. Where that would refuse a call, its
texts can be counted instead, and only what the count proves is taken (L0):

- A message's text stands between special tokens of the chat format, so it is encoded by itself, and a
  count of it alone is a count of it in place. A text that could spell a special token (`<|`) is not counted.
- The format adds three tokens a message, its role, and three at the end. MESSAGE_TOKENS is twice what was
  seen in every recorded exchange, and the family's base covers the end and the most that any reasoning
  model was seen to add of its own (seven).
- Pieces of text that are joined in an unknown way, pictures, sound, tools and their calls, schemas,
  predictions and every field that is not known to leave the prompt alone cannot be counted so: then the
  bound stays as it is.

Source: openai/tiktoken tiktoken/model.py (which model has which vocabulary), the OpenAI cookbook's
"How to count tokens with tiktoken", and 283 recorded exchanges by four protocols; checked 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from sidecar.providers.dialect import BadRequest, RequestFacts
from sidecar.providers.request_json import Members, read_object, read_objects, says_something, text_of
from sidecar.providers.token_estimates import EMBEDDED_TEXT_OWN, EMBEDDING_BASE, family_of

CHAT: Final = "openai.chat"
RESPONSES: Final = "openai.responses"
COMPLETIONS: Final = "openai.completions"
EMBEDDINGS: Final = "openai.embeddings"

O200K: Final = "o200k_base"
CL100K: Final = "cl100k_base"

MESSAGE_TOKENS: Final = 8
"""What the chat format adds to a message at most, its role and the mark of a name among it; four were seen."""

TEXTS_MAX: Final = 4096
TEXT_BYTES_MAX: Final = 512 * 1024
"""More is not counted: the dearest texts take a sixth of a second for each megabyte."""

_VOCABULARIES: Final = (
    # first match wins; what follows the name is a date or a size, so a later model is not taken for an earlier one
    (("gpt-4o", "chatgpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "o1", "o3", "o4-mini"), O200K),
    (("gpt-4", "gpt-3.5-turbo"), CL100K),
    (("text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"), CL100K),
)
_GPT_5_POINT: Final = re.compile(r"gpt-5\.\d(?:-(?:mini|nano|pro|latest|\d{2,4}))*", re.ASCII)
_SIZES: Final = frozenset({"mini", "nano", "preview", "latest", "turbo", "instruct", "16k", "32k", "pro"})

_FREE: Final = frozenset({
    "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "messages", "metadata",
    "model", "n", "presence_penalty", "reasoning_effort", "safety_identifier", "seed", "service_tier", "stop",
    "store", "stream", "stream_options", "temperature", "top_logprobs", "top_p", "user",
})  # fmt: skip
"""Fields that add nothing to the prompt; with any other that says something it is not counted."""

_FREE_BY: Final[dict[str, frozenset[str]]] = {
    CHAT: _FREE,
    RESPONSES: frozenset({
        "include", "input", "instructions", "max_output_tokens", "metadata", "model", "parallel_tool_calls",
        "safety_identifier", "service_tier", "store", "stream", "stream_options", "temperature", "top_logprobs",
        "top_p", "user",
    }),
    COMPLETIONS: (_FREE - {"messages"}) | {"best_of", "echo", "prompt"},
    EMBEDDINGS: frozenset({"dimensions", "encoding_format", "input", "model", "user"}),
}  # fmt: skip
COUNTED_PROTOCOLS: Final = frozenset(_FREE_BY)

_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})
_TEXTS: Final = msgspec.json.Decoder(list[str])

_ROLES: Final = frozenset({"system", "developer", "user", "assistant"})
_COUNTED: Final = frozenset({"role", "content", "name"})
_SPECIAL: Final = "<|"


class Tokenizer(Protocol):
    """Counts what a vocabulary makes of texts. Not called on the loop's thread."""

    def count(self, vocabulary: str, texts: list[str]) -> int:
        """The tokens of all of them, each encoded by itself.

        Raises:
            Exception: whatever goes wrong; then nothing is proved.
        """
        ...


class Countable(msgspec.Struct, frozen=True):
    """What of a prompt is to be counted, and what its frame adds at most."""

    vocabulary: str
    texts: list[str]
    frame_tokens: int


def vocabulary_of(model: str) -> str | None:
    """The vocabulary of one of OpenAI's models, fine-tuned or dated; None for a name that is not known to have one."""
    name = model.removeprefix("ft:").partition(":")[0] if model.startswith("ft:") else model
    for names, vocabulary in _VOCABULARIES:
        for known in names:
            if name == known or (name.startswith(f"{known}-") and _is_variant(name[len(known) + 1 :])):
                return vocabulary
    return O200K if _GPT_5_POINT.fullmatch(name) else None


def _is_variant(rest: str) -> bool:
    """Whether all that a name has more is sizes and dates: what else there is (search, audio) brings context."""
    return all(part in _SIZES or (part.isascii() and part.isdigit()) for part in rest.split("-"))


def countable(facts: RequestFacts, protocol: str = CHAT) -> Countable | None:
    """What is to be counted of a prompt; None: its bound stays.

    Args:
        facts: of the request.
        protocol: by which it is asked, one of COUNTED_PROTOCOLS.
    """
    vocabulary = vocabulary_of(facts.model)
    if vocabulary is None or facts.ceiling.audio or facts.ceiling.unbounded or len(facts.body) > 2 * TEXT_BYTES_MAX:
        return None
    try:
        members = read_object(facts.body)
        free, texts, messages = _FREE_BY[protocol], list[str](), 0
        if any(name not in free and says_something(member) for name, member in members.items()):
            return None
        for found in _held(members, protocol):
            if found is None or len(texts) + len(found) > TEXTS_MAX:
                return None
            messages += 1
            texts += found
    except (BadRequest, ValueError, RecursionError):
        return None
    if not messages or any(_SPECIAL in text for text in texts) or sum(map(len, texts)) > TEXT_BYTES_MAX:
        return None
    if protocol == EMBEDDINGS:
        return Countable(vocabulary, texts, EMBEDDING_BASE + EMBEDDED_TEXT_OWN * len(texts))
    return Countable(vocabulary, texts, family_of(facts.model).base + MESSAGE_TOKENS * messages)


def _held(members: Members, protocol: str) -> Iterator[list[str] | None]:
    """The texts of each message, item or text; None for one that holds anything else."""
    if protocol == CHAT:
        if "messages" in members:
            for message in read_objects(members["messages"].raw, param="messages"):
                yield _texts_of(message)
        return
    if says_something(members.get("instructions")):
        yield _only(text_of(members["instructions"].raw))
    name = "prompt" if protocol == COMPLETIONS else "input"
    asked = members[name].raw if name in members else b"null"
    if not asked.startswith(b"["):
        yield _only(text_of(asked))
    elif protocol == RESPONSES:
        for item in read_objects(asked, param=name):
            plain = item if text_of(item.get("type")) != "message" else {k: v for k, v in item.items() if k != "type"}
            yield None if "name" in plain else _texts_of(plain)
    else:
        for text in _TEXTS.decode(asked):
            yield [text]


def _only(text: str | None) -> list[str] | None:
    return None if text is None else [text]


def _texts_of(message: dict[str, msgspec.Raw]) -> list[str] | None:
    """A message's texts, None where it holds anything else."""
    if not message.keys() <= _COUNTED or text_of(message.get("role")) not in _ROLES:
        return None
    content = text_of(message.get("content"))
    if content is None:
        content = _only_part(bytes(message.get("content", b"")))
    if content is None:
        return None
    if "name" not in message:
        return [content]
    name = text_of(message["name"])
    return None if name is None else [content, name]


def _only_part(content: bytes) -> str | None:
    """The text of a content that is one part of text."""
    if not content.startswith(b"["):
        return None
    parts = read_objects(content, param="content")
    if len(parts) != 1 or parts[0].keys() != {"type", "text"} or text_of(parts[0]["type"]) not in _TEXT_PARTS:
        return None
    return text_of(parts[0]["text"])


def counted(facts: RequestFacts, found: Countable, tokens: int) -> RequestFacts | None:
    """The same request with the bound that `tokens` of its texts prove; None where that is no lower."""
    bound = tokens + found.frame_tokens
    if not tokens >= 0 or bound >= facts.ceiling.input_tokens:
        return None
    return msgspec.structs.replace(facts, ceiling=msgspec.structs.replace(facts.ceiling, input_tokens=bound))
