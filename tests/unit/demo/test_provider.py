"""The demo provider, asked by the real clients: it looks like the real ones and says what it is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
from aiohttp import ClientSession

from sidecar.demo import provider
from sidecar.demo.answers import ANSWER_TOKENS
from sidecar.demo.provider import start_demo

ASK: Any = [{"role": "user", "content": "Tell me about sheep."}]
CLAUDE = "claude-haiku-4-5"


@pytest.fixture
async def demo(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A demo provider that does not dawdle."""
    monkeypatch.setattr(provider, "FIRST_WORD_AFTER_S", 0.0)
    monkeypatch.setattr(provider, "WORD_EVERY_S", 0.0)
    address, close = await start_demo()
    yield address
    await close()


def openai_client(address: str) -> openai.AsyncOpenAI:
    """The real client."""
    return openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def anthropic_client(address: str) -> anthropic.AsyncAnthropic:
    """The real client."""
    return anthropic.AsyncAnthropic(base_url=address, api_key="none", max_retries=0)


async def test_a_chat_completion(demo: str) -> None:
    """It says that it is a demo, bills a token a word, ends when it has said all; the words repeat, the id does not."""
    async with openai_client(demo) as client:
        answer = await client.chat.completions.create(model="gpt-4o-mini", messages=ASK)
        again = await client.chat.completions.create(model="gpt-4o-mini", messages=ASK)
    text = answer.choices[0].message.content or ""
    assert "demo provider" in text
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(text.split()) == ANSWER_TOKENS
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + ANSWER_TOKENS
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", "gpt-4o-mini")
    assert again.choices[0].message.content == text
    assert answer.id != again.id


@pytest.mark.parametrize("asked", [True, False])
async def test_a_streamed_chat_completion(demo: str, asked: bool) -> None:
    """Chunk by chunk it says what the whole answer says; the usage comes if, and only if, it was asked for."""
    options: Any = {"stream_options": {"include_usage": True}} if asked else {}
    async with openai_client(demo) as client:
        stream = await client.chat.completions.create(model="gpt-4o-mini", messages=ASK, stream=True, **options)
        chunks = [chunk async for chunk in stream]
    words = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(words.split()) == ANSWER_TOKENS
    usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert [usage.completion_tokens for usage in usages] == ([ANSWER_TOKENS] if asked else [])
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_the_output_limit_is_kept(demo: str, name: str) -> None:
    """Seven tokens asked, seven said and billed, and the end is a cut; per choice."""
    limit: Any = {name: 7, "n": 2}
    async with openai_client(demo) as client:
        answer = await client.chat.completions.create(model="gpt-4o-mini", messages=ASK, **limit)
    assert [len((choice.message.content or "").split()) for choice in answer.choices] == [7, 7]
    assert {choice.finish_reason for choice in answer.choices} == {"length"}
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 14


async def test_a_message(demo: str) -> None:
    """Anthropic's manner, whole and streamed: the same words, the same usage."""
    async with anthropic_client(demo) as client:
        whole = await client.messages.create(model=CLAUDE, max_tokens=50, messages=ASK)
        async with client.messages.stream(model=CLAUDE, max_tokens=50, messages=ASK) as stream:
            streamed = await stream.get_final_message()
    for message in (whole, streamed):
        assert len(message.content[0].text.split()) == 50  # type: ignore[union-attr]
        assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 50)
    assert whole.usage.input_tokens == streamed.usage.input_tokens > 0


async def test_a_long_prompt_is_read_from_a_cache(demo: str) -> None:
    """OpenAI counts cached tokens inside the prompt's, Anthropic beside the input's."""
    long: Any = [{"role": "user", "content": [{"type": "text", "text": "sheep " * 2000}]}]
    async with openai_client(demo) as client:
        billed = (await client.chat.completions.create(model="gpt-4o-mini", messages=long)).usage
    async with anthropic_client(demo) as claude:
        usage = (await claude.messages.create(model=CLAUDE, max_tokens=9, messages=long)).usage
    assert billed is not None
    assert billed.prompt_tokens_details is not None
    cached = billed.prompt_tokens_details.cached_tokens or 0
    assert 1024 <= cached <= billed.prompt_tokens
    assert usage.cache_read_input_tokens == cached
    assert usage.input_tokens == billed.prompt_tokens - cached


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"model":"m"}', b'{"model":"m","messages":[]}', b'{"model":"m","messages":[1],"n":99}'],
)
async def test_what_makes_no_sense_is_refused_in_the_providers_manner(demo: str, body: bytes) -> None:
    """Each with its own shape of an error, so that clients raise what they would at the real one."""
    async with ClientSession() as session:
        async with session.post(f"{demo}/v1/chat/completions", data=body) as answer:
            assert answer.status == 400
            assert json.loads(await answer.read())["error"]["type"] == "invalid_request_error"
        async with session.post(f"{demo}/v1/messages", data=body) as answer:
            assert answer.status == 400
            assert json.loads(await answer.read())["type"] == "error"
        for path in ("responses", "embeddings"):
            async with session.post(f"{demo}/v1/{path}", data=body) as answer:
                assert answer.status == 400
                assert json.loads(await answer.read())["error"]["type"] == "invalid_request_error"


async def test_what_it_does_not_have_is_told(demo: str) -> None:
    """In OpenAI's own shape, so that the client shows what to do, and not a bare 404."""
    async with openai_client(demo) as client:
        with pytest.raises(openai.NotFoundError, match=r"The demo provider has chat completions.*OPENAI_API_KEY"):
            await client.images.generate(model="gpt-image-1", prompt="sheep")


@pytest.mark.parametrize("limit", [None, 9])
async def test_a_response(demo: str, limit: int | None) -> None:
    """Whole and streamed: the same words, billed a token a word, and ended by the limit where there is one."""
    limited: Any = {} if limit is None else {"max_output_tokens": limit}
    async with openai_client(demo) as client:
        whole = await client.responses.create(model="gpt-4o-mini", input="Tell me about sheep.", **limited)
        asked: Any = {"model": "gpt-4o-mini", "input": "Tell me about sheep.", **limited}
        async with client.responses.stream(**asked) as stream:
            events = [event async for event in stream]
    streamed = events[-1].response  # type: ignore[union-attr]
    for each in (whole, streamed):
        assert each.usage is not None
        assert each.usage.output_tokens == len(each.output_text.split()) == (limit or ANSWER_TOKENS)
        assert each.status == ("completed" if limit is None else "incomplete")
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == streamed.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_embeddings_and_the_list_of_models(demo: str) -> None:
    """A vector for each text, however the client asks for it to be written, and billed by the input."""
    async with openai_client(demo) as client:
        packed = await client.embeddings.create(model="text-embedding-3-small", input=["some", "sheep"])
        plain = await client.embeddings.create(model="text-embedding-3-small", input="sheep", encoding_format="float")
        models = [model.id async for model in client.models.list()]
    assert [len(packed.data), len(plain.data)] == [2, 1]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding)
    assert packed.usage.prompt_tokens > plain.usage.prompt_tokens > 0
    assert "gpt-4o-mini" in models
