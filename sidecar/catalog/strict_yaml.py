"""YAML without its surprises, with the line of every value.

YAML 1.1 reads `no` as false, `12:30:45` as 45045, `010` as eight and `2026-11-24` as a date, lets
a key stand twice, and lets nine lines of aliases stand for a billion nodes. Here a plain scalar is
true, false, null or a plain decimal integer, and else text; a number with a point is refused where
it stands, because it would become a float. Duplicate keys, aliases, tags, several documents,
too deep and too long are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from sidecar.catalog.files import MAX_BYTES
from sidecar.errors import ConfigurationError

Path = tuple[str | int, ...]
"""Keys and indices from the document's root to a value."""

MAX_DEPTH = 32
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""What no text of a configuration has, though an escape can write it; NUL not every store can keep."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+|\.(?:inf|nan))", re.ASCII | re.I
)
_LOADER: type[Any] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """A file's contents, and where each value stands: `lines` maps a path of keys to a line."""

    name: str
    value: Any
    lines: dict[Path, int]

    def at(self, path: Path) -> str:
        """`file:line key.path` for a message; of the nearest parent where the path itself is not there."""
        place = path
        while place not in self.lines and place:
            place = place[:-1]
        key = ".".join(map(str, path))
        return f"{self.name}:{self.lines.get(place, 1)} {key}".rstrip()


def read_yaml(name: str, data: bytes) -> Document:
    """Read one document; an empty one is an empty mapping.

    Raises:
        ConfigurationError: it is not such YAML; with file and line.
    """
    if len(data) > MAX_BYTES:
        raise ConfigurationError([f"{name}: larger than {MAX_BYTES} bytes"])
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise ConfigurationError([f"{name}: not UTF-8 at byte {problem.start}"]) from None
    builder = _Builder(name)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        what = getattr(problem, "problem", None) or "not YAML"
        raise ConfigurationError([f"{where}: {what}"]) from None
    if builder.problems:
        raise ConfigurationError(builder.problems)
    return Document(name, builder.value, builder.lines)


class _Frame:
    """A mapping or list being read. `path` None: it stands where nothing may, and is only passed over."""

    __slots__ = ("container", "key", "path")

    def __init__(self, container: dict[str, Any] | list[Any], path: Path | None) -> None:
        self.container = container
        self.path = path
        self.key: str | _Discarded | None = None  # of a mapping's value that is to come


class _Discarded:
    """Stands for a key whose value is not kept."""


_DISCARDED = _Discarded()


class _Builder:
    """Makes plain values of the parser's events as they come, so that no more than these is ever held."""

    def __init__(self, name: str) -> None:
        self.value: Any = {}
        self.lines: dict[Path, int] = {}
        self.problems: list[str] = []
        self._name = name
        self._stack: list[_Frame] = []
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        """Take in the next event.

        Raises:
            ConfigurationError: what must not be read on: aliases, tags, depth, a second document.
        """
        if isinstance(event, yaml.CollectionEndEvent):
            self._stack.pop()
            return
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._stop(event, "expected a single document")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise self._stop(event, "anchors and aliases are not taken")
        if getattr(event, "tag", None):
            raise self._stop(event, "tags are not taken")
        if isinstance(event, yaml.CollectionStartEvent):
            if len(self._stack) >= MAX_DEPTH:
                raise self._stop(event, f"nested deeper than {MAX_DEPTH}")
            container: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._stack.append(_Frame(container, self._place(event, container)))
        elif isinstance(event, yaml.ScalarEvent):
            frame = self._stack[-1] if self._stack else None
            if frame is not None and isinstance(frame.container, dict) and frame.key is None:
                self._begin_member(frame, frame.container, event)
            else:
                self._place(event, event)

    def _begin_member(self, frame: _Frame, mapping: dict[str, Any], event: yaml.ScalarEvent) -> None:
        """Note a key; its value comes next."""
        frame.key = event.value
        if _CONTROL.search(event.value):
            self.problems.append(f"{self._at(event)}: a key has a control character")
        if frame.path is not None and event.value in mapping:
            self.problems.append(f"{self._at(event)} {event.value[:64]}: this key stands twice")
            frame.key = _DISCARDED

    def _place(self, event: yaml.Event, value: Any) -> Path | None:
        """Put a value (a container, or a scalar's event) where it belongs; gives its path, None if it has no place."""
        frame = self._stack[-1] if self._stack else None
        path: Path | None = ()
        if frame is not None:
            path = self._next_place(frame, event)
        if path is None:
            return None
        self.lines[path] = _line(event)
        if isinstance(value, yaml.ScalarEvent):
            value = self._scalar(value)
        if frame is None:
            self.value = value
        elif isinstance(frame.container, list):
            frame.container.append(value)
        else:
            frame.container[str(path[-1])] = value
        return path

    def _next_place(self, frame: _Frame, event: yaml.Event) -> Path | None:
        if isinstance(frame.container, list):
            return None if frame.path is None else (*frame.path, len(frame.container))
        key, frame.key = frame.key, None
        if key is None:  # a mapping or a list where a key should be
            if frame.path is not None:
                self.problems.append(f"{self._at(event)}: a key must be plain text")
            frame.key = _DISCARDED
            return None
        return None if frame.path is None or isinstance(key, _Discarded) else (*frame.path, key)

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text: str = event.value
        if _CONTROL.search(text):
            self.problems.append(f"{self._at(event)}: a text has a control character")
        if event.style:  # quoted, or a block: text
            return text
        if text in ("true", "false"):
            return text == "true"
        if text in ("", "null", "~"):
            return None
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            self.problems.append(f'{self._at(event)}: put a number with a point in quotes, such as "0.15"')
        return text

    def _at(self, event: yaml.Event) -> str:
        return f"{self._name}:{_line(event)}"

    def _stop(self, event: yaml.Event, why: str) -> ConfigurationError:
        return ConfigurationError([f"{self._at(event)}: {why}"])


def _line(event: yaml.Event) -> int:
    """On which line an event begins, counted from 1."""
    return 1 if event.start_mark is None else event.start_mark.line + 1
