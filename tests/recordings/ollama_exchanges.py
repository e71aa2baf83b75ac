"""Answers of Ollama's own API, of our own making."""

from __future__ import annotations

import json
from typing import Any, Final

from sidecar.core.pricing.usage import Tokens, UsageState
from sidecar.providers.dialect import Ending
from tests.recordings.exchange import Exchange

FINAL, PARTIAL, ESTIMATED, ABSENT, ERROR = UsageState
PATH: Final = "/api/chat"
STREAMED: Final = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
WHOLE: Final = STREAMED | {"stream": False}
PLAIN: Final = Tokens(11, output_tokens=7)
COUNTS: Final[dict[str, Any]] = {"prompt_eval_count": 11, "eval_count": 7}


def _line(text: str = "", **more: Any) -> dict[str, Any]:
    said = {"model": "llama3.2", "message": {"role": "assistant", "content": text}, "done": False}
    return said | more


def _lines(*lines: Any, end: str = "\n") -> bytes:
    return "".join(json.dumps(line) + end for line in lines).encode()


_TEXTS: Final = [_line("a"), _line('say "done": true'), _line("b")]
_LAST: Final = _line(done=True, done_reason="stop", total_duration=5, **COUNTS)

EXCHANGES: Final = (
    Exchange("whole", PATH, WHOLE, json.dumps(_LAST).encode(), FINAL, PLAIN, finished=False),
    Exchange("a stream unless it is declined", PATH, STREAMED, _lines(*_TEXTS, _LAST), FINAL, PLAIN, finished=True),
    Exchange("no line's end at the end", PATH, STREAMED, _lines(*_TEXTS, _LAST).rstrip(), FINAL, PLAIN, finished=True),
    Exchange("CRLF", PATH, STREAMED, _lines(*_TEXTS, _LAST, end="\r\n"), FINAL, PLAIN, finished=True),
    Exchange(
        "generated",
        "/api/generate",
        {"model": "llama3.2", "prompt": "hi"},
        _lines({"response": "a", "done": False}, {"response": "", "done": True, **COUNTS}),
        FINAL,
        PLAIN,
        finished=True,
    ),
    Exchange(
        "a prompt that was in the cache",
        PATH,
        STREAMED,
        _lines(_line("a"), _line(done=True, eval_count=7)),
        FINAL,
        Tokens(None, output_tokens=7),
        finished=True,
    ),
    Exchange(
        "broken off: the output is counted",
        PATH,
        STREAMED,
        _lines(*[_line("a")] * 30),
        ESTIMATED,
        Tokens(None, output_tokens=50),
        ending=Ending.CUT,
    ),
    Exchange(
        "an error in the middle",
        PATH,
        STREAMED,
        _lines(_line("a"), {"error": "out of memory"}),
        ESTIMATED,
        Tokens(None, output_tokens=21),
        notes=("provider_error",),
    ),
    Exchange("an error", PATH, WHOLE, b'{"error":"no"}', ERROR, status=404, notes=("provider_error",)),
    Exchange("an error in place of a stream", PATH, STREAMED, b'{"error":"no"}\n', ERROR, notes=("provider_error",)),
    Exchange(
        "a count below zero",
        PATH,
        WHOLE,
        json.dumps(_LAST | {"eval_count": -7}).encode(),
        ESTIMATED,
        notes=("usage_out_of_range",),
    ),
    Exchange(
        "embedded",
        "/api/embed",
        {"model": "all-minilm", "input": "hi"},
        json.dumps({"model": "all-minilm", "embeddings": [[0.5]], "prompt_eval_count": 8}).encode(),
        FINAL,
        Tokens(8),
    ),
)
