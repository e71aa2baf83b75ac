"""What Amazon Bedrock says of a call's usage: in Converse, in the answers of the models it hosts, in its headers.

In Converse the cache's reads and writes stand beside the input; two of them have an older spelling as well and
are one count. Invoking a model gives that model's own answer; a stream's last event has Bedrock's own metrics with
it, and an answer that is not streamed has Bedrock's counts in its head.

Source: boto/botocore `data/bedrock-runtime/2023-09-30/service-2.json` (TokenUsage, CacheDetail), docs.aws.amazon.com
"Inference request parameters and response fields for foundation models", and 400 recorded answers; checked 2026-11.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from sidecar.core.pricing.usage import Tokens
from sidecar.providers.counters import COUNT_MAX, Counts

METRICS: Final = "amazon-bedrock-invocationMetrics"

CACHE_DETAILS_MAX: Final = 16
"""Lifetimes of one answer's cache writes at most; two are known."""

_COUNT_LINES: Final = re.compile(
    rb"\r\nx-amzn-bedrock-(input|output|cache-read-input|cache-write-input)-token-count:"
    rb"[ \t]*([0-9]{1,11})[ \t]*(?=\r\n)",
    re.IGNORECASE,
)


class BedrockUsage(NamedTuple):
    """One usage object, normalised. `odd`: a count that is billed was none, or is missing."""

    tokens: Tokens
    odd: bool


def read_converse(usage: dict[str, Any]) -> BedrockUsage:
    """Converse's usage object; Nova's answers have the same."""
    counts = Counts(usage)
    fresh, made = counts.get("inputTokens"), counts.get("outputTokens")
    # The older spelling repeats the newer; where it stands alone it is believed if it tells of anything.
    read = counts.first(("cacheReadInputTokens",), ("cacheReadInputTokenCount",)) or counts.get("cacheReadInputTokens")
    written = counts.first(("cacheWriteInputTokens",), ("cacheWriteInputTokenCount",)) or counts.get(
        "cacheWriteInputTokens"
    )
    short, long = _written_by_lifetime(usage)
    if short is not None or long is not None:
        written = max(written or 0, (short or 0) + (long or 0))
    return _made(counts, fresh, read, written, made, short=short, long=long)


def read_metrics(metrics: dict[str, Any]) -> BedrockUsage:
    """The metrics that the last event of an invoked model's stream has with it."""
    counts = Counts(metrics)
    names = ("inputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount", "outputTokenCount")
    return _made(counts, *(counts.get(name) for name in names))


def read_lines(head: bytes) -> BedrockUsage | None:
    """The counts in an answer's head, given with its line ends; None where there are none.

    An embedding has no output: its head tells of the input alone, and that is all there is.
    """
    found = {bytes(name).lower(): int(count) for name, count in _COUNT_LINES.findall(head)}
    if b"input" not in found or max(found.values()) > COUNT_MAX:
        return None
    read, written = found.get(b"cache-read-input"), found.get(b"cache-write-input")
    return _made(Counts({}), found[b"input"], read, written, found.get(b"output"), embeds=True)


def read_invoked(answer: dict[str, Any]) -> BedrockUsage | None:
    """The usage in the body of one of the models that Bedrock hosts; None where the body does not tell."""
    usage = answer.get("usage")
    if isinstance(usage, dict):
        counts = Counts(usage)
        if "inputTokens" in usage:
            return read_converse(usage)
        if "prompt_tokens" in usage:
            read = counts.get("prompt_tokens_details", "cached_tokens")
            given, made = counts.get("prompt_tokens"), counts.get("completion_tokens")
            tokens = Tokens(input_tokens=given, cache_read_tokens=read, output_tokens=made)
            return BedrockUsage(tokens, counts.odd or given is None or made is None)
    counts = Counts(answer)
    if "totalOutputTextTokenCount" in answer:  # the last event of a stream
        return _made(counts, counts.get("inputTextTokenCount"), None, None, counts.get("totalOutputTextTokenCount"))
    if "inputTextTokenCount" in answer:
        results = answer.get("results")
        if results is None:  # an embedding
            return _made(counts, counts.get("inputTextTokenCount"), None, None, None, embeds=True)
        each = [Counts(entry).get("tokenCount") if isinstance(entry, dict) else None for entry in _listed(results)]
        known = [count for count in each if count is not None]
        whole = sum(known) if len(known) == len(each) else None
        return _made(counts, counts.get("inputTextTokenCount"), None, None, whole)
    if "prompt_token_count" in answer:
        return _made(counts, counts.get("prompt_token_count"), None, None, counts.get("generation_token_count"))
    return None


def _made(
    counts: Counts,
    fresh: int | None,
    read: int | None,
    written: int | None,
    made: int | None,
    *,
    embeds: bool = False,
    short: int | None = None,
    long: int | None = None,
) -> BedrockUsage:
    said = [count for count in (fresh, read, written) if count is not None]
    tokens = Tokens(
        input_tokens=sum(said) if said else None,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        output_tokens=made,
    )
    return BedrockUsage(tokens, counts.odd or fresh is None or (made is None and not embeds))


def _written_by_lifetime(usage: dict[str, Any]) -> tuple[int | None, int | None]:
    """What was written to the cache for five minutes and for an hour, where that is told."""
    written: dict[str, int] = {}
    for entry in _listed(usage.get("cacheDetails"))[:CACHE_DETAILS_MAX]:
        count = Counts(entry).get("inputTokens") if isinstance(entry, dict) else None
        if count is not None:
            lifetime = str(entry.get("ttl"))
            written[lifetime] = written.get(lifetime, 0) + count
    return written.get("5m"), written.get("1h")


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
