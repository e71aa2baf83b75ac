"""Binds a configuration's plain values to the frozen dataclasses that the rooms declare.

One mechanism for the file and for the environment: a field's type says what is taken, its
default what holds when nothing is said. Every problem is noted with where it stands, none is
raised before all are found.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Place = tuple[str, ...]

FOUND: Final = {"found": True}
"""Metadata of a field that nobody writes: the reader finds it in the rest."""

_DECIMAL = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?", re.ASCII)


class Binder:
    """Binds, and collects what is wrong.

    `where` writes a place as people find it; `least` has the smallest number that a place takes.
    """

    def __init__(self, where: Callable[[Place], str], least: Mapping[Place, float] | None = None) -> None:
        self._where = where
        self._least = least or {}
        self.problems: list[str] = []

    def bind(self, kind: type[T], value: object, place: Place) -> T:
        """Make a `kind` (a dataclass) of a mapping; keys that it has no field for are problems."""
        hints = get_type_hints(kind)
        fields = {
            field.name: field
            for field in dataclasses.fields(kind)  # type: ignore[arg-type]
            if not field.metadata.get("found")
        }
        if value is None:
            value = {}
        if not isinstance(value, dict):
            self._wrong(place, "expected a mapping")
            value = {}
        for key in value:
            if key not in fields:
                self._wrong((*place, str(key)), f"unknown key; known are {', '.join(sorted(fields))}")
        made = {
            name: self._convert(hints[name], value[name], (*place, name))
            for name in fields
            if value.get(name) is not None
        }
        for name, field in fields.items():
            no_default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if name not in made and no_default:
                self._wrong((*place, name), "must be set")
                made[name] = None
        return kind(**made)

    def _wrong(self, place: Place, expected: str) -> Any:
        self.problems.append(f"{self._where(place)}: {expected}")
        return None

    def _convert(self, kind: Any, value: object, place: Place) -> Any:
        origin = get_origin(kind)
        if origin in (Union, UnionType):
            kind = next(option for option in get_args(kind) if option is not NoneType)
            origin = get_origin(kind)
        if dataclasses.is_dataclass(kind):
            return self.bind(kind, value, place)  # type: ignore[arg-type]
        if origin is dict:
            return self._each(get_args(kind)[1], value, place)
        if origin is tuple:
            return self._list(get_args(kind)[0], value, place)
        if origin is Literal:
            options = get_args(kind)
            match = next((option for option in options if str(option) == str(value)), None)
            return match if match is not None else self._wrong(place, f"expected {' or '.join(map(str, options))}")
        if kind is bool:
            return self._bool(value, place)
        if kind is int:
            return self._int(value, place)
        if kind is float:
            return self._float(value, place)
        if kind in (str, Path):
            if not isinstance(value, str) or not value.isprintable():
                return self._wrong(place, "expected text")
            if kind is Path and not value:
                return self._wrong(place, "expected a path")
            return kind(value)
        return self._wrong(place, "is not set here")

    def _each(self, kind: Any, value: object, place: Place) -> Any:
        if not isinstance(value, dict):
            return self._wrong(place, "expected a mapping")
        return {name: self._convert(kind, item, (*place, name)) for name, item in value.items()}

    def _list(self, kind: Any, value: object, place: Place) -> Any:
        if isinstance(value, str):  # from the environment: separated by commas
            value = [item.strip() for item in value.split(",") if item.strip()]
        if not isinstance(value, list):
            return self._wrong(place, "expected a list")
        return tuple(self._convert(kind, item, place) for item in value)

    def _bool(self, value: object, place: Place) -> Any:
        if value in (True, "true"):
            return True
        if value in (False, "false"):
            return False
        return self._wrong(place, "expected true or false")

    def _int(self, value: object, place: Place) -> Any:
        least = self._least.get(place, 0)
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value, re.ASCII):
            value = int(value)
        if type(value) is int and least <= value < 10**18:
            return value
        return self._wrong(place, f"expected a whole number, {round(least)} or more")

    def _float(self, value: object, place: Place) -> Any:
        least = self._least.get(place, 0)
        text = str(value) if type(value) in (int, str) else ""
        if _DECIMAL.fullmatch(text) and float(text) >= least:
            return float(text)
        return self._wrong(place, f'expected a number of seconds, such as 10 or "0.5", {least:g} or more')


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """A mapping with another's values over its own, level by level."""
    merged = dict(base)
    for key, value in over.items():
        mine = merged.get(key)
        merged[key] = merge(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged
