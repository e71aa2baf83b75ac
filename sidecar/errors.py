"""What can go wrong, sorted by what the caller can do about it.

A denial is not here: saying no is an answer (`core.governance.decisions.Denied`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class SidecarError(Exception):
    """The root of everything this project raises on purpose."""


class ConfigurationError(SidecarError):
    """Fix it and restart.

    Carries every problem found, not only the first, each naming the file, the key
    and what was expected.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class InUse(ConfigurationError):
    """What is to be opened is open elsewhere, and can be open only once."""


class WireFormatError(SidecarError):
    """A peer's bytes made no sense.

    Says which peer and at which offset, never the text itself: it may be a prompt.
    """

    def __init__(self, peer: str, what: str, *, offset: int | None = None) -> None:
        where = "" if offset is None else f" at byte {offset}"
        super().__init__(f"{peer}: {what}{where}")
        self.peer = peer
        self.what = what
        self.offset = offset


class Unavailable(SidecarError):
    """Try again after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LedgerUnavailable(Unavailable):
    """The ledger did not answer, or answered that it cannot now."""


class WindowsUnavailable(Unavailable):
    """Where the fleet counts its rate limits there was no answer in time, or one that made no sense."""


class CopiesUnavailable(Unavailable):
    """Where the fleet leaves copies of policies there was no answer in time."""


class UpstreamUnavailable(Unavailable):
    """The provider was not reached; nothing was sent to it."""


class SpoolFull(Unavailable):
    """The outbox cannot record: its disk is full or failing, or its cap is reached."""


class Conflict(SidecarError):
    """Do not repeat this unchanged: the state or the key stands in the way."""

    code = "conflict"


class IdempotencyConflict(Conflict):
    """The same idempotency key came with other contents; `field` names the first that differs."""

    code = "idempotency_mismatch"

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class StaleWrite(Conflict):
    """Somebody else changed it first."""

    code = "stale_write"


class VersionRequired(Conflict):
    """This would change something that is there, and does not say which `version` of it was seen."""

    code = "precondition_required"

    def __init__(self, message: str, *, version: int) -> None:
        super().__init__(message)
        self.version = version


class StaleIncarnation(Conflict):
    """This incarnation was never registered, or has ended: it gets nothing lent (L43). Register, then ask again."""

    code = "stale_incarnation"


class HoldAlreadyResolved(Conflict):
    """The hold was settled, released or expired before."""

    code = "hold_finalised"


class Rejected(SidecarError):
    """The request itself is at fault, field by field; nothing was changed.

    `problems` maps a field's name to what was expected there. `code` is the machine's word.
    """

    def __init__(self, code: str, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {what}" for field, what in problems.items()))
        self.code = code
        self.problems = dict(problems)


class NotFound(SidecarError):
    """What was named does not exist (or not for this caller: the two are not told apart)."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"{what} {name!r} does not exist")
        self.what = what
        self.name = name
