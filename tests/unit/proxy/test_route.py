from __future__ import annotations

import pytest

from sidecar.errors import ConfigurationError
from sidecar.providers.registry import dialect_for
from sidecar.proxy.route import Route, Routes
from sidecar.proxy.unfit import Unfit, UnfitReason

ROUTES = Routes(further={"groq"}, pass_through=("GET /v1/models", "POST /v1/*", "GET /groq/v1/models"))


def find(method: str, target: str, *, anthropic: bool = False) -> Route | Unfit:
    return ROUTES.find(method, target, anthropic=anthropic)


def reason(method: str, target: str) -> UnfitReason | None:
    found = find(method, target)
    return found.reason if isinstance(found, Unfit) else None


@pytest.mark.parametrize(
    ("target", "upstream", "sent"),
    [
        ("/v1/chat/completions", "openai", "/v1/chat/completions"),
        ("/v1/chat/completions?a=%2F&a=b", "openai", "/v1/chat/completions?a=%2F&a=b"),
        ("/v1/messages", "anthropic", "/v1/messages"),
        ("/messages?beta=true", "anthropic", "/v1/messages?beta=true"),
        ("/groq/openai/v1/chat/completions", "groq", "/openai/v1/chat/completions"),
        ("/groq/anthropic/v1/messages", "groq", "/anthropic/v1/messages"),
    ],
)
def test_metered_paths_keep_their_raw_path_and_query(target: str, upstream: str, sent: str) -> None:
    """The fixed paths, and what follows a further upstream's name, go on byte for byte."""
    found = find("POST", target)
    assert found == Route(upstream, sent, dialect_for(sent.partition("?")[0]))
    assert isinstance(found, Route)
    assert found.dialect is not None


@pytest.mark.parametrize(
    "target",
    ["/", "/v2/chat/completions", "/chat/completions", "/openai/v1/chat/completions", "/spend/v1/check",
     "/unknown/v1/messages", "/v1/chat/completions;x", "/v1/Chat/Completions", "/v1/chat/completions/",
     "/V1/chat/completions", "/groq", "/groq/v1/embeddings"],
)  # fmt: skip
def test_what_is_not_exactly_metered_is_refused(target: str) -> None:
    """No side door: not even a pattern that lets `POST /v1/*` pass opens a twin of a metered path."""
    assert reason("POST", target) is UnfitReason.ENDPOINT_NOT_METERED


def test_wrong_methods_are_refused_and_patterns_pass() -> None:
    """A GET on a metered path is not metered; what the configuration names passes, marked so."""
    assert reason("GET", "/v1/chat/completions") is UnfitReason.ENDPOINT_NOT_METERED
    assert find("GET", "/v1/models?limit=2") == Route("openai", "/v1/models?limit=2", None)
    assert find("POST", "/v1/embeddings") == Route("openai", "/v1/embeddings", None)
    assert find("GET", "/groq/v1/models") == Route("groq", "/v1/models", None)
    assert find("GET", "/v1/models", anthropic=True) == Route("anthropic", "/v1/models", None)
    assert reason("DELETE", "/v1/models") is UnfitReason.ENDPOINT_NOT_METERED


@pytest.mark.parametrize(
    "target",
    ["/v1/%2e%2e/v1/chat/completions", "/v1/../v1/messages", "/v1/./messages", "//v1/messages", "/v1//messages",
     "/v1%2fchat/completions", "/v1/messages%00", "/v1/messages%5c", "/v1\\messages", "\\v1/messages",
     "/v1/messages#x", "/v1/messages?a#x", "http://evil/v1/messages", "*", "", "v1/messages", "/v1/messages%zz",
     "/v1/mess ages", "/v1/messagé", "/v1/messages/.."],
)  # fmt: skip
def test_tricks_are_malformed(target: str) -> None:
    """B-P08, B-P34: whatever some server would read as another path is refused, in every form."""
    assert reason("POST", target) is UnfitReason.MALFORMED_PATH


def test_a_table_that_cannot_be_is_refused_whole() -> None:
    """Every bad name and pattern is in one report."""
    with pytest.raises(ConfigurationError) as raised:
        Routes(further={"spend", "Ups", "good"}, pass_through=("v1/models", "GET /v1/ok"))
    assert len(raised.value.problems) == 3


@pytest.mark.parametrize(
    ("method", "target", "hint"),
    [
        ("POST", "/chat/completions", "lacks /v1"),
        ("POST", "/v1/v1/chat/completions", "once too often"),
        ("POST", "/v1/v1/messages", "once too often"),
        ("GET", "/v1/chat/completions", "send POST"),
        ("POST", "/v1/messages/", "slash too many"),
        ("POST", "/v1/embeddings/x", "this path is not metered"),
    ],
)
def test_what_is_probably_wrong_is_said_first(method: str, target: str, hint: str) -> None:
    """A wrong base URL is the likeliest mistake of all."""
    found = Routes().find(method, target, anthropic=False)
    assert isinstance(found, Unfit)
    assert hint in found.message.partition(". Metered")[0]
