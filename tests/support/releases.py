"""The next version of the product: the one that is tested, with migrations more."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import sidecar

MORE_COLUMNS: Final = """
ALTER TABLE leases ADD COLUMN of_the_next BIGINT NOT NULL DEFAULT 7;
ALTER TABLE accounts ADD COLUMN of_the_next TEXT;
ALTER TABLE customers ADD COLUMN of_the_next BIGINT NOT NULL DEFAULT 0;
ALTER TABLE budgets ADD COLUMN of_the_next TEXT NOT NULL DEFAULT '';
ALTER TABLE grants ADD COLUMN of_the_next BIGINT;
ALTER TABLE fleet ADD COLUMN of_the_next TEXT NOT NULL DEFAULT '';
ALTER TABLE entries ADD COLUMN of_the_next TEXT;
CREATE TABLE only_the_next (customer TEXT COLLATE "C" NOT NULL PRIMARY KEY, number BIGINT NOT NULL);
CREATE INDEX leases_of_the_next ON leases (customer, of_the_next);
"""
"""What a version may add while the one before it runs: whoever does not know of it has a default."""


def next_release(folder: Path, *migrations: str) -> Path:
    """A copy of the package in a folder, with these PostgreSQL migrations more; a process started there runs it."""
    package = Path(sidecar.__file__).parent
    shutil.copytree(Path(__file__).resolve().parents[2] / "config", folder / "config")
    shutil.copytree(package, folder / "sidecar", ignore=shutil.ignore_patterns("__pycache__"))
    for number, sql in enumerate(migrations, start=9001):
        (folder / "sidecar" / "storage" / "migrations" / f"{number}_next.postgres.sql").write_text(sql)
    return folder
