"""A picture's tokens, by the published rule, from the size in its first bytes."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.providers.image_tokens import (
    SIDE_MAX,
    claude_image_tokens,
    gemini_image_tokens,
    image_tokens,
    picture_size,
)


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data + bytes(64)).decode()}"


def png(width: int, height: int) -> str:
    return data_url(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height))


def jpeg(width: int, height: int, before: bytes = b"") -> str:
    return data_url(b"\xff\xd8" + before + b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", height, width), "jpeg")


def webp(kind: bytes, rest: bytes) -> str:
    return data_url(b"RIFF\0\0\0\0WEBP" + kind + b"\0\0\0\0" + rest, "webp")


@pytest.mark.parametrize(
    ("url", "size"),
    [
        (png(3008, 2000), (3008, 2000)),
        (data_url(b"GIF89a" + struct.pack("<HH", 640, 480), "gif"), (640, 480)),
        (jpeg(800, 600), (800, 600)),
        (jpeg(800, 600, b"\xff\xe1\x00\x06abcd\xff"), (800, 600)),
        (webp(b"VP8X", bytes(4) + (1023).to_bytes(3, "little") + (511).to_bytes(3, "little")), (1024, 512)),
        (webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 320, 200)), (320, 200)),
        (webp(b"VP8L", b"\x2f" + ((99) | (49 << 14)).to_bytes(4, "little")), (100, 50)),
        (png(0, 5), None), (png(2**31, 5), None), (jpeg(5, 5, b"\xff\xe1\xff\xff"), None), (data_url(b"BM"), None),
        ("https://example.com/a.png", None), ("data:image/png;base64,!!!!", None), ("data:image/png,abc", None),
    ],
)  # fmt: skip
def test_its_size_stands_in_its_header(url: str, size: tuple[int, int] | None) -> None:
    """PNG, GIF, JPEG and the three kinds of WebP; anything else is not known."""
    assert picture_size(url) == size


@pytest.mark.parametrize(
    ("model", "width", "height", "billed"),
    [
        ("gpt-4o", 100, 100, 255), ("gpt-4o", 3008, 2000, 1_105), ("gpt-4o-2024-08-06", 512, 512, 255),
        ("gpt-4o-mini", 100, 100, 8_500), ("openai/gpt-4o", 2048, 4096, 1_105), ("o1", 1024, 1024, 675),
    ],
)  # fmt: skip
def test_tiles(model: str, width: int, height: int, billed: int) -> None:
    """Not below what was recorded and published, and at most a row of tiles above."""
    bound = image_tokens(model, png(width, height), None)
    assert billed <= bound <= billed * 2.5
    assert image_tokens(model, png(width, height), "low") == bound


def test_what_is_not_known_costs_the_most_of_its_family() -> None:
    """A model without a rule of its own, a size that is not told, the original's detail."""
    assert image_tokens("o3-mini", png(10, 10), None) == image_tokens("gpt-4o", None, None) == 6_200
    assert image_tokens("gpt-4o", png(10, 10), "original") == 24_600
    assert image_tokens("who", None, None) == 24_600


@pytest.mark.parametrize(
    ("model", "width", "height", "billed"),
    [
        ("gpt-4.1-nano", 128, 128, 48), ("gpt-5-nano", 128, 128, 30), ("gpt-4.1-mini", 1024, 1024, 1_659),
        ("o4-mini", 4000, 4000, 2_642), ("gpt-5.1", 128, 128, 210), ("gpt-5", 100, 100, 210),
        ("gpt-4.1", 1024, 1024, 765),
    ],
)  # fmt: skip
def test_patches(model: str, width: int, height: int, billed: int) -> None:
    """⌈w/32⌉⌈h/32⌉ within its most, times the multiplier; recorded and published ones lie under it, none by far."""
    assert billed <= image_tokens(model, png(width, height), None) <= billed * 2.5


@pytest.mark.parametrize(
    ("width", "height", "billed"), [(597, 566, 258), (540, 360, 1_806), (1535, 1535, 1_290), (3000, 2000, 3_354)]
)
def test_crops(width: int, height: int, billed: int) -> None:
    """Two recorded ones of Gemini 2.x and two by the rule lie under it; of models without a rule the most is taken."""
    data = png(width, height).partition(",")[2]
    bound = gemini_image_tokens("gemini-2.5-flash", data)
    assert billed <= bound <= 11 * billed
    assert bound < gemini_image_tokens("gemini-9-pro", data) == gemini_image_tokens("gemini-2.5-flash", None)


@pytest.mark.parametrize(
    ("resolution", "published", "bound"),
    [
        ("", 1_120, 1_280), ("MEDIA_RESOLUTION_LOW", 280, 320), ("MEDIA_RESOLUTION_HIGH", 1_120, 1_280),
        ("MEDIA_RESOLUTION_ULTRA_HIGH", 2_240, 2_560), ("of_another_day", 0, 24_600), (None, 0, 24_600),
    ],
)  # fmt: skip
def test_gemini_3_goes_by_the_resolution_asked_for(resolution: str | None, published: int, bound: int) -> None:
    """Whatever its size; a word that is not known may be any."""
    for data in (None, png(3000, 2000).partition(",")[2]):
        found = gemini_image_tokens("models/gemini-3-pro-preview", data, resolution)
        assert published <= found == bound


@pytest.mark.parametrize(("side", "billed"), [(100, 27), (405, 235), (1001, 1_306), (1092, 1_590)])
def test_claude_goes_by_the_size(side: int, billed: int) -> None:
    """Three recorded ones, their text with them, and the published one lie under it, by their frame and a little."""
    for model in ("claude-opus-4-7", "anthropic.claude-3-haiku-20240307-v1:0"):
        assert billed <= claude_image_tokens(model, (side, side)) <= billed + 70
    assert image_tokens("anthropic/claude-sonnet-4.5", png(side, side), None) <= billed + 70


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("claude-3-7-sonnet-20250219", 1_700), ("claude-opus-4-20250514", 1_700), ("claude-sonnet-4-5", 1_700),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", 1_700), ("claude-opus-4-1@20250805", 1_700),
        ("claude-opus-4-7", 4_800), ("claude-sonnet-4-6", 4_800), ("claude-sonnet-5", 4_800),
        ("claude-opus-4-10", 4_800),
    ],
)  # fmt: skip
def test_claudes_most(model: str, most: int) -> None:
    """Of earlier models it is less; one whose generation is not known may be a later one."""
    assert claude_image_tokens(model, None) == claude_image_tokens(model, (9000, 9000)) == most


MODELS = st.sampled_from(["gpt-4o", "gpt-4o-mini", "gpt-4.1-nano", "gpt-5", "gpt-5.2", "o4-mini", "o1", "m"])
HEADERS = st.sampled_from([b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"GIF89a", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8X"])


@given(model=MODELS, head=HEADERS, data=st.binary(max_size=200), cut=st.integers(0, 300), noise=st.text(max_size=9))
def test_a_malformed_header_costs_no_more_than_the_most(
    model: str, head: bytes, data: bytes, cut: int, noise: str
) -> None:
    """Never an exception, never free, never above what a picture whose size is unknown costs (L0)."""
    written = base64.b64encode(head + data).decode()[:cut] + noise
    most = image_tokens(model, None, None)
    assert 0 < image_tokens(model, f"data:image/png;base64,{written}", None) <= most
    assert 0 < gemini_image_tokens("gemini-2.5-pro", written) <= gemini_image_tokens("gemini-2.5-pro", None)
    assert image_tokens(model, written, "original") >= most


@given(model=MODELS, width=st.integers(1, SIDE_MAX), height=st.integers(1, SIDE_MAX))
def test_a_picture_turned_costs_the_same(model: str, width: int, height: int) -> None:
    """A camera's picture may be turned by the provider before it is counted, so the bound must not depend on it."""
    assert image_tokens(model, png(width, height), None) == image_tokens(model, png(height, width), None)
