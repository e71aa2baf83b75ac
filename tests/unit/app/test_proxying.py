"""Which output limit an upstream is told in goes by its address, not by its name in the settings."""

from __future__ import annotations

import pytest

from sidecar.app.proxying import knows_own_field


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
