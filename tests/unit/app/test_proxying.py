"""How what the settings say of an upstream is read: its output limit's field, and callers who have gone."""

from __future__ import annotations

import pytest

from sidecar.app.proxying import forwarding_of, knows_own_field, passes_own_field_over
from sidecar.app.settings import UpstreamSettings
from sidecar.errors import ConfigurationError
from sidecar.proxy.forward_options import ForwardOptions


@pytest.mark.parametrize("host", ["api.openai.com", "eu.api.openai.com", "us.api.openai.com", "a.openai.azure.com"])
def test_openai_itself_knows_its_own_field(host: str) -> None:
    """OpenAI, its regions and Azure."""
    assert knows_own_field(host)


@pytest.mark.parametrize(
    "host", ["localhost", "api.mistral.ai", "api.openai.com.evil", "notapi.openai.com", "xapi.openai.com", "openai"]
)
def test_elsewhere_the_field_that_everybody_knows_is_used(host: str) -> None:
    """A server that passes over the other would answer at full length, beyond what is held."""
    assert not knows_own_field(host)


def test_an_upstream_may_say_itself_what_becomes_of_callers_who_have_gone() -> None:
    """Its own word before that for all; all else of a provider's bounds stays."""
    ours = ForwardOptions(on_caller_gone="estimate", drain_s=7.0)
    assert forwarding_of("x", UpstreamSettings("http://x"), ours) == ours
    drains = forwarding_of("x", UpstreamSettings("http://x", on_caller_gone="drain"), ours)
    assert (drains.on_caller_gone, drains.drain_s) == ("drain", 7.0)


@pytest.mark.parametrize("ours", ["drain", "abort"])
def test_abort_is_for_providers_that_are_known_to_stop_billing(ours: str) -> None:
    """L25: else what is generated after we hang up would be billed and not be charged."""
    options = ForwardOptions(on_caller_gone=ours)  # type: ignore[arg-type]
    entry = UpstreamSettings("http://x", on_caller_gone="abort")
    with pytest.raises(ConfigurationError, match="stops_billing_on_disconnect"):
        forwarding_of("x", entry, options)
    known = UpstreamSettings("http://x", on_caller_gone="abort", stops_billing_on_disconnect="its docs, 2026-11-01")
    assert forwarding_of("x", known, options).on_caller_gone == "abort"


@pytest.mark.parametrize(
    ("host", "over"),
    [
        ("api.deepseek.com", True), ("api.mistral.ai", True), ("api.openai.com", False), ("localhost", False),
        ("evil-api.mistral.ai.example", False),
    ],
)  # fmt: skip
def test_who_passes_the_newer_limit_over(host: str, over: bool) -> None:
    """There a request that names `max_completion_tokens` alone is bounded by its model's own limit (L0)."""
    assert passes_own_field_over(host) == over
