"""`spend simulate`: what the proxy would hold and charge, by the proxy's own functions."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from sidecar.app.settings import default_catalog
from sidecar.catalog.read import read_catalog
from sidecar.providers.registry import ANTHROPIC_MESSAGES, OPENAI_CHAT
from sidecar.proxy.price import Priced, price
from tests.unit.cli.conftest import Shell

ASK = {"model": "gpt-4o-mini", "max_tokens": 120, "messages": [{"role": "user", "content": "Tell me about sheep."}]}
CLAUDE = ASK | {"model": "claude-haiku-4-5"}
PLAIN = {"prompt_tokens": 12, "completion_tokens": 100, "total_tokens": 112}


def write(folder: Path, name: str, content: Any) -> str:
    """A file with an object, or with text as it is."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def ceiling_atoms(body: bytes, dialect: Any, provider: str) -> int:
    """What the proxy would hold."""
    rates = read_catalog(Path(default_catalog())).rates
    facts = dialect.read_request(body)
    priced = price(facts.ceiling, rates, provider=provider, at_ms=int(time.time() * 1000))
    assert isinstance(priced, Priced)
    return priced.ceiling_atoms


@pytest.mark.parametrize(
    ("ask", "dialect", "provider"), [(ASK, OPENAI_CHAT, "openai"), (CLAUDE, ANTHROPIC_MESSAGES, "anthropic")]
)
def test_the_ceiling_is_the_proxys(
    shell: Shell, tmp_path: Path, ask: dict[str, Any], dialect: Any, provider: str
) -> None:
    """Told by its model whose it is; the same bound and the same atoms."""
    file = write(tmp_path, "ask.json", ask)
    (found,) = shell.json("simulate", file)
    assert found["provider"] == provider
    assert found["ceiling"]["atoms"] == ceiling_atoms(Path(file).read_bytes(), dialect, provider) > 0
    assert found["bound"]["output_tokens"] == 120
    assert found["charge"] is None
    assert "--usage" in shell.run("simulate", file).stdout


def test_l0_a_document_is_bounded_as_the_path_does_and_what_nothing_bounds_is_refused(
    shell: Shell, tmp_path: Path
) -> None:
    """By its model's window; a tool that the provider runs has no bound here either."""
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQK"}
    content = [{"type": "document", "source": source}, {"type": "text", "text": "Sheep?"}]
    asked = CLAUDE | {"messages": [{"role": "user", "content": content}]}
    (found,) = shell.json("simulate", write(tmp_path, "document.json", asked))
    assert (found["refusal"], found["bound"]) == (None, {"input_tokens": 200_000, "output_tokens": 120})
    assert found["ceiling"]["atoms"] >= 200_000 * 1_000 + 120 * 5_000
    searches = asked | {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}
    with pytest.raises(AssertionError, match="request_not_boundable"):
        shell.run("simulate", write(tmp_path, "searches.json", searches))


def test_the_charge_is_exact(shell: Shell, tmp_path: Path) -> None:
    """12 tokens in at $0.15 and 100 out at $0.60 a million: 61,800 billionths of a dollar."""
    file = write(tmp_path, "ask.json", ASK)
    whole = {"id": "c", "object": "chat.completion", "model": "gpt-4o-mini", "choices": [], "usage": PLAIN}
    stream = 'data: {"id":"c","choices":[],"usage":' + json.dumps(PLAIN) + "}\n\ndata: [DONE]\n\n"
    for name, answer in (("bare", PLAIN), ("whole", whole), ("stream", stream)):
        (found,) = shell.json("simulate", file, "--usage", write(tmp_path, name, answer))
        assert (found["charge"]["atoms"], found["state"], found["flags"]) == (61_800, "final", []), name
    text = shell.run("simulate", file, "--usage", str(tmp_path / "bare")).stdout
    assert "0.0000618 usd" in text
    assert "given back" in text


def test_an_answer_without_usage_is_charged_its_hold(shell: Shell, tmp_path: Path) -> None:
    """L25, as on the way: unknown is never zero."""
    file, answer = write(tmp_path, "ask.json", ASK), write(tmp_path, "answer.json", {"id": "c", "choices": []})
    (found,) = shell.json("simulate", file, "--usage", answer)
    assert found["charge"] == found["ceiling"]
    assert "estimated" in found["flags"]
    assert "tells no usage" in shell.run("simulate", file, "--usage", answer).stdout


def test_another_model(shell: Shell, tmp_path: Path) -> None:
    """Nothing else of the body is changed, so the ceiling is that of a body which asks for it."""
    file, other = write(tmp_path, "a", ASK), write(tmp_path, "b", ASK | {"model": "gpt-4o"})
    assert shell.json("simulate", file, "--model", "gpt-4o") == shell.json("simulate", other)


@pytest.mark.parametrize(
    ("ask", "code", "words"),
    [
        (ASK | {"model": "gpt-none"}, "model_not_priced", "rate card"),
        (ASK | {"web_search_options": {}} | {"tools": [{"type": "x"}]}, "request_not_boundable", "no bound"),
    ],
)
def test_what_would_be_refused(shell: Shell, tmp_path: Path, ask: dict[str, Any], code: str, words: str) -> None:
    """Exit 1 with the reason's word, what to do, and for programs the same on one line."""
    file = write(tmp_path, "ask.json", ask)
    result = shell.run("simulate", file, "--protocol", "openai", "--json", code=1)
    assert json.loads(result.stdout)["refusal"]["code"] == code
    assert words in result.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("[1]", "not one valid JSON object"),
        ('{"messages":[]}', "model"),
        ('{"model":"gpt-none","messages":[]}', "--protocol openai"),
        ('{"model":"claude-haiku-4-5","messages":[]}', "max_tokens"),
        ('{"model":"a","model":"b"}', "twice"),
    ],
)
def test_what_is_no_request(shell: Shell, tmp_path: Path, content: str, words: str) -> None:
    """Exit 1, what is wrong with it, and what to give instead."""
    text = shell.run("simulate", write(tmp_path, "x", content), code=1).stderr
    assert words in text
    assert len(text.splitlines()) >= 2


def test_files_that_cannot_be_read(shell: Shell, tmp_path: Path) -> None:
    """The request, the answer, the prices; and one file for two things."""
    file = write(tmp_path, "ask.json", ASK)
    none = str(tmp_path / "none")
    assert "No such file" in shell.run("simulate", none, code=1).stderr
    assert "No such file" in shell.run("simulate", file, "--usage", none, code=1).stderr
    assert "spend catalog check" in shell.run("simulate", file, "--catalog", none, code=1).stderr
    assert "one file" in shell.run("simulate", file, "--usage", file, code=2).stderr
