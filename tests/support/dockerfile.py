"""Reads the Dockerfile, for the tests that hold it against the code and that run its steps."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from tests.unit.source_tree import ROOT


@dataclass
class Stage:
    """One stage: what it starts from, its name, and its instructions in order."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        """The texts of every instruction of a kind."""
        return [text for word, text in self.instructions if word == keyword]

    def one(self, keyword: str) -> str:
        """The text of the only instruction of a kind."""
        [text] = self.all(keyword)
        return text

    def command(self, keyword: str) -> list[str]:
        """The words of an ENTRYPOINT or CMD in its JSON form, which needs no shell."""
        words: list[str] = json.loads(self.one(keyword))
        return words

    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        pairs = (word.partition("=") for text in self.all("ENV") for word in shlex.split(text))
        return {name: value for name, _, value in pairs}

    def sources(self) -> list[str]:
        """What COPY takes from the context."""
        copies = [shlex.split(text) for text in self.all("COPY")]
        return [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]


@dataclass
class Dockerfile:
    """The global arguments with their defaults, and the stages."""

    arguments: dict[str, str]
    stages: list[Stage]


def read_dockerfile() -> Dockerfile:
    """The repository's own. A line that is no instruction fails."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = Dockerfile({}, [])
    for line in filter(None, map(str.strip, text.splitlines())):
        match = re.fullmatch(r"([A-Z]+)\s+(.*)", line)
        assert match is not None, line
        keyword, rest = match[1], " ".join(match[2].split())
        if keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            found.stages.append(Stage(base, name))
        elif found.stages:
            found.stages[-1].instructions.append((keyword, rest))
        else:
            assert keyword == "ARG", line
            name, _, default = rest.partition("=")
            found.arguments[name] = default
    return found


def context() -> list[Path]:
    """The files that `.dockerignore` lets into a build, relative to the repository."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    named = [rule[1:] for rule in rules if rule.startswith("!")]
    out = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]
    found = []
    for name in named:
        path = ROOT / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            relative = file.relative_to(ROOT)
            if file.is_file() and not any(fnmatch(part, rule) for part in relative.parts for rule in out):
                found.append(relative)
    return found
