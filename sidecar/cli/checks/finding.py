"""What a check found."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sidecar.app.settings import Settings
from sidecar.cli.connection import Place
from sidecar.core.pricing.rate_cards import RateBook


class State(StrEnum):
    """How it stands. Only a problem makes the doctor's exit code 1."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it stands, what was found, and what to type next.

    Raises:
        ValueError: something is wrong and nothing is said to do about it.
    """

    check: str
    state: State
    what: str
    then: str = ""

    def __post_init__(self) -> None:
        if self.state is not State.OK and not self.then:
            raise ValueError(f"{self.check}: nothing is said to do about it")


def ok(check: str, what: str, then: str = "") -> Finding:
    """All is well."""
    return Finding(check, State.OK, what, then)


def warning(check: str, what: str, then: str) -> Finding:
    """It works, and may not be what was meant."""
    return Finding(check, State.WARNING, what, then)


def problem(check: str, what: str, then: str) -> Finding:
    """It does not work, or a limit does not limit."""
    return Finding(check, State.PROBLEM, what, then)


@dataclass(frozen=True, slots=True)
class Setup:
    """What is examined.

    `place` is None where no ledger was found; `data` None where the ledger is on another machine.
    `rates` is None where the catalog cannot be read. `settings` are the defaults where this shell's
    are wrong.
    """

    settings: Settings
    catalog: Path
    rates: RateBook | None
    data: Path | None
    place: Place | None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cards_older_than_days: int = 60

    @property
    def lone_ledger(self) -> bool:
        """Whether the folder is one of a `spend ledger`, beside which no sidecar runs."""
        place = self.place
        return place is not None and place.data is not None and bool(place.health) and not place.proxy

    @property
    def command(self) -> str:
        """What runs on this folder."""
        return "spend ledger" if self.lone_ledger else "spend up"

    @property
    def start(self) -> str:
        """What starts the product on this folder."""
        return start_on(self.data, self.command)


def start_on(data: Path | None, command: str = "spend up") -> str:
    """The command that starts the product on a folder; DIR where none is known."""
    return f"{command} --data {'DIR' if data is None else shlex.quote(str(data))}"
