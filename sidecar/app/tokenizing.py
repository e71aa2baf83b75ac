"""The tokenizer of the `[tokenizers]` extra, where it is installed: splintr, whose vocabularies stand in its wheel.

It is imported when the first prompt is counted: it takes 30 MB for each vocabulary, which nobody pays
who never comes near a limit.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

from sidecar.proxy.exact_counts import ExactCounts

ID_BYTES: Final = 4
CACHED_MAX: Final = 10_000
"""Words that the library may remember; then it forgets them all."""


class SplintrTokenizer:
    """Counts by splintr's batch call, which lets the loop's thread run meanwhile (its others do not)."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def count(self, vocabulary: str, texts: list[str]) -> int:
        """See `Tokenizer`; loads the vocabulary at its first use."""
        tokenizer = self._loaded.get(vocabulary)
        if tokenizer is None:
            from splintr import Tokenizer  # noqa: PLC0415 - imported late, and only where installed

            tokenizer = self._loaded[vocabulary] = Tokenizer.from_pretrained(vocabulary)
        ids, _ = tokenizer.encode_batch_flat(texts)
        if tokenizer.cache_len > CACHED_MAX:
            tokenizer.clear_cache()
        return len(ids) // ID_BYTES


def exact_counts() -> ExactCounts | None:
    """Exact counts, None where the extra is not installed."""
    return ExactCounts(SplintrTokenizer()) if find_spec("splintr") is not None else None
