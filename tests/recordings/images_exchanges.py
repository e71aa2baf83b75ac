"""Answers with pictures, of our own making."""

from __future__ import annotations

import json
from typing import Any, Final

from sidecar.core.pricing.usage import Tokens, UsageState
from sidecar.providers.dialect import Ending
from tests.recordings.exchange import Exchange, sse

FINAL, PARTIAL, ESTIMATED, ABSENT, ERROR = UsageState
PATH: Final = "/v1/images/generations"
BY_TOKENS: Final = {"model": "gpt-image-1", "prompt": "a cat"}
BY_PIECE: Final = {"model": "dall-e-3", "prompt": "a cat", "quality": "hd", "size": "1024x1792"}
USAGE: Final[dict[str, Any]] = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    "output_tokens": 272,
    "total_tokens": 322,
}
DRAWN: Final = Tokens(50, output_tokens=272, input_text_tokens=10, input_image_tokens=40, output_image_tokens=272)
UNIT: Final = "image_hd_1024x1792"


def _answer(pictures: int, usage: Any = None) -> bytes:
    data = [{"b64_json": "usage" * 5}] * pictures
    return json.dumps({"created": 1_790_000_000, "data": data} | ({} if usage is None else {"usage": usage})).encode()


def _event(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": f"image_generation.{kind}", "b64_json": "A" * 300, **more}


EXCHANGES: Final = (
    Exchange("tokens of the prompt and the picture", PATH, BY_TOKENS, _answer(1, USAGE), FINAL, DRAWN),
    Exchange(
        "what was drawn and what was written",
        PATH,
        BY_TOKENS,
        _answer(1, USAGE | {"output_tokens_details": {"text_tokens": 12, "image_tokens": 260}}),
        FINAL,
        Tokens(50, output_tokens=272, input_text_tokens=10, input_image_tokens=40, output_text_tokens=12,
               output_image_tokens=260),
    ),
    Exchange(
        "the usage of an answer too long to be kept",
        PATH,
        BY_TOKENS,
        b'{"data":["' + b"A" * 100 + b'"],"usage":' + json.dumps(USAGE).encode() + b"}",
        FINAL,
        DRAWN,
    ),
    Exchange("pictures by the piece", PATH, BY_PIECE, _answer(2), FINAL, units={UNIT: 2}),
    Exchange("no picture, no charge by the piece", PATH, BY_PIECE, _answer(0), ABSENT),
    Exchange("nobody tells the tokens", PATH, BY_TOKENS, _answer(1), ABSENT),
    Exchange("refused", PATH, BY_PIECE, b'{"error":{"message":"no"}}', ERROR, status=400, notes=("provider_error",)),
    Exchange(
        "a stream",
        PATH,
        BY_TOKENS | {"stream": True, "partial_images": 1},
        sse(_event("partial_image", partial_image_index=0), _event("completed", usage=USAGE), named=True),
        FINAL,
        DRAWN,
        finished=True,
    ),
    Exchange(
        "a stream that broke off",
        PATH,
        BY_TOKENS | {"stream": True},
        sse(_event("partial_image", partial_image_index=0), named=True),
        ESTIMATED,
        ending=Ending.CUT,
    ),
    Exchange(
        "an error in a stream",
        PATH,
        BY_TOKENS | {"stream": True},
        sse({"type": "error", "error": {"message": "no"}}, named=True),
        ERROR,
        notes=("provider_error",),
    ),
)  # fmt: skip
