"""Which dialect a path speaks: the doors of every protocol, in one table.

Sources: the API references of OpenAI, Anthropic, Azure OpenAI, Mistral, Groq, OpenRouter and xAI, and the clients'
own `resources/` folders; checked 2026-11.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from sidecar.providers.anthropic import AnthropicMessages
from sidecar.providers.cloud_doors import CLOUD_DOORS, SHAPED_DOORS
from sidecar.providers.dialect import Dialect, Shape
from sidecar.providers.doors import PATH_SHOWN_MAX, Door, DoorTable, Kind
from sidecar.providers.ollama import Ollama, OllamaEmbeddings
from sidecar.providers.openai_chat import OpenAIChat
from sidecar.providers.openai_completions import OpenAICompletions
from sidecar.providers.openai_embeddings import OpenAIEmbeddings, OpenAIModerations
from sidecar.providers.openai_images import OpenAIImages
from sidecar.providers.openai_responses import OpenAIResponses

PATHS_REMEMBERED: Final = 256
"""Ends of paths whose errors' form is remembered."""

OPENAI_CHAT: Final = OpenAIChat()
OPENAI_RESPONSES: Final = OpenAIResponses()
OPENAI_COMPLETIONS: Final = OpenAICompletions()
OPENAI_EMBEDDINGS: Final = OpenAIEmbeddings()
OPENAI_MODERATIONS: Final = OpenAIModerations()
OPENAI_IMAGES: Final = OpenAIImages()
ANTHROPIC_MESSAGES: Final = AnthropicMessages()
OLLAMA: Final = Ollama()
OLLAMA_EMBEDDINGS: Final = OllamaEmbeddings()

_OPENAI: Final = Shape.OPENAI
_ANTHROPIC: Final = Shape.ANTHROPIC
_BARE: Final = r"(?:/v1|\A(?:/[^/]+)?)"
"""Before Anthropic's own paths: the version, or nothing but one upstream's name, as one client sends it."""

_ID: Final = r"/[^/]+"
_BELOW: Final = r"(?:/.*)?"

OPENAI_DOORS: Final = (
    Door("POST", "/chat/completions", _OPENAI, OPENAI_CHAT),
    Door("POST", "/responses", _OPENAI, OPENAI_RESPONSES),
    Door("POST", "/responses/compact", _OPENAI, OPENAI_RESPONSES),
    Door("POST", "/agents/completions", _OPENAI, kind=Kind.AGENTS),
    Door("POST", "(?:/fim)?/completions", _OPENAI, OPENAI_COMPLETIONS),
    Door("POST", "/embeddings", _OPENAI, OPENAI_EMBEDDINGS),
    Door("POST", "/images/generations", _OPENAI, OPENAI_IMAGES),
    Door("POST", "/images/(?:edits|variations)", _OPENAI, kind=Kind.IMAGES),
    Door("POST", "/(?:chat/)?(?:moderations|classifications)", _OPENAI, OPENAI_MODERATIONS),
    Door("GET", rf"/models(?:{_ID})?", _OPENAI, kind=Kind.FREE),
    Door("POST", "/responses/input_tokens", _OPENAI, kind=Kind.FREE),
    Door("GET", rf"/chat/deferred-completion{_ID}", _OPENAI, kind=Kind.BACKGROUND),
    Door("GET DELETE", rf"/(?:responses|chat/completions){_ID}", _OPENAI, kind=Kind.STORED),
    Door("GET", rf"/(?:responses|chat/completions){_ID}/(?:input_items|messages)", _OPENAI, kind=Kind.STORED),
    Door("POST", rf"/responses{_ID}/cancel", _OPENAI, kind=Kind.STORED),
    Door("*", rf"/(?:files|uploads|vector_stores|containers){_BELOW}", _OPENAI, kind=Kind.FILES),
    Door("*", rf"/(?:batches|batch){_BELOW}", _OPENAI, kind=Kind.BATCH),
    Door("*", rf"/realtime{_BELOW}", _OPENAI, kind=Kind.REALTIME),
    Door("*", rf"/audio{_BELOW}", _OPENAI, kind=Kind.AUDIO),
    Door("*", rf"/videos{_BELOW}", _OPENAI, kind=Kind.VIDEO),
    Door("*", rf"/(?:assistants|threads|agents|conversations|chatkit){_BELOW}", _OPENAI, kind=Kind.AGENTS),
    Door("*", rf"/(?:fine_tuning|fine-tunes|evals){_BELOW}", _OPENAI, kind=Kind.TRAINING),
)
"""OpenAI's, Azure's, and every server's that speaks as they do."""

OLLAMA_DOORS: Final = (
    Door("POST", "/api/(?:chat|generate)", Shape.OLLAMA, OLLAMA),
    Door("POST", "/api/(?:embed|embeddings)", Shape.OLLAMA, OLLAMA_EMBEDDINGS),
    Door("GET", "/api/(?:tags|ps|version)", Shape.OLLAMA, kind=Kind.FREE),
    Door("POST", "/api/show", Shape.OLLAMA, kind=Kind.FREE),
    Door("*", "/api/(?:pull|push|create|copy|delete|web_search|web_fetch|blobs/.+)", Shape.OLLAMA),
)

ANTHROPIC_DOORS: Final = (
    Door("POST", "/messages", _ANTHROPIC, ANTHROPIC_MESSAGES, behind=_BARE),
    Door("POST", "/messages/count_tokens", _ANTHROPIC, kind=Kind.FREE, behind=_BARE),
    Door("GET", rf"/models(?:{_ID})?", _ANTHROPIC, kind=Kind.FREE, behind=_BARE),
    Door("*", rf"/messages/batches{_BELOW}", _ANTHROPIC, kind=Kind.BATCH, behind=_BARE),
    Door("*", rf"/files{_BELOW}", _ANTHROPIC, kind=Kind.FILES, behind=_BARE),
    Door("*", rf"/(?:sessions|agents){_BELOW}", _ANTHROPIC, kind=Kind.AGENTS, behind=_BARE),
)

ALL_DOORS: Final = (
    *ANTHROPIC_DOORS[:2], ANTHROPIC_DOORS[3], *CLOUD_DOORS, *OLLAMA_DOORS, *OPENAI_DOORS, *SHAPED_DOORS,
)  # fmt: skip
"""Below a further upstream's name; where two protocols have a path in common, OpenAI's form of errors is given."""

DIALECTS: Final[tuple[Dialect, ...]] = tuple(
    dict.fromkeys(
        door.dialect for door in (*OPENAI_DOORS, *ANTHROPIC_DOORS, *CLOUD_DOORS, *OLLAMA_DOORS) if door.dialect
    )
)
"""Every dialect, once."""

_ANYWHERE: Final = DoorTable(ALL_DOORS)


def dialect_for(path: bytes | str) -> Dialect | None:
    """The dialect of what is posted to a raw path, without its query; None for a path that is not metered.

    A path that ends in `/chat/completions` is OpenAI chat wherever it stands (Azure's deployments,
    `/openai/v1`, a further upstream's name before it). Anthropic's is `/messages`, which one SDK
    sends bare, and what ends in `/v1/messages`, either with one upstream's name before it. The path
    is compared as it came: an encoded or dotted spelling is another path, and nobody's.
    """
    raw = path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path
    door = _ANYWHERE.find("POST", raw)
    return None if door is None else door.dialect


def dialect_named(name: str) -> Dialect | None:
    """The dialect with this name, as the configuration and the records have it."""
    return next((dialect for dialect in DIALECTS if dialect.name == name), None)


def shape_at(path: str) -> Shape | None:
    """In which form an error on this raw path is written, where the path alone tells; else None."""
    return _shape_at(path[-PATH_SHOWN_MAX:].rstrip("/"))


@lru_cache(maxsize=PATHS_REMEMBERED)
def _shape_at(path: str) -> Shape | None:
    for door in _ANYWHERE.at(path):
        if door.dialect is not None or door.shape is not Shape.OPENAI:
            return door.shape
    return None
