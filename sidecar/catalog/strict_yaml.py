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

from sidecar.errors import ConfigurationError

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
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
    lines: dict[tuple[str | int, ...], int]

    def at(self, path: tuple[str | int, ...]) -> str:
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
    lines: dict[tuple[str | int, ...], int] = {}
    try:
        _refuse_events(name, text)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        what = getattr(problem, "problem", None) or "not YAML"
        raise ConfigurationError([f"{where}: {what}"]) from None
    problems: list[str] = []
    value = {} if node is None else _build(name, node, (), lines, problems)
    if problems:
        raise ConfigurationError(problems)
    return Document(name, value, lines)


def _refuse_events(name: str, text: str) -> None:
    """Refuse what could make composing costly, before composing."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        mark = event.start_mark
        line = f"{name}:{mark.line + 1}" if mark is not None else name
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConfigurationError([f"{line}: anchors and aliases are not taken"])
        if getattr(event, "tag", None):
            raise ConfigurationError([f"{line}: tags are not taken"])
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigurationError([f"{line}: nested deeper than {MAX_DEPTH}"])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _build(
    name: str,
    node: yaml.Node,
    path: tuple[str | int, ...],
    lines: dict[tuple[str | int, ...], int],
    problems: list[str],
) -> Any:
    """The plain value of a node; problems are noted, not raised."""
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            where = f"{name}:{key_node.start_mark.line + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                problems.append(f"{where}: a key must be plain text")
            elif key_node.value in mapping:
                problems.append(f"{where} {key_node.value[:64]}: this key stands twice")
            else:
                mapping[key_node.value] = _build(name, value_node, (*path, key_node.value), lines, problems)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_build(name, item, (*path, index), lines, problems) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return _scalar(name, node, problems)
    raise TypeError(type(node).__name__)


def _scalar(name: str, node: yaml.ScalarNode, problems: list[str]) -> Any:
    text: str = node.value
    if node.style:  # quoted, or a block: text
        return text
    if text in ("true", "false"):
        return text == "true"
    if text in ("", "null", "~"):
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        problems.append(f'{name}:{node.start_mark.line + 1}: put a number with a point in quotes, such as "0.15"')
    return text
