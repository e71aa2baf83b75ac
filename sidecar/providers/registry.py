"""Which dialect a path speaks."""

from __future__ import annotations

import re
from typing import Final

from sidecar.providers.anthropic import AnthropicMessages
from sidecar.providers.dialect import Dialect
from sidecar.providers.openai_chat import OpenAIChat

OPENAI_CHAT: Final = OpenAIChat()
ANTHROPIC_MESSAGES: Final = AnthropicMessages()
DIALECTS: Final[tuple[Dialect, ...]] = (OPENAI_CHAT, ANTHROPIC_MESSAGES)

_MESSAGES: Final = re.compile(rb"/v1/messages\Z|\A(?:/[^/]+)?/messages\Z")


def dialect_for(path: bytes | str) -> Dialect | None:
    """The dialect of a raw path, without its query; None for a path that is not metered.

    A path that ends in `/chat/completions` is OpenAI chat wherever it stands (Azure's deployments,
    `/openai/v1`, a further upstream's name before it). Anthropic's is `/messages`, which one SDK
    sends bare, and what ends in `/v1/messages`, either with one upstream's name before it. The path
    is compared as it came: an encoded or dotted spelling is another path, and nobody's.
    """
    raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
    if raw.endswith(b"/chat/completions"):
        return OPENAI_CHAT
    return ANTHROPIC_MESSAGES if _MESSAGES.search(raw) else None
