"""A provider that outlives kills, and the product before it, for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.llm_provider import LLMProvider, running_provider
from tests.support.product import Product, provider_environment, running_product


@pytest.fixture
def provider() -> Iterator[LLMProvider]:
    """A scripted provider on a loopback port."""
    with running_provider() as running:
        yield running


@pytest.fixture
def product(tmp_path: Path, provider: LLMProvider) -> Iterator[Product]:
    """`spend up` in a process of its own, its upstreams being the scripted provider."""
    with running_product(tmp_path / "data", provider_environment(provider.address)) as running:
        yield running
