"""Which calls a budget or a rate limit counts: read as it is typed, and shown so that it can be typed again."""

from __future__ import annotations

import click
import pytest

from sidecar.cli.matching import Match, match_words, of_words, scope_words


def read(text: str) -> dict[str, str]:
    """As the option takes it."""
    return Match().convert(text, None, None)


def test_what_is_shown_can_be_typed_again() -> None:
    """In one order, whichever way it was said."""
    match = read("model=gpt-4*,agent=pipeline-*")
    assert match == {"agent": "pipeline-*", "model": "gpt-4*"}
    assert match_words(match) == "agent=pipeline-*,model=gpt-4*"
    assert read(match_words(match)) == match


@pytest.mark.parametrize("text", ["", "agent", "agent=", "=x", "agent=a,agent=b", "agent=a,", "team=data"])
def test_what_is_no_match(text: str) -> None:
    """Each dimension once, with a pattern, and known: passed over, a limit would count other calls."""
    with pytest.raises(click.BadParameter):
        read(text)


def test_words() -> None:
    """In a table's column and in a sentence; nothing said is all calls."""
    assert (match_words({}), scope_words({}, ""), of_words({}, "")) == ("", "all", ("", ""))
    match = {"agent": "a"}
    assert scope_words(match, "session") == "agent=a each session"
    assert scope_words({}, "user") == "all each user"
    assert of_words(match, "session") == (" for each session", ", for agent=a")
