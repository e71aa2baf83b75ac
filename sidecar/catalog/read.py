"""Reads `catalog.yaml`: currencies, rate cards and features, all mistakes in one report."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sidecar.catalog.files import read_configured
from sidecar.catalog.strict_yaml import Document, read_yaml
from sidecar.core.credits.amounts import AmountError, Currency, parse_amount
from sidecar.core.governance.tenancy import is_id
from sidecar.core.pricing.features import FeaturePrice
from sidecar.core.pricing.rate_cards import ContextTier, RateBook, RateCard, Rates
from sidecar.errors import ConfigurationError

_NAME = re.compile(r"[A-Za-z0-9._:/@-]{1,128}", re.ASCII)
_PRICE = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,12})?", re.ASCII)
MAX_PRICE = 10**6
"""Dollars per million tokens; a price above it is a slip of the pen."""

_CARD_KEYS = {
    "id", "provider", "family", "models", "from", "currency", "per_million_tokens", "above", "service_tiers",
    "geo_percent", "per_thousand_units", "max_output_tokens", "context_window", "unbounded", "source", "checked_on",
    "free",
}  # fmt: skip
_FEATURE_KEYS = {"name", "unit", "price", "currency", "free"}
_UNIT = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_RATE_KEYS = frozenset(Rates.__struct_fields__)


@dataclass(frozen=True, slots=True)
class Catalog:
    """A catalog that was read without a mistake; `sha256` is its file's digest."""

    rates: RateBook
    sha256: str


def read_catalog(path: Path) -> Catalog:
    """Read a catalog file.

    Raises:
        ConfigurationError: every mistake found, each with file, line and key.
    """
    return parse_catalog(path.name, read_configured(path))


def parse_catalog(name: str, data: bytes) -> Catalog:
    """Read a catalog from bytes; `name` stands in messages. Raises as `read_catalog`."""
    document = read_yaml(name, data)
    reader = _Reader(document)
    currencies = reader.currencies()
    cards = reader.cards(currencies)
    features = reader.features(currencies)
    if reader.problems:
        raise ConfigurationError(reader.problems)
    sha256 = hashlib.sha256(data).hexdigest()
    return Catalog(RateBook(cards, currencies.values(), sha256=sha256, features=features), sha256)


class _Reader:
    """Walks the document, noting problems; what it gives back is whole only where there are none."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.problems: list[str] = []
        root = document.value
        if not isinstance(root, dict):
            self._wrong((), "expected a mapping")
            root = {}
        self._root: dict[str, Any] = root
        self._only((), root, {"currencies", "features", "rate_cards"})

    def _wrong(self, path: tuple[str | int, ...], expected: str) -> None:
        self.problems.append(f"{self._document.at(path)}: {expected}")

    def _only(self, path: tuple[str | int, ...], mapping: dict[str, Any], known: set[str] | frozenset[str]) -> None:
        for key in mapping:
            if key not in known:
                self._wrong((*path, key), f"unknown key; known are {', '.join(sorted(known))}")

    def _mapping(self, path: tuple[str | int, ...], value: object) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self._wrong(path, "expected a mapping")
        return {}

    def _text(self, path: tuple[str | int, ...], value: object, fits: re.Pattern[str] | None = None) -> str:
        if isinstance(value, str) and value and value.isprintable() and (fits is None or fits.fullmatch(value)):
            return value
        self._wrong(path, "expected text" if fits is None else "expected a name of [A-Za-z0-9._:/@-], at most 128 long")
        return ""

    def _flag(self, path: tuple[str | int, ...], value: object) -> bool:
        if isinstance(value, bool):
            return value
        self._wrong(path, "expected true or false")
        return False

    def _whole(self, path: tuple[str | int, ...], value: object, low: int, high: int) -> int:
        if type(value) is int and low <= value <= high:
            return value
        self._wrong(path, f"expected a whole number from {low} to {high}")
        return low

    def _day(self, path: tuple[str | int, ...], value: object) -> date:
        try:
            if isinstance(value, str):
                return date.fromisoformat(value)
        except ValueError:
            pass
        self._wrong(path, 'expected a day in quotes, such as "2026-11-24"')
        return date(2020, 1, 1)

    def currencies(self) -> dict[str, Currency]:
        """The currencies by code."""
        found: dict[str, Currency] = {}
        for code, row in self._mapping(("currencies",), self._root.get("currencies")).items():
            path = ("currencies", code)
            facts = self._mapping(path, row)
            self._only(path, facts, {"scale"})
            scale = self._whole((*path, "scale"), facts.get("scale"), 0, 12)
            try:
                found[code] = Currency(code, scale)
            except AmountError as problem:
                self._wrong(path, str(problem))
        if not found:
            self._wrong(("currencies",), "expected at least one currency")
        return found

    def cards(self, currencies: dict[str, Currency]) -> list[RateCard]:
        """The rate cards, in the file's order."""
        rows = self._root.get("rate_cards")
        if not isinstance(rows, list) or not rows:
            self._wrong(("rate_cards",), "expected a list of rate cards")
            return []
        cards = [self._card(("rate_cards", index), row, currencies) for index, row in enumerate(rows)]
        taken: dict[tuple[str, str, int], str] = {}
        for index, card in enumerate(cards):
            for model in card.models:
                key = (card.provider, model, card.effective_from_ms)
                if key in taken:
                    self._wrong(
                        ("rate_cards", index, "models"), f"{model} has another card from that day: {taken[key]}"
                    )
                taken[key] = card.card_id
        return cards

    def _card(self, path: tuple[str | int, ...], row: object, currencies: dict[str, Currency]) -> RateCard:
        facts = self._mapping(path, row)
        self._only(path, facts, _CARD_KEYS)
        free = self._flag((*path, "free"), facts.get("free", False))
        base = self._rates((*path, "per_million_tokens"), facts.get("per_million_tokens"), free=free)
        from_day = self._day((*path, "from"), facts.get("from"))
        currency = facts.get("currency", "usd")
        if currency not in currencies:
            self._wrong((*path, "currency"), "expected a currency of this catalog")
        names = facts.get("models")
        if not isinstance(names, list) or not names:
            self._wrong((*path, "models"), "expected a list of model names")
            names = []
        window = self._whole((*path, "context_window"), facts.get("context_window"), 1, 10**9)
        return RateCard(
            card_id=self._text((*path, "id"), facts.get("id"), _NAME),
            provider=self._text((*path, "provider"), facts.get("provider"), _NAME),
            models=tuple(self._text((*path, "models", i), name, _NAME) for i, name in enumerate(names)),
            effective_from_ms=int(datetime(from_day.year, from_day.month, from_day.day, tzinfo=UTC).timestamp()) * 1000,
            currency=str(currency),
            tiers=self._tiers(path, base, facts.get("above"), free=free),
            max_output_tokens=self._whole((*path, "max_output_tokens"), facts.get("max_output_tokens"), 1, 10**9),
            context_window=window,
            source=self._text((*path, "source"), facts.get("source")),
            checked_on=self._day((*path, "checked_on"), facts.get("checked_on")).isoformat(),
            family=self._text((*path, "family"), facts.get("family", "other"), _NAME),
            service_tiers=self._service_tiers(path, facts.get("service_tiers"), free=free),
            geo_percent=self._by_name((*path, "geo_percent"), facts.get("geo_percent"), self._percent),
            unit_rates=self._by_name((*path, "per_thousand_units"), facts.get("per_thousand_units"), self._unit_rate),
            unbounded=self._text((*path, "unbounded"), facts["unbounded"]) if "unbounded" in facts else "",
        )

    def features(self, currencies: dict[str, Currency]) -> list[FeaturePrice]:
        """What is priced by the piece, in the file's order; a catalog may have none."""
        rows = self._root.get("features", [])
        if not isinstance(rows, list):
            self._wrong(("features",), "expected a list of features")
            return []
        found: list[FeaturePrice] = []
        for index, row in enumerate(rows):
            path = ("features", index)
            feature = self._feature(path, row, currencies)
            if feature.name and any(other.name == feature.name for other in found):
                self._wrong((*path, "name"), f"{feature.name} has a price already")
            found.append(feature)
        return found

    def _feature(self, path: tuple[str | int, ...], row: object, currencies: dict[str, Currency]) -> FeaturePrice:
        facts = self._mapping(path, row)
        self._only(path, facts, _FEATURE_KEYS)
        name, unit, code = facts.get("name"), facts.get("unit"), facts.get("currency", "usd")
        if not isinstance(name, str) or not is_id(name):
            self._wrong((*path, "name"), "expected 1 to 128 of A-Z a-z 0-9 . _ : @ -")
            name = ""
        if not isinstance(unit, str) or not _UNIT.fullmatch(unit):
            self._wrong((*path, "unit"), "expected a unit such as steps or compute_minutes: lower case, digits and _")
            unit = ""
        currency = currencies.get(code) if isinstance(code, str) else None
        if currency is None:
            self._wrong((*path, "currency"), "expected a currency of this catalog")
            return FeaturePrice(name, unit, "", 1)
        return FeaturePrice(name, unit, currency.code, self._unit_price(path, facts, currency))

    def _unit_price(self, path: tuple[str | int, ...], facts: dict[str, Any], currency: Currency) -> int:
        """A decimal price of one unit as atoms, exactly: none is finer than its currency."""
        price, free = facts.get("price"), self._flag((*path, "free"), facts.get("free", False))
        if not isinstance(price, str):
            self._wrong((*path, "price"), 'expected a price in quotes, such as "0.02"')
            return 1
        try:
            atoms = parse_amount(price, currency)
        except AmountError as problem:
            self._wrong((*path, "price"), str(problem))
            return 1
        if atoms > MAX_PRICE * 10**currency.scale:
            self._wrong((*path, "price"), f"expected at most {MAX_PRICE} for one unit")
        if atoms == 0 and not free:
            self._wrong((*path, "price"), "a price of 0 needs `free: true` on the feature")
        if atoms and free:
            self._wrong((*path, "free"), "what is free has a price of 0")
        return atoms

    def _by_name(
        self, path: tuple[str | int, ...], value: object, read: Callable[[tuple[str | int, ...], object], int]
    ) -> dict[str, int]:
        if value is None:
            return {}
        return {name: read((*path, name), item) for name, item in self._mapping(path, value).items()}

    def _percent(self, path: tuple[str | int, ...], value: object) -> int:
        return self._whole(path, value, 1, 1000)

    def _unit_rate(self, path: tuple[str | int, ...], value: object) -> int:
        return self._price(path, value, per=1000)

    def _service_tiers(
        self, path: tuple[str | int, ...], value: object, *, free: bool
    ) -> dict[str, tuple[ContextTier, ...]]:
        found: dict[str, tuple[ContextTier, ...]] = {}
        if value is None:
            return found
        for name, facts in self._mapping((*path, "service_tiers"), value).items():
            where = (*path, "service_tiers", name)
            tier = self._mapping(where, facts)
            self._only(where, tier, {"per_million_tokens", "above"})
            base = self._rates((*where, "per_million_tokens"), tier.get("per_million_tokens"), free=free)
            found[name] = self._tiers(where, base, tier.get("above"), free=free)
        return found

    def _tiers(self, path: tuple[str | int, ...], base: Rates, above: object, *, free: bool) -> tuple[ContextTier, ...]:
        tiers = [ContextTier(0, base)]
        if above is None:
            return tuple(tiers)
        if not isinstance(above, list):
            self._wrong((*path, "above"), "expected a list")
            return tuple(tiers)
        for index, row in enumerate(above):
            where = (*path, "above", index)
            facts = self._mapping(where, row)
            self._only(where, facts, {"input_tokens", "per_million_tokens"})
            start = self._whole((*where, "input_tokens"), facts.get("input_tokens"), 1, 10**9)
            if start <= tiers[-1].above_input_tokens:
                self._wrong((*where, "input_tokens"), "expected thresholds that rise")
            rates = self._rates((*where, "per_million_tokens"), facts.get("per_million_tokens"), free=free)
            tiers.append(ContextTier(start, rates))
        return tuple(tiers)

    def _rates(self, path: tuple[str | int, ...], value: object, *, free: bool) -> Rates:
        facts = self._mapping(path, value)
        self._only(path, facts, _RATE_KEYS)
        read = {key: self._price((*path, key), item, per=10**6) for key, item in facts.items() if key in _RATE_KEYS}
        for key in ("input", "output"):
            if key not in read:
                self._wrong((*path, key), "expected a price")
                read[key] = 1
        for key, rate in read.items():
            if rate == 0 and not free:
                self._wrong((*path, key), "a price of 0 needs `free: true` on the card")
        return Rates(**read)

    def _price(self, path: tuple[str | int, ...], value: object, *, per: int) -> int:
        """A decimal price per `per` pieces, as whole pico-units for one."""
        if not isinstance(value, str) or not _PRICE.fullmatch(value):
            self._wrong(path, 'expected a price in quotes, such as "0.15"')
            return 1
        whole, _, fraction = value.partition(".")
        pico = (int(whole) * 10**12 + int(fraction.ljust(12, "0"))) if fraction else int(whole) * 10**12
        rate, rest = divmod(pico, per)
        if rest or int(whole) > MAX_PRICE:
            self._wrong(path, f"expected at most {MAX_PRICE} and no finer than a trillionth for each piece")
        return rate
