"""Numbered SQL files, each applied once, in order, and never edited afterwards.

The files of an engine are `migrations/NNNN_name.ENGINE.sql`. The database remembers number
and checksum of each that it has applied. A database with a number that this version lacks is
newer than the code; one whose checksum differs was made by an edited file: both are refused,
because guessing would be done on somebody's money.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import resources

import msgspec

from sidecar.errors import ConfigurationError

TABLE = """CREATE TABLE IF NOT EXISTS migrations (
    number INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL
)"""
"""Where a database remembers what it has; the same text for every engine."""


class Migration(msgspec.Struct, frozen=True):
    """One file: its number, name and text."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Digest of the text, as it stands in the database."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def shipped(engine: str) -> tuple[Migration, ...]:
    """The migrations of an engine (`sqlite`) that come with this version, by number."""
    found: list[Migration] = []
    for file in (resources.files("sidecar.storage") / "migrations").iterdir():
        match = re.fullmatch(rf"(\d{{4}})_([a-z0-9_]+)\.{re.escape(engine)}\.sql", file.name, re.ASCII)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text("utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.number))


def pending(known: Sequence[Migration], applied: Mapping[int, str], *, where: str) -> tuple[Migration, ...]:
    """Which migrations a database still lacks.

    Args:
        known: the migrations of this version, by number.
        applied: number to checksum, as the database remembers them.
        where: what to call the database in an error.

    Raises:
        ConfigurationError: the database is newer, or was made by other files.
    """
    by_number = {migration.number: migration for migration in known}
    problems = [
        f"{where}: was made by a newer version (migration {number:04}); this one knows up to {max(by_number):04}"
        for number in sorted(applied)
        if number not in by_number
    ]
    problems += [
        f"{where}: migration {number:04} is not the one this database was made with"
        for number, digest in sorted(applied.items())
        if number in by_number and by_number[number].sha256 != digest
    ]
    if problems:
        raise ConfigurationError(problems)
    return tuple(migration for migration in known if migration.number not in applied)
