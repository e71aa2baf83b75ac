"""How a command ends when it could not do its work: words for people, an exit code for programs.

Neither can be made without saying what to do next: whoever reads an error is stuck.
"""

from __future__ import annotations

from typing import Final

import click

LOOK_AT_ALL: Final = "`spend doctor` looks at the whole set-up."
RUNS_ALREADY: Final = "Its admin.json says where that one listens. Stop it, or give another folder with --data."


class _Ended(click.ClickException):
    """`what` went wrong, and `then`: what to type or do next."""

    def __init__(self, what: str, then: str) -> None:
        super().__init__(f"{what}\n{then}")
        self.what = what
        self.then = then


class Failed(_Ended):
    """Refused, or not as it should be: exit code 1."""

    exit_code = 1


class NotReachable(_Ended):
    """There was no answer from a ledger: exit code 3, so that a script may wait and try again."""

    exit_code = 3
