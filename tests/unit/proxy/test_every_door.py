"""Every way into every provider's API that is known: metered, refused in its protocol, or passed on by its kind."""

from __future__ import annotations

from typing import Final

import pytest

from sidecar.providers.dialect import Shape
from sidecar.providers.doors import Choice, Kind
from sidecar.proxy.deny import shape_of
from sidecar.proxy.route import Route, Routes
from sidecar.proxy.unfit import Unfit

UPSTREAMS: Final = (
    "azure", "bedrock", "cohere", "deepseek", "gemini", "groq", "mistral", "ollama", "openrouter", "vertex", "vllm",
    "xai",
)  # fmt: skip
PROJECT: Final = "/vertex/v1/projects/p/locations/l"

METERED: Final = """
openai.chat             /v1/chat/completions
openai.chat             /azure/openai/deployments/d/chat/completions?api-version=2026-01-01
openai.chat             /azure/openai/deployments/d/extensions/chat/completions
openai.chat             /azure/models/chat/completions
openai.chat             /bedrock/openai/v1/chat/completions
openai.chat             /deepseek/beta/chat/completions
openai.chat             /gemini/v1beta/openai/chat/completions
openai.chat             /cohere/compatibility/v1/chat/completions
openai.chat             PROJECT/endpoints/openapi/chat/completions
openai.chat             PROJECT/endpoints/1/chat/completions
openai.responses        /v1/responses
openai.responses        /v1/responses/compact
openai.responses        /azure/openai/v1/responses
openai.completions      /v1/completions
openai.completions      /mistral/v1/fim/completions
openai.completions      /deepseek/beta/completions
openai.embeddings       /v1/embeddings
openai.embeddings       /azure/models/images/embeddings
openai.images           /v1/images/generations
openai.moderations      /v1/moderations
openai.moderations      /mistral/v1/chat/classifications
anthropic.messages      /v1/messages
anthropic.messages      /messages
anthropic.messages      /azure/anthropic/v1/messages
anthropic.messages      /openrouter/api/v1/messages
anthropic.vertex        PROJECT/publishers/anthropic/models/m:rawPredict
anthropic.vertex        PROJECT/publishers/anthropic/models/m@20260101:streamRawPredict
gemini.generate         /gemini/v1beta/models/m:generateContent
gemini.generate         /gemini/v1beta/models/m:streamGenerateContent?alt=sse
gemini.generate         /gemini/v1beta/models/m%3AStreamGENERATEContent
gemini.generate         /v1beta/tunedModels/m:generateContent
gemini.generate         PROJECT/publishers/google/models/m:generateContent
gemini.embed            /gemini/v1beta/models/m:embedContent
gemini.embed            /gemini/v1beta/models/m:batchEmbedContents
gemini.embed            PROJECT/publishers/google/models/text-embedding-005:predict
gemini.interactions     /gemini/v1beta/interactions
bedrock.converse        /bedrock/model/m/converse
bedrock.converse        /bedrock/model/m/CONVERSE-stream
bedrock.invoke          /bedrock/model/m/invoke
bedrock.invoke          /bedrock/model/m/invoke-with-response-stream
cohere.chat             /cohere/v2/chat
cohere.chat_v1          /cohere/v1/chat
cohere.generate         /cohere/v1/generate
cohere.embed            /cohere/v2/embed
cohere.rerank           /cohere/v2/rerank
ollama.chat             /ollama/api/chat
ollama.chat             /ollama/api/generate
ollama.embed            /ollama/api/embed
"""
FREE: Final = """
GET    /v1/models
GET    /v1/models/m
POST   /v1/responses/input_tokens
POST   /v1/messages/count_tokens
POST   /gemini/v1beta/models/m:countTokens
GET    /gemini/v1beta/models
POST   PROJECT/publishers/anthropic/models/count-tokens:rawPredict
POST   /bedrock/model/m/count-tokens
POST   /cohere/v1/tokenize
GET    /ollama/api/tags
POST   /ollama/api/show
"""
STORED: Final = """
GET    /v1/responses/r
GET    /v1/responses/r?stream=true&starting_after=2
DELETE /v1/responses/r
GET    /v1/responses/r/input_items
POST   /v1/responses/r/cancel
GET    /v1/chat/completions/c
GET    /v1/chat/completions/c/messages
GET    /gemini/v1beta/interactions/i
"""
KNOWN_AND_REFUSED: Final = """
openai    images     POST /v1/images/edits
openai    images     POST /v1/images/variations
openai    audio      POST /v1/audio/speech
openai    audio      POST /v1/audio/transcriptions
openai    files      POST /v1/files
openai    files      POST /v1/uploads/u/parts
openai    files      POST /v1/vector_stores/v/search
openai    files      POST /v1/containers
openai    batch      POST /v1/batches
openai    training   POST /v1/fine_tuning/jobs
openai    training   POST /v1/evals/e/runs
openai    agents     POST /v1/assistants
openai    agents     POST /v1/threads/runs
openai    agents     POST /v1/conversations/c/items
openai    agents     POST /mistral/v1/agents/completions
openai    realtime   POST /v1/realtime/client_secrets
openai    realtime   GET  /v1/realtime?model=m
openai    video      POST /v1/videos/v/remix
openai    background GET  /xai/v1/chat/deferred-completion/d
openai    batch      POST /vllm/v1/chat/completions/batch
anthropic batch      POST /v1/messages/batches
anthropic batch      GET  /v1/messages/batches/b/results
gemini    batch      POST /gemini/v1beta/models/m:batchGenerateContent
gemini    batch      POST /gemini/v1beta/models/m:asyncBatchEmbedContent
gemini    video      POST /gemini/v1beta/models/m:predictLongRunning
gemini    files      POST /gemini/upload/v1beta/files
gemini    files      POST /gemini/v1beta/cachedContents
gemini    training   POST /gemini/v1beta/tunedModels
bedrock   realtime   POST /bedrock/model/m/invoke-with-bidirectional-stream
bedrock   batch      POST /bedrock/async-invoke
bedrock   agents     POST /bedrock/agents/a/agentAliases/b/sessions/c/text
cohere    batch      POST /cohere/v1/embed-jobs
"""
UNKNOWN: Final = """
openai    GET  /v1/chat/completions
openai    POST /v1/chat/completions/c
openai    GET  /v1/responses
openai    POST /v1/skills
openai    POST /v1/score
openai    POST /v1/rerank
openai    POST /cohere/v1/rerank
openai    POST /v1/engines/e/completions
openai    POST /v1/Chat/Completions
openai    POST /v1/chat/completions/
openai    POST /v1/chat/completions;x=1
openai    POST /v1/c%68at/completions
openai    POST /vllm/pooling
openai    POST /vllm/score
openai    POST /vllm/rerank
openai    POST /vllm/invocations
openai    POST /mistral/v1/ocr
openai    POST /openrouter/api/v1/auth/keys
openai    GET  /openrouter/api/v1/generation?id=g
openai    POST /azure/openai/images/generations:submit
gemini    POST /gemini/v1beta/models/m:generateAnswer
gemini    POST /gemini/v1beta/models/m:predict
gemini    POST /gemini/v1beta/dynamic/d:generateContent
gemini    POST /gemini/v1beta/corpora/c:query
gemini    POST /gemini/v1beta/auth_tokens
gemini    GET  /gemini/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent
gemini    POST PROJECT/publishers/mistralai/models/m:rawPredict
gemini    POST PROJECT/endpoints/1:rawPredict
gemini    POST PROJECT/endpoints/1:generateContent
gemini    POST PROJECT/reasoningEngines/r:query
gemini    POST PROJECT/batchPredictionJobs
bedrock   POST /bedrock/guardrail/g/version/1/apply
bedrock   POST /bedrock/knowledgebases/k/retrieve
bedrock   POST /bedrock/retrieveAndGenerateStream
bedrock   POST /bedrock/flows/f/aliases/a
cohere    POST /cohere/v1/classify
cohere    POST /cohere/v1/finetuning/finetuned-models
ollama    POST /ollama/api/pull
ollama    DELETE /ollama/api/delete
"""
DISGUISED: Final = (
    "/v1//chat/completions", "/v1/./chat/completions", "/v1/models/../chat/completions", "/v1/%2e%2e/chat/completions",
    "/v1/chat%2Fcompletions", "/v1/chat\\completions", "/v1/chat/completions#x", "/v1/chat/completions%00",
    "//v1/messages", "/gemini/v1beta/models/m%2Fx:generateContent", "/v1/chat/completions?x#y", "/v1/responses/%zz",
)  # fmt: skip


def rows(table: str) -> list[list[str]]:
    """The words of each line."""
    return [line.replace("PROJECT", PROJECT).split() for line in table.splitlines() if line]


def found(method: str, target: str, **doors: str) -> Route | Unfit:
    """Where a request goes, of upstreams that all have these `doors`."""
    said = dict.fromkeys(("openai", "anthropic", *UPSTREAMS), doors)
    return Routes(further=UPSTREAMS, doors=said).find(method, target, anthropic=False)


@pytest.mark.parametrize(("dialect", "target"), rows(METERED))
def test_what_is_metered(dialect: str, target: str) -> None:
    """By its own protocol's meter, whatever the configuration passes on."""
    for choice in Choice:
        route = found("POST", target, **{str(kind): str(choice) for kind in Kind})
        assert isinstance(route, Route)
        assert route.dialect is not None
        assert route.dialect.name == dialect


@pytest.mark.parametrize(("method", "target"), rows(FREE + STORED))
def test_what_is_free_passes_and_can_be_refused(method: str, target: str) -> None:
    """What costs nothing, or was billed when it was made; `doors` may refuse it all the same."""
    route = found(method, target)
    assert isinstance(route, Route)
    assert (route.dialect, route.kind in {Kind.FREE, Kind.STORED}) == (None, True)
    assert isinstance(found(method, target, free="refuse", stored="refuse"), Unfit)


@pytest.mark.parametrize(("shape", "kind", "method", "target"), rows(KNOWN_AND_REFUSED))
def test_what_no_answer_bills_is_refused_until_its_kind_is_passed(
    shape: str, kind: str, method: str, target: str
) -> None:
    """In the caller's protocol; and no other kind's choice opens it."""
    assert isinstance(found(method, target), Unfit)
    assert isinstance(found(method, target, **{str(each): "pass_counted" for each in Kind if each != kind}), Unfit)
    route = found(method, target, **{kind: "pass_counted"})
    assert isinstance(route, Route)
    assert (route.dialect, route.kind) == (None, kind)
    assert shape_of(target.partition("?")[0]) == Shape(shape)


@pytest.mark.parametrize(("shape", "method", "target"), rows(UNKNOWN))
def test_what_nobody_knows_is_refused(shape: str, method: str, target: str) -> None:
    """In the protocol that its path tells."""
    assert isinstance(found(method, target), Unfit)
    assert shape_of(target.partition("?")[0]) == Shape(shape)


@pytest.mark.parametrize("target", DISGUISED)
def test_a_path_in_disguise_is_refused_whatever_is_passed_on(target: str) -> None:
    """B-P34: even where all kinds are passed on."""
    for method in ("POST", "GET"):
        assert isinstance(found(method, target, **{str(kind): "pass_counted" for kind in Kind}), Unfit)


@pytest.mark.parametrize(
    "target", ["/v1/chat/completions;x", "/v1/Chat/Completions", "/v1/c%68at/completions", "/v1/chat/completions/"]
)
def test_what_a_lenient_server_takes_for_a_metered_path_is_never_passed(target: str) -> None:
    """Not even by `other: pass_counted`."""
    assert isinstance(found("POST", target, other="pass_counted"), Unfit)
