"""What a picture costs at most, by its family's own rule, from the size that its first bytes tell.

The length of a picture's bytes says nothing. Its width and height stand in its header; a picture whose header is
not read (an address, a format or a file we do not know) costs its family's most.

Sources: developers.openai.com/api/docs/guides/images-vision (tiles and patches; the published multipliers have
drifted, so each is taken at the largest seen), ai.google.dev/gemini-api/docs/tokens (crops) and media-resolution,
docs.anthropic.com/en/docs/build-with-claude/vision, and recorded exchanges of each, checked 2026-11;
the W3C's PNG, the JFIF, GIF89a and WebP container specifications for the headers.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from math import ceil
from typing import Final, NamedTuple

from sidecar.providers.token_estimates import CLAUDE, ORIGINAL_DETAIL_IMAGE, family_of

HEADER_CHARS_MAX: Final = 64 * 1024
"""Of a picture's base64, no more is decoded: a JPEG may have its preview and its colours before its size."""

SIDE_MAX: Final = 2**20
"""A side that is longer is no picture's."""

_DATA_URL: Final = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,", re.IGNORECASE | re.ASCII)
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG's markers of a frame, in which its size stands."""


class _Tiles(NamedTuple):
    base: int
    tile: int


_TILES: Final[tuple[tuple[tuple[str, ...], _Tiles], ...]] = (
    # first match wins; a mini or nano of a later family is billed by patches
    (("gpt-4o-mini",), _Tiles(2_833, 5_667)),
    (("gpt-4o", "chatgpt-4o", "gpt-4.5", "gpt-4-turbo", "gpt-4-vision"), _Tiles(85, 170)),
    (("o1", "o3"), _Tiles(75, 150)),
    (("gpt-4.1",), _Tiles(85, 170)),
    (("gpt-5",), _Tiles(70, 140)),
)


class _Patches(NamedTuple):
    """`most` of 32 by 32 pixels, each for `per_100` hundredths of a token."""

    most: int
    per_100: int


_PATCHES: Final[tuple[tuple[tuple[str, ...], _Patches], ...]] = (
    # first match wins; a multiplier that drifted is the largest of those that were published
    (("gpt-4.1-mini", "gpt-5-mini"), _Patches(1_536, 162)),
    (("gpt-4.1-nano", "gpt-5-nano"), _Patches(1_536, 246)),
    (("o4-mini",), _Patches(1_536, 172)),
    (("gpt-5.",), _Patches(2_500, 246)),
)
PATCH_PIXELS: Final = 32

GEMINI_TILE: Final = 258
"""What one tile of a picture costs on Gemini 1.5 to 2.5, and a picture of at most 384 by 384."""

_BY_CROPS: Final = ("gemini-1.5", "gemini-2.")

_BY_RESOLUTION: Final = "gemini-3"
_RESOLUTIONS: Final[Mapping[str, int]] = {
    "MEDIA_RESOLUTION_LOW": 320, "MEDIA_RESOLUTION_MEDIUM": 640, "MEDIA_RESOLUTION_HIGH": 1_280,
    "MEDIA_RESOLUTION_ULTRA_HIGH": 2_560, "MEDIA_RESOLUTION_UNSPECIFIED": 1_280, "": 1_280,
}  # fmt: skip
"""What a picture costs on Gemini 3 by the resolution asked for: 280, 560, 1,120 (so where none is) and 2,240 are
published as near figures, so each is a seventh more here; the picture's own size does not matter."""

CLAUDE_PATCH_PIXELS: Final = 28
CLAUDE_PIXELS_A_TOKEN: Final = 750
CLAUDE_FRAME: Final = 32
"""What stands around a picture; ten tokens were recorded."""

CLAUDE_IMAGE_BEFORE: Final = 1_700
"""The most of a picture on Claude up to 4.5, which reduce it to 1,568 pixels a side and some 1,600 tokens."""

_CLAUDE_BEFORE: Final = re.compile(
    r"claude-(?:instant|[123](?=[-.@:]|\Z)|(?:opus|sonnet|haiku)-[34](?:[-.][015])?(?=[-@]20\d{6}|[-@:]v|-latest|\Z))",
    re.ASCII,
)


def image_tokens(model: str, url: str | None, detail: str | None) -> int:
    """The most that a picture costs this model, in tokens.

    Args:
        model: as a caller or a router writes it.
        url: a data URL; anything else is a picture whose size is not known.
        detail: as asked for.
    """
    most = max(family_of(model).image, ORIGINAL_DETAIL_IMAGE if detail == "original" else 0)
    tiles, patches = _tiles_of(model), _patches_of(model)
    if tiles is None and patches is None and "claude" in model.lower():
        return claude_image_tokens(model, None if url is None else picture_size(url))
    if (tiles is None and patches is None) or detail == "original":
        return most
    size = None if url is None else picture_size(url)
    if size is None:
        return most
    # Of a later gpt-5 it is not known which rule holds: the dearer.
    by_tiles = 0 if tiles is None else _by_tiles(tiles, *size)
    by_patches = 0 if patches is None else _by_patches(patches, *size)
    return min(most, max(by_tiles, by_patches))


def claude_image_tokens(model: str, size: tuple[int, int] | None) -> int:
    """The most that a picture of this size costs one of Anthropic's models; None: its size is not known.

    In squares of 28 pixels, or one token for 750 of them, whichever is more; a large one is reduced first, which only
    lessens it, and none is enlarged. Recorded: 27 of 100 by 100, 235 of 405 by 405, 1,306 of 1001 by 1001, each with
    some ten tokens around it.
    """
    most = CLAUDE_IMAGE_BEFORE if _CLAUDE_BEFORE.search(model.lower()) else CLAUDE.image
    if size is None:
        return most
    width, height = size
    patches = -(-width // CLAUDE_PATCH_PIXELS) * -(-height // CLAUDE_PATCH_PIXELS)
    return min(most, max(patches, -(-width * height // CLAUDE_PIXELS_A_TOKEN)) + CLAUDE_FRAME)


def size_of(data: str) -> tuple[int, int] | None:
    """Width and height of a picture in base64, None where its header does not tell."""
    return picture_size(f"data:image/png;base64,{data[:HEADER_CHARS_MAX]}")


def gemini_image_tokens(model: str, data: str | None, resolution: str | None = "") -> int:
    """The most that a picture costs one of Google's models: Gemini 1.5 to 2.5 by its size, Gemini 3 by resolution.

    Args:
        model: as a path or a router has it.
        data: the picture in base64; None or what is none: its size is not known.
        resolution: as asked for, `` where nothing is asked; None: it cannot be told which.
    """
    most, name = family_of(model).image, model.lower().rpartition("/")[2]
    if name.startswith(_BY_RESOLUTION):
        return most if resolution is None else _RESOLUTIONS.get(resolution, most)
    if data is None or not name.startswith(_BY_CROPS):
        return most
    size = size_of(data)
    return most if size is None else min(most, _by_crops(*size))


def picture_size(url: str) -> tuple[int, int] | None:
    """Width and height of the picture in a data URL, None where its header does not tell."""
    head = _DATA_URL.match(url)
    if head is None:
        return None
    text = url[head.end() : head.end() + HEADER_CHARS_MAX]
    try:
        data = base64.b64decode(text[: len(text) // 4 * 4], validate=True)
    except (ValueError, binascii.Error):
        return None
    size = _size(data)
    return size if size is not None and all(0 < side <= SIDE_MAX for side in size) else None


def _tiles_of(model: str) -> _Tiles | None:
    name = model.lower().rpartition("/")[2]
    if ("-mini" in name or "-nano" in name) and not name.startswith("gpt-4o-mini"):
        return None
    return next((rule for names, rule in _TILES if name.startswith(names)), None)


def _patches_of(model: str) -> _Patches | None:
    name = model.lower().rpartition("/")[2]
    return next((rule for names, rule in _PATCHES if name.startswith(names)), None)


def _by_patches(rule: _Patches, width: int, height: int) -> int:
    """Counted in patches, one more each way as the rounding of a reduced side is not published; a part counts whole."""
    patches = (-(-width // PATCH_PIXELS) + 1) * (-(-height // PATCH_PIXELS) + 1)
    return -(-min(patches, rule.most) * rule.per_100 // 100)


def _by_crops(width: int, height: int) -> int:
    """Cut into squares of two thirds of the shorter side, within 256 and 768 pixels, and one of the whole.

    Recorded: 1,806 of one of 540 by 360, six and the whole; elsewhere 258 to 3,354. What is at most 384 both ways is
    one, and later 2.5 models bill larger ones so too. A side that comes out even has one more here.
    """
    side = min(768, max(256, min(width, height) * 2 // 3))
    return GEMINI_TILE * ((width // side + 1) * (height // side + 1) + 1)


def _by_tiles(rule: _Tiles, width: int, height: int) -> int:
    """Fitted into 2,048 squared, the shortest side to 768, then counted in tiles of 512; none is enlarged.

    How the provider rounds a side that it reduced is not published, so such a one is a pixel longer here.
    """
    scale = min(1.0, 2048 / max(width, height))
    scale = min(scale, scale * 768 / max(1.0, min(width, height) * scale))
    margin = 1 if scale < 1 else 0
    tiles = ceil((width * scale + margin) / 512) * ceil((height * scale + margin) / 512)
    return rule.base + rule.tile * tiles


def _size(data: bytes) -> tuple[int, int] | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data.startswith((b"GIF87a", b"GIF89a")) and len(data) >= 10:
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp_size(data)
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _FRAMES:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a" and len(data) >= 30:
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    if kind == b"VP8L" and len(data) >= 25 and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None
