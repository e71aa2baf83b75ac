"""Checkpoints: where each customer's chain stood, signed, so that it can be held against the book later (L8).

A chain of hashes shows a change only to somebody who knows a later hash: whoever may write the book
may compute all of it anew. So the heads leave the book, signed with a key that is not in it. A
checkpoint is one line of JSON in ASCII, keys sorted, no blanks; what is signed (Ed25519) is that
line without its `signature`. It names the heads that moved since the one before it, and the SHA-256 of
that one's line, so that a line taken out of the middle is missed.
"""

from __future__ import annotations

import hashlib
import json

import msgspec

VERSION = 1
"""Of the text that is signed."""

MAX_HEADS = 128
"""Heads in one checkpoint; more of them make more checkpoints."""

MAX_LINE_BYTES = 48 * 1024
"""Of a line: so many heads of the longest names fit."""


class CheckpointError(ValueError):
    """A line is no checkpoint."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Where a customer's chain stood: the number and the hash of its last entry."""

    customer: str
    sequence: int
    hash: str


class Checkpoint(msgspec.Struct, frozen=True):
    """Some heads at one moment.

    `number` counts the checkpoints of one writer from 1, `previous` is the SHA-256 of the line before
    (empty for the first), `key` the writer's public key, and `signature` empty until it is signed; these
    three are in hex. `history_id` is the book's (L50a), `made_at_ms` Unix milliseconds.
    """

    history_id: str
    number: int
    made_at_ms: int
    heads: tuple[Head, ...]
    previous: str
    key: str
    signature: str = ""
    v: int = VERSION


def signed_text(checkpoint: Checkpoint) -> bytes:
    """What a signature is over."""
    fields = msgspec.to_builtins(checkpoint)
    del fields["signature"]
    return _CANONICAL.encode(fields).encode("ascii")


def line_of(checkpoint: Checkpoint) -> str:
    """A signed checkpoint as its line, without an end of line."""
    return _CANONICAL.encode(msgspec.to_builtins(checkpoint))


def digest_of_line(line: str) -> str:
    """What the next checkpoint says of this line."""
    return hashlib.sha256(line.encode("ascii")).hexdigest()


def read_line(line: str) -> Checkpoint:
    """The inverse of `line_of`. Whether the signature is good is not looked at.

    Raises:
        CheckpointError: it is no checkpoint, is of another version, or is written in another way.
    """
    try:
        checkpoint = _DECODER.decode(line)
        canonical = line_of(checkpoint)
    except (msgspec.MsgspecError, UnicodeError) as problem:
        raise CheckpointError(f"not a checkpoint: {problem}") from None
    if checkpoint.v != VERSION:
        raise CheckpointError(f"a checkpoint of version {checkpoint.v}; this reads {VERSION}")
    if canonical != line:
        raise CheckpointError("not written as a checkpoint is")
    return checkpoint


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
_DECODER = msgspec.json.Decoder(Checkpoint)
