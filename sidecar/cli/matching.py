"""Which calls a budget or a rate limit counts: `--match` and `--each` as they are typed, and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from sidecar.cli.choices import did_you_mean
from sidecar.core.governance.budgets import DIMENSIONS

EACH: Final = ("session", "user", "agent")


class Match(click.ParamType[dict[str, str]]):
    """`agent=…,model=…`."""

    name = "agent=…,model=…"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        """Read one."""
        match: dict[str, str] = {}
        for part in str(value).split(","):
            dimension, mark, pattern = part.partition("=")
            if not mark or not dimension or not pattern or dimension in match:
                wrong = f"{part[:64]!r}: expected dimension=pattern, each dimension once, such as agent=pipeline."
                self.fail(wrong, param, ctx)
            if dimension not in DIMENSIONS:
                known = ", ".join(DIMENSIONS)
                guess = did_you_mean(dimension, DIMENSIONS)
                self.fail(f"{dimension[:64]!r} is no dimension; known are {known}.{guess}", param, ctx)
            match[dimension] = pattern
        return match


match_option = click.option(
    "--match", type=Match(), metavar=Match.name, help="Counts these calls only; * stands for any run of characters."
)


def match_words(match: Mapping[str, str]) -> str:
    """A match as it is typed, `` for none."""
    return ",".join(f"{dimension}={pattern}" for dimension, pattern in sorted(match.items()))


def scope_words(match: Mapping[str, str], each: str) -> str:
    """What counts, as a table's column has it: `all`, `agent=pipeline each session`."""
    return " ".join(filter(None, (match_words(match) or "all", f"each {each}" if each else "")))


def of_words(match: Mapping[str, str], each: str) -> tuple[str, str]:
    """The same within a sentence: ` for each session` and `, for agent=pipeline`, `` where there is none."""
    return f" for each {each}" if each else "", f", for {match_words(match)}" if match else ""
