"""A picture's tokens, by the published rule, from the size in its first bytes."""

from __future__ import annotations

import base64
import struct

import pytest

from sidecar.providers.image_tokens import image_tokens, picture_size


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
    assert image_tokens("gpt-5-mini", png(10, 10), None) == image_tokens("gpt-4o", None, None) == 6_200
    assert image_tokens("gpt-4o", png(10, 10), "original") == 24_600
    assert image_tokens("who", None, None) == 24_600
