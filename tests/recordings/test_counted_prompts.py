"""Counted prompts of four of OpenAI's protocols against what was billed; skipped where there are no recordings.

The recordings are not part of this repository.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest

from sidecar.app.tokenizing import SplintrTokenizer
from sidecar.providers.exact_tokens import (
    CHAT,
    COMPLETIONS,
    COUNTED_PROTOCOLS,
    EMBEDDINGS,
    MESSAGE_TOKENS,
    RESPONSES,
    countable,
)
from sidecar.providers.token_estimates import family_of
from tests.recordings.test_shared_recordings import FOLDER, facts_of, recorded

WITHIN_ONE_AT_LEAST: Final = 0.95

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings at {FOLDER}")


def test_counts_are_within_a_token_and_bounds_above() -> None:
    """With the published frame 95 of 100 at least are within a token of the bill; no bound is below it (L0)."""
    tokenizer, seen, near = SplintrTokenizer(), Counter[str](), Counter[str]()
    for exchange in recorded():
        protocol, told = exchange["endpoint"], (exchange["usage"] or {}).get("input_tokens")
        facts = facts_of(exchange) if protocol in COUNTED_PROTOCOLS else None
        if exchange["provider"] not in {"openai", "azure"} or not told or facts is None:
            continue
        found = countable(facts, protocol)
        if found is None:
            continue
        tokens = tokenizer.count(found.vocabulary, found.texts)
        assert tokens + found.frame_tokens >= told, exchange["name"]
        messages = (found.frame_tokens - family_of(facts.model).base) // MESSAGE_TOKENS
        frame = 4 * messages + 3 if protocol in {CHAT, RESPONSES} else 0
        seen[protocol] += 1
        near[protocol] += abs(tokens + frame - told) <= 1
    print({protocol: f"{near[protocol]} of {count}" for protocol, count in seen.items()})
    assert seen.keys() == {CHAT, RESPONSES, COMPLETIONS, EMBEDDINGS}
    assert all(near[protocol] >= WITHIN_ONE_AT_LEAST * count for protocol, count in seen.items()), (near, seen)
