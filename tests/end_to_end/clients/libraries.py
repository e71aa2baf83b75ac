"""The providers' own Python clients as applications, each made as its README says, with its retries left on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anthropic
import boto3
import openai
from botocore import UNSIGNED
from botocore.config import Config
from google import genai
from google.genai import types

from tests.end_to_end.clients.applications import MAX_TOKENS, PROMPT, Heard, Word, heard_from

ASK: list[Any] = [{"role": "user", "content": PROMPT}]
GEMINI = "gemini-2.5-flash"
NOVA = "us.amazon.nova-lite-v1:0"


class OpenAIApplication:
    """`OpenAI`, over either API."""

    def __init__(self, *, proxy: str, customer: str, responses: bool = False, max_tokens: int = MAX_TOKENS) -> None:
        self._client = openai.OpenAI(
            base_url=f"{proxy}/v1", api_key="sk-test", default_headers={"Spend-Customer": customer}
        )
        self._responses, self._limit = responses, max_tokens

    def ask(self, word: Word) -> Heard:
        return heard_from(lambda: self._ask(stream=word == "stream"))

    def close(self) -> None:
        self._client.close()

    def _ask(self, *, stream: bool) -> Heard:
        create: Any = self._client.responses.create if self._responses else self._client.chat.completions.create
        got = create(**openai_request(stream=stream, responses=self._responses, limit=self._limit))
        pieces = list(got) if stream else [got]
        return of_responses(pieces) if self._responses else of_chat(pieces)


class AsyncOpenAIApplication:
    """`AsyncOpenAI`, on an event loop of its own."""

    def __init__(self, *, proxy: str, customer: str, responses: bool = False, max_tokens: int = MAX_TOKENS) -> None:
        self._runner = asyncio.Runner()
        self._client = openai.AsyncOpenAI(
            base_url=f"{proxy}/v1", api_key="sk-test", default_headers={"Spend-Customer": customer}
        )
        self._responses, self._limit = responses, max_tokens

    def ask(self, word: Word) -> Heard:
        return heard_from(lambda: self._runner.run(self._ask(stream=word == "stream")))

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    async def _ask(self, *, stream: bool) -> Heard:
        create: Any = self._client.responses.create if self._responses else self._client.chat.completions.create
        got = await create(**openai_request(stream=stream, responses=self._responses, limit=self._limit))
        pieces = [piece async for piece in got] if stream else [got]
        return of_responses(pieces) if self._responses else of_chat(pieces)


def openai_request(*, stream: bool, responses: bool, limit: int) -> dict[str, Any]:
    """What is asked of OpenAI, with a stream's usage."""
    if responses:
        return {"model": "gpt-4o-mini", "input": PROMPT, "max_output_tokens": limit, "stream": stream}
    asked = {"model": "gpt-4o-mini", "messages": ASK, "max_tokens": limit, "stream": stream}
    return asked | ({"stream_options": {"include_usage": True}} if stream else {})


def of_chat(pieces: list[Any]) -> Heard:
    """What a completion says, whole or in chunks."""
    choices = [choice for piece in pieces for choice in piece.choices]
    said = [getattr(choice, "delta", None) or choice.message for choice in choices]
    usage = pieces[-1].usage
    text = "".join(one.content or "" for one in said)
    given, made = (usage.prompt_tokens, usage.completion_tokens) if usage else (None, None)
    return Heard(text, given, made, finish=choices[-1].finish_reason)


def of_responses(pieces: list[Any]) -> Heard:
    """What a response says, whole or by its last event."""
    last = getattr(pieces[-1], "response", pieces[-1])
    reason = last.incomplete_details.reason if last.incomplete_details else None
    return Heard(last.output_text, last.usage.input_tokens, last.usage.output_tokens, finish=reason)


class AnthropicApplication:
    """`Anthropic`."""

    def __init__(self, *, proxy: str, customer: str, max_tokens: int = MAX_TOKENS) -> None:
        self._client = anthropic.Anthropic(
            base_url=proxy, api_key="sk-test", default_headers={"Spend-Customer": customer}
        )
        self._ask_for: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": max_tokens, "messages": ASK}

    def ask(self, word: Word) -> Heard:
        return heard_from(self._answer if word == "answer" else self._stream)

    def close(self) -> None:
        self._client.close()

    def _answer(self) -> Heard:
        return of_message(self._client.messages.create(**self._ask_for))

    def _stream(self) -> Heard:
        with self._client.messages.stream(**self._ask_for) as stream:
            return of_message(stream.get_final_message())


class AsyncAnthropicApplication:
    """`AsyncAnthropic`, on an event loop of its own."""

    def __init__(self, *, proxy: str, customer: str, max_tokens: int = MAX_TOKENS) -> None:
        self._runner = asyncio.Runner()
        self._client = anthropic.AsyncAnthropic(
            base_url=proxy, api_key="sk-test", default_headers={"Spend-Customer": customer}
        )
        self._ask_for: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": max_tokens, "messages": ASK}

    def ask(self, word: Word) -> Heard:
        act: Callable[[], Coroutine[Any, Any, Heard]] = self._answer if word == "answer" else self._stream
        return heard_from(lambda: self._runner.run(act()))

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    async def _answer(self) -> Heard:
        return of_message(await self._client.messages.create(**self._ask_for))

    async def _stream(self) -> Heard:
        async with self._client.messages.stream(**self._ask_for) as stream:
            return of_message(await stream.get_final_message())


def of_message(message: Any) -> Heard:
    """What a message says."""
    usage = message.usage
    return Heard(message.content[0].text, usage.input_tokens, usage.output_tokens, finish=message.stop_reason)


class GoogleApplication:
    """`google.genai`, which thinks nothing unseen here."""

    def __init__(self, *, proxy: str, customer: str, max_tokens: int | None = MAX_TOKENS) -> None:
        headers = {"Spend-Customer": customer}
        self._client = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=proxy, headers=headers))
        self._config = types.GenerateContentConfig(
            max_output_tokens=max_tokens, thinking_config=types.ThinkingConfig(thinking_budget=0)
        )

    def ask(self, word: Word) -> Heard:
        models = self._client.models
        call: Any = models.generate_content if word == "answer" else models.generate_content_stream

        def act() -> Heard:
            got = call(model=GEMINI, contents=PROMPT, config=self._config)
            pieces = [got] if word == "answer" else list(got)
            last = pieces[-1]
            usage = last.usage_metadata
            finish = last.candidates[0].finish_reason.name
            text = "".join(piece.text or "" for piece in pieces)
            return Heard(text, usage.prompt_token_count, usage.candidates_token_count, finish=finish)

        return heard_from(act)

    def close(self) -> None:
        self._client.close()


class BedrockApplication:
    """`boto3` by bearer token: its own way of sending one is over TLS only, so a hook of the application's does."""

    def __init__(self, *, proxy: str, customer: str, max_tokens: int = MAX_TOKENS) -> None:
        self._client: Any = boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=proxy,
            config=Config(retries={"max_attempts": 4, "mode": "standard"}, signature_version=UNSIGNED),
        )
        self._customer, self._limit = customer, max_tokens
        self._client.meta.events.register("before-send.bedrock-runtime", self._sign)

    def ask(self, word: Word) -> Heard:
        return heard_from(self._answer if word == "answer" else self._stream)

    def close(self) -> None:
        self._client.close()

    def _sign(self, request: Any, **_: Any) -> None:
        request.headers["Spend-Customer"] = self._customer
        request.headers["Authorization"] = "Bearer token"

    def _request(self) -> dict[str, Any]:
        asked = [{"role": "user", "content": [{"text": PROMPT}]}]
        return {"modelId": NOVA, "messages": asked, "inferenceConfig": {"maxTokens": self._limit}}

    def _answer(self) -> Heard:
        got = self._client.converse(**self._request())
        usage = got["usage"]
        text = got["output"]["message"]["content"][0]["text"]
        return Heard(text, usage["inputTokens"], usage["outputTokens"], finish=got["stopReason"])

    def _stream(self) -> Heard:
        text, finish = "", None
        usage: dict[str, int] = {}
        for event in self._client.converse_stream(**self._request())["stream"]:
            text += event.get("contentBlockDelta", {}).get("delta", {}).get("text", "")
            finish = event.get("messageStop", {}).get("stopReason", finish)
            usage = event.get("metadata", {}).get("usage", usage)
        return Heard(text, usage.get("inputTokens"), usage.get("outputTokens"), finish=finish)
