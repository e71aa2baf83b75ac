"""What must hold of this machine before anything is served (S-21, S-59): checked once, at the start.

A process that serves all the same would fail later and worse: with a clock before its own release
no certificate is valid and every period is the wrong one, and with too few descriptors it refuses
callers in the middle of a rush.
"""

from __future__ import annotations

import ctypes
import logging
import re
import resource
import sys
from datetime import UTC, datetime
from typing import Final

import aiohttp

from sidecar.app.settings import FEW_FILES
from sidecar.errors import ConfigurationError

AIOHTTP_MIN: Final = (3, 14)
"""The first whose parser was tried against everything in `tests/bad_input`."""

CLOCK_MIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
CLOCK_MAX: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""A wall clock outside of these was never set."""

_PR_SET_DUMPABLE: Final = 4

logger = logging.getLogger(__name__)


def guard_start(now: datetime, *, files_wanted: int) -> int:
    """Check what must hold, and make this process's memory its own.

    Args:
        now: the wall clock, timezone-aware.
        files_wanted: descriptors for as many connections as are configured. The soft limit is raised to
            it as far as the hard one allows; less is told in the log (`few_open_files`).

    Returns:
        How many descriptors there may be now.

    Raises:
        ConfigurationError: an aiohttp that is too old, a clock that was never set, or fewer than FEW_FILES
            descriptors; all of them in one report.
    """
    keep_memory_private()
    limit = raise_open_files(files_wanted)
    problems = []
    if version_of(aiohttp.__version__) < AIOHTTP_MIN:
        least = ".".join(map(str, AIOHTTP_MIN))
        problems.append(f"aiohttp: {aiohttp.__version__} is installed and {least} is needed; pip install -U aiohttp")
    if not CLOCK_MIN <= now < CLOCK_MAX:
        problems.append(f"the clock says {now:%Y-%m-%d}; set it first: timedatectl set-ntp true")
    if limit < FEW_FILES:
        problems.append(f"open files: {limit} are allowed and {FEW_FILES} needed; first: ulimit -n {files_wanted}")
    if problems:
        raise ConfigurationError(problems)
    if limit < files_wanted:
        logger.warning("few_open_files", extra={"facts": {"allowed": limit, "wanted": files_wanted}})
    return limit


def keep_memory_private() -> None:
    """No memory dump, and no other process of this user may read the memory or the environment: keys are in both."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def raise_open_files(wanted: int) -> int:
    """Allow this process so many descriptors if the hard limit does; gives what it may have now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return max(soft, wanted)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(allowed, soft)


def version_of(text: str) -> tuple[int, ...]:
    """The numbers that a version begins with: (3, 14, 5) of 3.14.5rc1."""
    found = re.match(r"\d+(?:\.\d+)*", text, re.ASCII)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
