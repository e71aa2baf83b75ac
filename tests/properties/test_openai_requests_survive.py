"""Whatever bytes come to OpenAI's further APIs or Ollama's: refused, or read as the provider reads them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.providers.dialect import BadRequest, Dialect
from sidecar.providers.image_tokens import image_tokens, picture_size
from sidecar.providers.registry import (
    OLLAMA,
    OPENAI_COMPLETIONS,
    OPENAI_EMBEDDINGS,
    OPENAI_IMAGES,
    OPENAI_RESPONSES,
)

IMAGE: Final = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}
SEEDS: Final[dict[Dialect, list[dict[str, Any]]]] = {
    OPENAI_RESPONSES: [
        {"model": "gpt-4o", "input": "hi", "max_output_tokens": 50, "stream": True},
        {
            "model": "o3",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "a"}, IMAGE]},
                {"type": "function_call_output", "call_id": "c", "output": [IMAGE]},
                {"type": "reasoning", "encrypted_content": "AAAA", "summary": []},
            ],
            "tools": [{"type": "function", "name": "f", "parameters": {}}],
            "reasoning": {"mode": "standard"},
            "previous_response_id": "resp_1",
            "background": False,
        },
    ],
    OPENAI_COMPLETIONS: [{"model": "davinci-002", "prompt": ["a", [1, 2]], "max_tokens": 5, "n": 2, "stream": True}],
    OPENAI_EMBEDDINGS: [
        {"model": "e", "input": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        {"model": "e", "input": ["a", "b"], "dimensions": 5},
    ],
    OPENAI_IMAGES: [{"model": "dall-e-3", "prompt": "a", "n": 2, "quality": "hd", "size": "1024x1024"}],
    OLLAMA: [{"model": "m", "messages": [{"role": "user", "content": "a"}], "options": {"num_predict": 5}}],
}
LIMITS: Final = ("max_output_tokens", "max_tokens")
TOKENS: Final = (
    b"{", b"}", b"[", b"]", b'"', b"\\", b"\\u0000", b"1e400", b"-0", b"null", b'"model":', b'"max_output_tokens":',
    b'"num_predict":', b'"n":', b'"stream":true,', b",", b":", b"\xff", b"\xef\xbb\xbf", b'"type":"input_image"',
)  # fmt: skip


def mutated(seeds: Sequence[dict[str, Any]]) -> st.SearchStrategy[bytes]:
    """A seed, changed a few times."""
    written = [json.dumps(seed).encode() for seed in seeds]
    piece = st.sampled_from(TOKENS) | st.binary(max_size=6)
    edits = st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 12), piece), max_size=4)

    def changed(seed: bytes, found: Sequence[tuple[int, int, bytes]]) -> bytes:
        for place, length, new in found:
            at = place % (len(seed) + 1)
            seed = seed[:at] + new + seed[at + length :]
        return seed

    return st.builds(changed, st.sampled_from(written), edits)


@pytest.mark.parametrize("dialect", SEEDS, ids=lambda dialect: dialect.name)
@given(data=st.data())
def test_requests(dialect: Dialect, data: st.DataObject) -> None:
    """Never an exception of another kind; the provider reads no other model, no other limit, and no longer answer."""
    body = data.draw(mutated(SEEDS[dialect]))
    try:
        facts = dialect.read_request(body)
    except BadRequest:
        return
    ours, theirs = json.loads(body), json.loads(facts.body)
    assert theirs["model"] == facts.model
    if facts.body != body:
        assert theirs.pop("stream_options")["include_usage"] is True
        ours.pop("stream_options", None)
    assert theirs == ours
    ceiling = facts.ceiling
    assert ceiling.input_tokens >= 0
    for name in LIMITS:
        if ours.get(name) is not None and not ceiling.unbounded:
            assert ceiling.output_limit is not None
            assert ceiling.output_limit >= ours[name]
    shorter = dialect.limit_output(facts, 16, own_field=False)
    if shorter is not None:
        again = dialect.read_request(shorter.body)
        assert (again.ceiling.output_limit, again.ceiling.choices) == (16, ceiling.choices)


@given(
    head=st.sampled_from([b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"GIF89a", b"\xff\xd8\xff\xe0\0\x10", b"RIFF\0\0\0\0WEBP"]),
    rest=st.binary(max_size=60),
    model=st.sampled_from(["gpt-4o", "gpt-4o-mini", "o1", "gpt-5", "x"]),
)
def test_pictures(head: bytes, rest: bytes, model: str) -> None:
    """Any header: a size that a picture can have, or none; and never more tokens than its family's most."""
    url = "data:image/x;base64," + base64.b64encode(head + rest).decode()
    size = picture_size(url)
    assert size is None or all(0 < side <= 2**20 for side in size)
    assert 0 < image_tokens(model, url, None) <= image_tokens(model, None, None)
