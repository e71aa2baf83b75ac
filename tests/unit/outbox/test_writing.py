from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sidecar.outbox.writing import write


def test_bytes_go_out_as_they_are(tmp_path: Path) -> None:
    """Zeros among them, one piece behind the other."""
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    assert write(descriptor, b"a\0b") == 3
    assert write(descriptor, b"") == 0
    assert write(descriptor, bytes(range(256)) * 40) == 10_240
    os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"a\0b" + bytes(range(256)) * 40


def test_a_failure_is_an_error_with_its_number(tmp_path: Path) -> None:
    """As os.write has it: which, and in words."""
    (tmp_path / "file").touch()
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file descriptor") as failed:
        write(descriptor, b"a")
    os.close(descriptor)
    assert failed.value.errno == errno.EBADF


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_one() -> None:
    """ENOSPC comes out of the very call."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space left") as failed:
        write(descriptor, b"a")
    os.close(descriptor)
    assert failed.value.errno == errno.ENOSPC
