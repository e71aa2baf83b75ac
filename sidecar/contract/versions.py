"""Which versions of the contract are understood here."""

from __future__ import annotations

from sidecar.contract import messages
from sidecar.errors import WireFormatError


class UnknownVersion(WireFormatError):
    """A peer speaks a version that is not understood here; `spoken` is its own."""

    def __init__(self, peer: str, spoken: int) -> None:
        super().__init__(peer, f"speaks version {spoken} of the contract, this side {known_versions()}")
        self.spoken = spoken


def known_versions() -> str:
    """What this side understands, in words."""
    oldest, newest = messages.OLDEST_VERSION, messages.VERSION
    return str(newest) if oldest == newest else f"{oldest} to {newest}"


def is_known(version: int) -> bool:
    """Whether a version is understood here."""
    return messages.OLDEST_VERSION <= version <= messages.VERSION


def check_version(version: int, *, peer: str) -> None:
    """Refuse a version that is not understood here.

    Raises:
        UnknownVersion: it names both.
    """
    if not is_known(version):
        raise UnknownVersion(peer, version)
