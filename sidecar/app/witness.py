"""A sidecar as a witness: it keeps the last checkpoints that it was told of, and knows nothing more of them (L8)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from sidecar.app.checkpoint_files import CheckpointFile
from sidecar.core.credits.checkpoints import MAX_LINE_BYTES

WITNESSED: Final = "witnessed.jsonl"
"""In the sidecar's folder, with `witnessed.jsonl.1` before it."""

MAX_WITNESSED_BYTES: Final = 1024 * 1024
"""Of each of the two."""

logger = logging.getLogger(__name__)


class Witness:
    """Keeps them in a data folder, up to twice MAX_WITNESSED_BYTES; whoever needs them looks at the signatures."""

    def __init__(self, data: Path) -> None:
        self._file = CheckpointFile(data / WITNESSED, max_bytes=MAX_WITNESSED_BYTES, durable=False)
        self._last = ""
        self._is_failing = False

    def keep(self, line: str) -> None:
        """Keep one; a disk that cannot take it costs no call anything."""
        if line == self._last or not line.isascii() or not line.isprintable() or len(line) > MAX_LINE_BYTES:
            return
        try:
            self._file.make_room()
            self._file.append([line])
            self._last = line
            self._is_failing = False
        except OSError as problem:
            if not self._is_failing:
                logger.warning("checkpoint_not_kept", extra={"facts": {"problem": str(problem)}})
            self._is_failing = True
