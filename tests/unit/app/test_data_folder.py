"""What a process keeps in its folder beside book and outbox."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.app.data_folder import NAME_FILE, open_data_folder, sidecar_name
from sidecar.app.system import RandomIds
from sidecar.errors import ConfigurationError


def test_a_name_is_made_once_and_stays_after_a_power_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L46, F-31b: without it the outbox would be another sidecar's, or nothing would start at all."""
    synced: list[str] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    name = sidecar_name(tmp_path, RandomIds())
    assert synced == [f"{NAME_FILE}.new", tmp_path.name]
    assert sidecar_name(tmp_path, RandomIds()) == name
    assert [path.name for path in tmp_path.iterdir()] == [NAME_FILE]


def test_a_file_with_something_else_in_it_is_said(tmp_path: Path) -> None:
    """Another name would leave every lease of the former one with nobody."""
    (tmp_path / NAME_FILE).write_text("")
    with pytest.raises(ConfigurationError, match="not a sidecar's name"):
        sidecar_name(tmp_path, RandomIds())


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """It is said what stands there, not that it exists: somebody who gave it knows that."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="is a file; give a folder with --data"):
        open_data_folder(tmp_path / "file")
