"""What Bedrock's Invoke is asked for in its head: as dear as in a body, and priced as served."""

from __future__ import annotations

import pytest

from sidecar.providers.bedrock_head import tier_served, with_head
from sidecar.providers.bedrock_invoke import BedrockInvoke
from sidecar.providers.dialect import Ending

TARGET = "/model/amazon.titan-text-express-v1/invoke"
ASKED = BedrockInvoke().read_request(b'{"inputText":"hello","textGenerationConfig":{"maxTokenCount":9}}', TARGET)


@pytest.mark.parametrize(
    ("name", "value", "tier"),
    [
        (b"x-amzn-bedrock-service-tier", b"priority", "priority"), (b"x-amzn-bedrock-service-tier", b" Flex ", "flex"),
        (b"x-amzn-bedrock-service-tier", b"default", None), (b"x-amzn-bedrock-trace", b"ENABLED", None),
        (b"x-amzn-bedrock-performanceconfig-latency", b"optimized", "latency-optimized"),
        (b"x-amzn-bedrock-performanceconfig-latency", b"standard", None),
    ],
)  # fmt: skip
def test_a_tier_of_the_head_is_one_that_is_asked_for(name: bytes, value: bytes, tier: str | None) -> None:
    """L0: a tier that the card does not price has no bound, wherever it is written."""
    assert with_head(ASKED, {name: value}).ceiling.tier == tier


def test_a_guardrail_of_the_head_has_no_bound() -> None:
    """Its policies are billed by units of text, which no answer tells."""
    assert with_head(ASKED, {}) is ASKED
    assert with_head(ASKED, {b"x-amzn-bedrock-guardrailidentifier": b"g"}).ceiling.unbounded


@pytest.mark.parametrize(
    ("lines", "tier"),
    [
        (b"Content-Type: application/json\r\nX-Amzn-Bedrock-Service-Tier: priority\r\n", "priority"),
        (b"x-amzn-bedrock-performanceconfig-latency: optimized\r\n", "latency-optimized"),
        (b"x-amzn-bedrock-service-tier: default\r\n", None),
        (b"X-Other: x-amzn-bedrock-service-tier: priority\r\n", None),
        (b"", None),
    ],
)  # fmt: skip
def test_the_tier_that_was_served_is_read(lines: bytes, tier: str | None) -> None:
    """Its price is the charge's, and where there is none the charge says so."""
    assert tier_served(lines) == tier
    counted = b"X-Amzn-Bedrock-Input-Token-Count: 3\r\nX-Amzn-Bedrock-Output-Token-Count: 4\r\n"
    meter = BedrockInvoke().meter(ASKED, status=200, lines=lines + counted, content_encoding="")
    meter.feed(b'{"results":[{"outputText":"x","tokenCount":4}],"inputTextTokenCount":3}')
    assert meter.usage(Ending.COMPLETE).tier == tier
