"""Applications built on a client library, each made as the README says, with its retries left on.

All look alike from here: asked for a whole answer or for a stream, an application tells what its
library gave it or raised. The Node ones are the scripts beside this module.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any, Literal, Protocol

import httpx2 as httpx
import openai
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

Word = Literal["answer", "stream"]

PROMPT = "Count the sheep."
MAX_TOKENS = 50

SCRIPTS = Path(__file__).parent
MODULES = Path(sys.prefix) / "clients" / "node_modules"
ANSWER_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Heard:
    """What the application got from one call: a text with its usage (None: not told), or an error.

    `finish` is why a stream ended, in the library's own word.
    `classes` are the error's own class and those it inherits from; `spend` are our facts in it.
    """

    text: str = ""
    input: int | None = None
    output: int | None = None
    classes: tuple[str, ...] = ()
    status: int | None = None
    code: str | None = None
    type: str | None = None
    spend: dict[str, Any] | None = None
    finish: str | None = None


class Application(Protocol):
    """A running application. Its client lives from the first call to `close`."""

    def ask(self, word: Word) -> Heard:
        """Make one call and wait until the library is done with it."""

    def close(self) -> None:
        """End it."""


class NodeApplication:
    """A script in a process of its own, told what to do line by line."""

    def __init__(self, script: str, *arguments: str, proxy: str, customer: str, max_tokens: int = MAX_TOKENS) -> None:
        if not MODULES.is_dir():
            raise RuntimeError(f"the Node clients are not installed in {MODULES.parent}: `make test` does that")
        # Nothing of the environment that could name another address, a key, or somebody to report to.
        environment = {
            "PATH": os.environ["PATH"],
            "NODE_PATH": str(MODULES),
            "PROXY": proxy,
            "CUSTOMER": customer,
            "MAX_TOKENS": str(max_tokens),
        }
        self._process = subprocess.Popen(
            ["node", str(SCRIPTS / script), *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, word: Word) -> Heard:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{word}\n")
        stdin.flush()
        alarm = Timer(ANSWER_TIMEOUT_S, self._process.kill)
        alarm.start()
        try:
            line = stdout.readline()
        finally:
            alarm.cancel()
        assert line, f"{self._process.args!r} ended without a word; its last ones are on standard error"
        facts = json.loads(line)
        return Heard(**facts | {"classes": tuple(facts.get("classes", ()))})

    def close(self) -> None:
        with self._process:
            self._process.kill()


class LangChainApplication:
    """`ChatOpenAI`, synchronously, over either API."""

    def __init__(self, *, proxy: str, customer: str, responses: bool = False, max_tokens: int = MAX_TOKENS) -> None:
        self._http = httpx.Client()
        self._model = ChatOpenAI(
            model="gpt-4o-mini",
            use_responses_api=responses,
            max_completion_tokens=max_tokens,
            base_url=f"{proxy}/v1",
            api_key=SecretStr("sk-test"),
            default_headers={"Spend-Customer": customer},
            http_client=self._http,
        )

    def ask(self, word: Word) -> Heard:
        return heard_from(self._answer if word == "answer" else self._stream)

    def close(self) -> None:
        self._http.close()

    def _answer(self) -> Heard:
        return _of_message(self._model.invoke(PROMPT))

    def _stream(self) -> Heard:
        first, *others = self._model.stream(PROMPT)
        whole = first
        for piece in others:
            whole += piece
        return _of_message(whole)


def _of_message(message: AIMessage) -> Heard:
    usage, told = message.usage_metadata, message.response_metadata
    finish = told.get("finish_reason") or (told.get("incomplete_details") or {}).get("reason")
    if usage is None:
        return Heard(message.text, finish=finish)
    return Heard(message.text, usage["input_tokens"], usage["output_tokens"], finish=finish)


class PydanticAIApplication:
    """An `Agent`, on an event loop of its own."""

    def __init__(self, *, proxy: str, customer: str, responses: bool = False, max_tokens: int = MAX_TOKENS) -> None:
        self._runner = asyncio.Runner()
        self._client = openai.AsyncOpenAI(
            base_url=f"{proxy}/v1", api_key="sk-test", default_headers={"Spend-Customer": customer}
        )
        kind = OpenAIResponsesModel if responses else OpenAIChatModel
        model = kind("gpt-4o-mini", provider=OpenAIProvider(openai_client=self._client))
        self._agent = Agent(model, model_settings={"max_tokens": max_tokens})

    def ask(self, word: Word) -> Heard:
        act: Callable[[], Coroutine[Any, Any, Heard]] = self._answer if word == "answer" else self._stream
        return heard_from(lambda: self._runner.run(act()))

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    async def _answer(self) -> Heard:
        result = await self._agent.run(PROMPT)
        return Heard(result.output, result.usage.input_tokens, result.usage.output_tokens)

    async def _stream(self) -> Heard:
        async with self._agent.run_stream(PROMPT) as result:
            text = await result.get_output()
        finish = result.response.finish_reason
        return Heard(text, result.usage.input_tokens, result.usage.output_tokens, finish=finish)


def heard_from(act: Callable[[], Heard]) -> Heard:
    """What a call gave, or what it raised: an error with a status and our body, or with neither, of a connection."""
    try:
        return act()
    except Exception as error:
        classes = tuple(kind.__name__ for kind in type(error).__mro__)
        body: Any = getattr(error, "body", None) or getattr(error, "details", None) or getattr(error, "response", None)
        if not isinstance(body, dict):
            return Heard(classes=classes, text=str(error))
        if "ResponseMetadata" in body:  # boto3
            status = body["ResponseMetadata"]["HTTPStatusCode"]
            return Heard(classes=classes, status=status, code=body["Error"]["Code"], spend=body.get("spend"))
        status = getattr(error, "status_code", None) or getattr(error, "code", None)
        inner = body.get("error", body)  # Anthropic and Google name it
        return Heard(
            classes=classes,
            status=status,
            code=inner.get("code"),
            type=inner.get("type") or inner.get("status"),
            spend=inner.get("spend"),
        )
