"""Writes that are done only where what is there is what their asker has seen."""

from __future__ import annotations

import msgspec

from sidecar.errors import StaleWrite, VersionRequired


class Condition(msgspec.Struct, frozen=True):
    """What must be so for a write to be done.

    `absent`: what is written is not there yet. `version`: it is there in this version; 0: in any.
    `told`: where neither is said, what is there is not changed: whoever changes it must have seen it.
    """

    version: int | None = None
    absent: bool = False
    told: bool = False

    def check(self, what: str, version: int | None, *, changes: bool) -> None:
        """Hold it against what is there.

        Args:
            what: is written, for the message.
            version: of what is there; None: nothing is.
            changes: whether the write would change it.

        Raises:
            StaleWrite: it is not so.
            VersionRequired: nothing was said.
        """
        if self.absent and version is not None:
            raise StaleWrite(f"{what} is there, in version {version}")
        if self.version is not None:
            if version is None:
                raise StaleWrite(f"{what} is not there")
            if self.version not in (0, version):
                raise StaleWrite(f"{what} is in version {version}, not {self.version}")
        elif self.told and version is not None and changes:
            raise VersionRequired(f"{what} is there, in version {version}; say so to change it", version=version)


UNCONDITIONAL = Condition()
