"""Words that are one of a few: a mistyped one is told which was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import click


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean …?` for a word that is close to a known one, else nothing."""
    close = get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""


class OneOf(click.Choice[str]):
    """One of some words."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Name the words, the closest first."""
        del ctx
        return f"{str(value)[:64]!r} is not one of {', '.join(self.choices)}.{did_you_mean(str(value), self.choices)}"

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:
        """Name the words in a line, as above, and not in a column of their own."""
        del param, ctx
        return f"Choose from {', '.join(self.choices)}."


class Number(click.IntRange):
    """A whole number within bounds."""

    name = "number"


class Grouping(click.ParamType[str]):
    """What `--by` takes: one of some words, or `node:KIND`."""

    name = "grouping"

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take a known word; `node:` is left to the ledger to read."""
        text = str(value)
        if text in self.words or text.startswith("node:"):
            return text
        known = ", ".join(self.words)
        guess = did_you_mean(text, self.words)
        problem = f"{text[:64]!r} is not one of {known}, or node:KIND for another kind of node.{guess}"
        raise click.BadParameter(problem, ctx=ctx, param=param)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """The words that begin so."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 (rarely needed)

        return [CompletionItem(word) for word in self.words if word.startswith(incomplete)]
