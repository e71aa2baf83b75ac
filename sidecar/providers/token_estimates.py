"""What is known beforehand about tokens: constants per model family, media, and output seen but not billed yet.

The bound of a text is its bytes: a byte-level tokenizer never makes more tokens than bytes, and
JSON's escapes only lengthen. What a provider adds of its own (chat template, tool preamble) is
added as a constant per family, rounded up from the largest ever measured: a bound that is a
little high costs room near a limit, one that is too low costs money.

Sources: templates and preambles measured on 5,390 recorded prompts; image rules from
developers.openai.com/api/docs/guides/images-vision and docs.anthropic.com/en/docs/build-with-claude/vision;
checked 2026-11.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

MODELS_REMEMBERED: Final = 512
"""Names of models whose family need not be looked for again."""


class Family(NamedTuple):
    """What a family adds to a prompt, in tokens, and what one image costs there at most."""

    base: int
    first_tool: int
    each_tool: int
    structured: int
    image: int


OPENAI: Final = Family(base=64, first_tool=250, each_tool=24, structured=64, image=6_200)
CLAUDE: Final = Family(base=100, first_tool=1_000, each_tool=100, structured=400, image=4_800)
OTHER: Final = Family(base=2_000, first_tool=2_000, each_tool=100, structured=400, image=24_600)
"""The most of all families, for a name we cannot place; Cohere's reasoning models set the base and the tools."""

_FAMILIES: Final[tuple[tuple[tuple[str, ...], Family], ...]] = (
    # first match wins, anywhere in the name
    (("gpt-oss",), Family(base=200, first_tool=200, each_tool=60, structured=100, image=6_200)),
    (("gpt-4o-mini",), OPENAI._replace(image=48_200)),  # 2,833 + 5,667 × 8 tiles
    (("claude",), CLAUDE),
    (("gemini", "gemma"), Family(base=64, first_tool=100, each_tool=60, structured=100, image=24_600)),
    (("grok",), Family(base=400, first_tool=700, each_tool=100, structured=100, image=6_200)),
    (("llama",), Family(base=150, first_tool=1_200, each_tool=100, structured=100, image=6_200)),
    (("deepseek",), Family(base=200, first_tool=600, each_tool=100, structured=100, image=24_600)),
    (("mistral", "mixtral", "ministral", "magistral", "codestral", "devstral", "pixtral", "voxtral"),
     Family(base=300, first_tool=150, each_tool=100, structured=100, image=24_600)),
    (("nova",), Family(base=100, first_tool=1_500, each_tool=100, structured=100, image=2_400)),
)  # fmt: skip
_OPENAI_NAMES: Final = ("gpt-", "chatgpt-", "o1", "o3", "o4", "codex-", "ft:gpt-")

ORIGINAL_DETAIL_IMAGE: Final = 24_600
"""An image at `detail: original`: 10,000 patches times the largest multiplier, 2.46."""

AUDIO_PART_TOKENS: Final = 400
"""What a short sound costs beyond its bytes: Voxtral bills 375 for every 30 seconds begun."""

CLIENT_TOOL_TOKENS: Final = 2_000
"""What a tool of Anthropic's own that runs at the caller (bash, computer …) adds at most."""

_SEARCHES_BY_ITSELF: Final = ("-search-preview", "-search-api", "sonar", "compound", "deep-research", ":online")
_SHOWS_WHAT_IT_BILLS: Final = (
    "gpt-3.5", "gpt-4", "chatgpt-4o", "gpt-oss", "claude", "llama", "mistral", "mixtral", "ministral", "codestral",
    "devstral", "pixtral", "gemma", "command", "nova", "deepseek", "qwen", "phi-",
)  # fmt: skip


@lru_cache(maxsize=MODELS_REMEMBERED)
def family_of(model: str) -> Family:
    """The family of a model's name, as a caller or a router may write it; OTHER for what is not known."""
    name = model.lower()
    for words, family in _FAMILIES:
        if any(word in name for word in words):
            return family
    return OPENAI if name.rpartition("/")[2].startswith(_OPENAI_NAMES) else OTHER


@lru_cache(maxsize=MODELS_REMEMBERED)
def searches_by_itself(model: str) -> bool:
    """Whether a model is known to use tools of its own, whose results it bills as input."""
    name = model.lower()
    return any(word in name for word in _SEARCHES_BY_ITSELF)


@lru_cache(maxsize=MODELS_REMEMBERED)
def may_reason_unseen(model: str) -> bool:
    """Whether a model may bill reasoning that its stream does not show; true for a name we cannot place."""
    name = model.lower()
    return not any(word in name for word in _SHOWS_WHAT_IT_BILLS)


EMBEDDING_BASE: Final = 64
"""What a model of embeddings adds to a request: there is no conversation around a text, and no tool."""

EMBEDDED_TEXT_OWN: Final = 8
EMBEDDED_TEXT_OTHER: Final = 64
"""What such a model adds to each text: OpenAI's, Google's and Cohere's their marks of its beginning and end; of others
some put a sentence before it that says what it is for (Voyage's by `input_type`, E5's, Qwen's)."""

_EMBEDS_BARE: Final = (
    "text-embedding",
    "embed-v",
    "embed-english",
    "embed-multilingual",
    "gemini-embedding",
    "titan-embed",
)


@lru_cache(maxsize=MODELS_REMEMBERED)
def embedded_text_frame(model: str) -> int:
    """The tokens that a model of embeddings adds to each text at most."""
    name = model.lower().rpartition("/")[2]
    return EMBEDDED_TEXT_OWN if any(word in name for word in _EMBEDS_BARE) else EMBEDDED_TEXT_OTHER


def prompt_bound(family: Family, *, text_bytes: int, tools: int, structured: bool, media_tokens: int) -> int:
    """Prompt tokens at most, of so many bytes of request without its pictures."""
    bound = text_bytes + family.base + media_tokens
    if tools:
        bound += family.first_tool + family.each_tool * tools
    return bound + family.structured if structured else bound


def output_estimate(pieces: int, visible_bytes: int) -> int:
    """Output tokens of an answer whose figures never came, from what was seen of it.

    Measured on whole streams: one token or fewer per event where every token is an event; where
    events are larger, 0.24 to 0.45 tokens per visible byte. The higher of both, and a margin.
    """
    return max(pieces, -(-2 * visible_bytes // 5)) + ESTIMATE_MARGIN


ESTIMATE_MARGIN: Final = 20
"""Tokens that a stream shows nowhere: the end of the answer, the frame of a tool call."""
