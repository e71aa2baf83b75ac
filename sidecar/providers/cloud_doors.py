"""The doors of Google (Gemini and Vertex), Amazon Bedrock and Cohere.

What stands before a path's tail is not compared, so one door serves both of Google's: `/v1beta/models/m:…` and
`/v1/projects/p/locations/l/publishers/google/models/m:…`. A provider that decodes a path takes `%3A` for the colon
before a method's name, and may take its letters in either case: both are the same door.

Sources: ai.google.dev/api, cloud.google.com/vertex-ai/docs/reference/rest, boto/botocore
`data/bedrock-runtime/2023-09-30/service-2.json`, docs.cohere.com/reference; checked 2026-11.
"""

from __future__ import annotations

from typing import Final

from sidecar.providers.anthropic_on_vertex import AnthropicOnVertex
from sidecar.providers.bedrock import BedrockConverse
from sidecar.providers.bedrock_invoke import BedrockInvoke
from sidecar.providers.cohere import CohereChat, CohereEmbed
from sidecar.providers.cohere_others import CohereGenerate, CohereRerank
from sidecar.providers.dialect import Shape
from sidecar.providers.doors import Door, Kind
from sidecar.providers.gemini import GeminiGenerate
from sidecar.providers.gemini_embeddings import GeminiEmbed
from sidecar.providers.gemini_interactions import GeminiInteractions

GEMINI_GENERATE: Final = GeminiGenerate()
GEMINI_EMBED: Final = GeminiEmbed()
GEMINI_INTERACTIONS: Final = GeminiInteractions()
ANTHROPIC_ON_VERTEX: Final = AnthropicOnVertex()
COHERE_CHAT: Final = CohereChat()
COHERE_CHAT_V1: Final = CohereChat(first=True)
COHERE_EMBED: Final = CohereEmbed()
COHERE_GENERATE: Final = CohereGenerate()
COHERE_RERANK: Final = CohereRerank()
BEDROCK_CONVERSE: Final = BedrockConverse()
BEDROCK_INVOKE: Final = BedrockInvoke()

SIGNED: Final = frozenset({BEDROCK_CONVERSE.name, BEDROCK_INVOKE.name})
"""Dialects of a provider that takes signed requests: such a signature holds for the provider's own address alone."""

_GEMINI: Final = Shape.GEMINI
_ANTHROPIC: Final = Shape.ANTHROPIC
_MODEL: Final = r"(?i:/(?:models|tunedModels)/[^/:%]+(?:%40[^/:%]+)?(?::|%3A)"
_VERSION: Final = r"/v1(?:beta\d?|alpha)"
_BELOW: Final = r"(?:/.*)?"

GOOGLE_DOORS: Final = (
    Door("POST", rf"{_MODEL}(?:stream)?generateContent)", _GEMINI, GEMINI_GENERATE),
    Door("POST", rf"{_MODEL}(?:embedContent|batchEmbedContents))", _GEMINI, GEMINI_EMBED),
    Door("POST", r"(?i:/models/[^/:%]*embedding[^/:%]*(?:%40[^/:%]+)?(?::|%3A)predict)", _GEMINI, GEMINI_EMBED),
    Door("POST", rf"{_MODEL}countTokens)", _GEMINI, kind=Kind.FREE),
    Door("POST", r"(?i:/publishers/anthropic/models/count-tokens(?::|%3A)rawPredict)", _ANTHROPIC, kind=Kind.FREE),
    Door("POST", rf"(?i:/publishers/anthropic){_MODEL}(?:raw|streamRaw)Predict)", _ANTHROPIC, ANTHROPIC_ON_VERTEX),
    Door("POST", rf"{_MODEL}(?:batch|asyncBatch)\w+)", _GEMINI, kind=Kind.BATCH),
    Door("POST", rf"{_MODEL}predictLongRunning)", _GEMINI, kind=Kind.VIDEO),
    Door("*", rf"{_MODEL}\w+)", _GEMINI),
    Door("GET", rf"{_VERSION}/models(?:/[^/]+)?", _GEMINI, kind=Kind.FREE),
    Door("*", rf"(?:/upload)?{_VERSION}/(?:files|fileSearchStores|cachedContents){_BELOW}", _GEMINI, kind=Kind.FILES),
    Door("*", rf"{_VERSION}/batches{_BELOW}", _GEMINI, kind=Kind.BATCH),
    Door("*", rf"{_VERSION}/tunedModels{_BELOW}", _GEMINI, kind=Kind.TRAINING),
    Door("POST", r"/v1(?:beta\d?|alpha)?/interactions", _GEMINI, GEMINI_INTERACTIONS),
    Door("GET DELETE", r"/v1(?:beta\d?|alpha)?/interactions/[^/]+", _GEMINI, kind=Kind.STORED),
    Door("POST", r"/v1(?:beta\d?|alpha)?/interactions/[^/]+(?:/|:)cancel", _GEMINI, kind=Kind.STORED),
)

_BEDROCK: Final = Shape.BEDROCK
_HOSTED: Final = r"(?i:/model/[^/]+/"

BEDROCK_DOORS: Final = (
    Door("POST", rf"{_HOSTED}converse(?:-stream)?)", _BEDROCK, BEDROCK_CONVERSE),
    Door("POST", rf"{_HOSTED}invoke(?:-with-response-stream)?)", _BEDROCK, BEDROCK_INVOKE),
    Door("POST", rf"{_HOSTED}count-tokens)", _BEDROCK, kind=Kind.FREE),
    Door("*", rf"{_HOSTED}invoke-with-bidirectional-stream)", _BEDROCK, kind=Kind.REALTIME),
    Door("*", rf"/async-invoke{_BELOW}", _BEDROCK, kind=Kind.BATCH),
    Door("*", r"/guardrail/[^/]+/version/[^/]+/apply", _BEDROCK),
)

_COHERE: Final = Shape.COHERE

COHERE_DOORS: Final = (
    Door("POST", "/v2/chat", _COHERE, COHERE_CHAT),
    Door("POST", "/v1/chat", _COHERE, COHERE_CHAT_V1),
    Door("POST", "/v[12]/embed", _COHERE, COHERE_EMBED),
    Door("POST", "/v1/(?:tokenize|detokenize|check-api-key)", _COHERE, kind=Kind.FREE),
    Door("POST", "/v1/generate", _COHERE, COHERE_GENERATE),
    Door("POST", "/v2/rerank", _COHERE, COHERE_RERANK),
    Door("*", rf"/v1/embed-jobs{_BELOW}", _COHERE, kind=Kind.BATCH),
)

SHAPED_DOORS: Final = (
    Door("*", r"/v1(?:beta\d?|alpha)/(?!openai/).+", _GEMINI),
    Door("*", r"/v1/(?:projects|publishers|corpora|dynamic|auth_tokens)[/:].+", _GEMINI),
    Door("*", r"/ws/google\.[^/]+", _GEMINI),
    Door("*", r"/(?:(?:knowledgebases|flows|prompts)/[^/]+/.+|agents/[^/]+/agentAliases/.+)", _BEDROCK),
    Door("POST", r"/(?:retrieveAndGenerate(?:Stream)?|generateQuery|optimize-prompt)", _BEDROCK),
    Door("*", r"/v1/(?:summarize|classify|datasets|connectors|finetuning)(?:/.*)?", _COHERE),
)
"""Of no use but to tell whose errors a path has that nobody knows: they stand behind all others."""

CLOUD_DOORS: Final = (*GOOGLE_DOORS, *BEDROCK_DOORS, *COHERE_DOORS)
