"""Whose an answer is that its provider keeps (S-31): nobody's is another's, and what is not known is nobody's."""

from __future__ import annotations

import pytest

from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.providers.doors import ANSWERS_KEPT_MAX
from sidecar.proxy.makers import Makers, answer_id_in, may_be_kept


def made(answer_id: str | None) -> Usage:
    return Usage(UsageState.ABSENT, provider_request_id=answer_id)


def test_an_answer_is_its_makers() -> None:
    """Of that provider alone; and no later answer with its id takes it over."""
    makers = Makers()
    makers.learn("openai", "acme", made("resp_1"))
    makers.learn("openai", "eve", made("resp_1"))
    assert makers.is_of("openai", "resp_1", "acme")
    assert not makers.is_of("openai", "resp_1", "eve")
    assert not makers.is_of("azure", "resp_1", "acme")
    assert not makers.is_of("openai", "resp_2", "acme")


def test_no_id_is_nobodys() -> None:
    """An answer without one is not remembered, and none is asked for by it."""
    makers = Makers({("openai", "resp_0"): "acme"})
    makers.learn("openai", "acme", made(None))
    assert not makers.is_of("openai", "", "acme")
    assert makers.is_of("openai", "resp_0", "acme")


def test_only_so_many_are_remembered() -> None:
    """The one made longest ago goes first: then nobody may have it."""
    makers = Makers()
    for number in range(ANSWERS_KEPT_MAX + 1):
        makers.learn("openai", "acme", made(f"resp_{number}"))
    assert not makers.is_of("openai", "resp_0", "acme")
    assert makers.is_of("openai", "resp_1", "acme")


@pytest.mark.parametrize(
    ("target", "answer_id"),
    [
        ("/v1/responses/resp_1", "resp_1"), ("/v1/responses/resp_1?stream=true&starting_after=4", "resp_1"),
        ("/v1/responses/resp_1/input_items", "resp_1"), ("/v1/responses/resp_1/cancel", "resp_1"),
        ("/openai/v1/chat/completions/chatcmpl-1/messages?limit=2", "chatcmpl-1"),
        ("/v1beta/interactions/abc:cancel", "abc"),
        # what could name one and be taken for another
        ("/v1/responses/resp%5F1", ""), ("/v1/responses/resp%5F1?x=/responses/resp_2", ""),
        ("/v1/responses/resp_2/responses/resp_1", "resp_1"), ("/v1/responses/resp_2/other", ""), ("/v1/models", ""),
    ],
)  # fmt: skip
def test_the_id_is_what_the_path_ends_in(target: str, answer_id: str) -> None:
    """In plain letters, as the provider will read it; of any other spelling nothing is known."""
    assert answer_id_in(target) == answer_id


def test_which_answers_come_back() -> None:
    """Responses and interactions; chat completions where the request asks for it."""
    assert may_be_kept("openai.responses", b"{}")
    assert may_be_kept("gemini.interactions", b"{}")
    assert may_be_kept("openai.chat", b'{"store": true}')
    assert not may_be_kept("openai.chat", b"{}")
    assert not may_be_kept("anthropic.messages", b'{"store": true}')
