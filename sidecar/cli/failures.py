"""How a command ends when it could not do its work: words for people, an exit code for programs."""

from __future__ import annotations

import click


class Failed(click.ClickException):
    """Refused, or not as it should be: exit code 1."""

    exit_code = 1


class NotReachable(click.ClickException):
    """There was no answer from a ledger: exit code 3, so that a script may wait and try again."""

    exit_code = 3
