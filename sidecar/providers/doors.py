"""The ways into a provider's API, and which of them are metered: a table from method and path to a dialect.

Each protocol lists its doors, beside those that are metered also those that are known and are not: what is free
(a list of models), what only comes back (a stored answer), and what is billed where no answer shows it (files,
batches, voices). For each of these, and for a path that nobody knows, the configuration chooses: refused in the
caller's own protocol, or passed on and counted by call. Nothing passes unseen.

A path is compared as it came, never decoded or normalised: another spelling is another path, and nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from sidecar.providers.dialect import Dialect, Shape

PATH_SHOWN_MAX: Final = 512
"""Of a path at most this much, its end, is looked at to tell the shape of a refusal: anybody may send any length."""


class Kind(StrEnum):
    """Why a known door is not metered."""

    FREE = "free"  # nothing is billed: models, counting tokens
    STORED = "stored"  # what was billed when it was made: a stored answer by its id
    FILES = "files"  # uploads, stores, containers: billed by space and day
    BATCH = "batch"  # billed when the batch is done
    BACKGROUND = "background"  # an answer that is made after its request was answered
    REALTIME = "realtime"  # conversations over sockets
    AUDIO = "audio"
    IMAGES = "images"  # pictures that are changed: they come as a form, which is not read
    VIDEO = "video"
    AGENTS = "agents"  # work in many calls at the provider: assistants, threads, sessions
    TRAINING = "training"  # tuning and grading of models
    SIGNED = "signed"  # metered, but for a signature over the address, which does not hold through a proxy
    OTHER = "other"  # a path that nobody here knows


KEPT_BY_ID: Final = frozenset({"openai.responses", "gemini.interactions"})
"""Dialects whose answers are kept at the provider unless the request says otherwise, to come back by their id."""

ANSWERS_KEPT_MAX: Final = 32_768
"""Kept answers of which it is known who made them, some eight megabytes; the one made longest ago goes first."""


class Choice(StrEnum):
    """What becomes of a call to a door that is not metered."""

    REFUSE = "refuse"
    PASS_COUNTED = "pass_counted"  # noqa: S105 - a word, no password


CHOICES: Final[Mapping[Kind, Choice]] = {
    kind: Choice.PASS_COUNTED if kind in {Kind.FREE, Kind.STORED} else Choice.REFUSE for kind in Kind
}
"""What holds where the configuration says nothing."""


class Door(NamedTuple):
    """One way in: its methods (`POST`, `GET DELETE`, or `*` for any) and its path.

    `tail` is a pattern of the path after the API's version (`/chat/completions`). Below a further upstream's name
    whatever stands before it is the server's own affair, unless `behind` says what may. `dialect` is None for a door
    that is not metered; then `kind` says why.
    """

    methods: str
    tail: str
    shape: Shape
    dialect: Dialect | None = None
    kind: Kind = Kind.OTHER
    behind: str = ""


class DoorTable:
    """Finds doors by method and raw path. The first that fits is taken, so a narrower one stands before a wider."""

    def __init__(self, doors: Iterable[Door], *, prefix: str | None = None) -> None:
        """Make a table; with a `prefix` (`/v1`) a path is that and a tail and nothing else."""
        self._doors = [(_compiled(door, prefix), frozenset(door.methods.split()), door) for door in doors]

    def find(self, method: str, path: str) -> Door | None:
        """The door of a path without its query, None where it has none."""
        for pattern, methods, door in self._doors:
            if (method in methods or "*" in methods) and pattern.search(path):
                return door
        return None

    def at(self, path: str) -> Iterator[Door]:
        """The doors at a path, whatever the method."""
        return (door for pattern, _, door in self._doors if pattern.search(path))


def _compiled(door: Door, prefix: str | None) -> re.Pattern[str]:
    if prefix is not None:
        return re.compile(rf"\A{prefix}{door.tail}\Z", re.ASCII)
    return re.compile(rf"{door.behind}{door.tail}\Z", re.ASCII)
