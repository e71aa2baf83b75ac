"""What is counted about the traffic, and how it is shown to Prometheus.

On a request's way counting is adding one to a plain integer. The Prometheus library is loaded
at the first scrape, and what it wants is made from these integers then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

OVERHEAD_BUCKETS_S: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
)  # fmt: skip
"""Upper bounds, in seconds, of the histogram of what we add to a call before it goes out."""

MAX_SERIES: Final = 1000
"""Label sets per counter; what would be one more is counted under `other`: labels must not grow with traffic."""


class Counter:
    """A family of counts, one per set of label values."""

    __slots__ = ("_counts", "help", "labels", "name")

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> None:
        self.name = name
        self.help = help_text
        self.labels = labels
        self._counts: dict[tuple[str, ...], int] = {} if labels else {(): 0}

    def add(self, *values: str, count: int = 1) -> None:
        """Count under these label values, one per label."""
        counts = self._counts
        if values in counts:
            counts[values] += count
        else:
            if len(counts) >= MAX_SERIES:
                values = ("other",) * len(self.labels)
            counts[values] = counts.get(values, 0) + count

    def value(self, *values: str) -> int:
        """What stands there now."""
        return self._counts.get(values, 0)

    def total(self) -> int:
        """The sum over all label values."""
        return sum(self._counts.values())

    def rows(self) -> Iterable[tuple[tuple[str, ...], int]]:
        """Every set of label values with its count."""
        return self._counts.items()


class Histogram:
    """How often a duration was at most each of some fixed bounds."""

    __slots__ = ("_bounds", "_counts", "help", "name", "sum_s")

    def __init__(self, name: str, help_text: str, bounds_s: tuple[float, ...]) -> None:
        self.name = name
        self.help = help_text
        self.sum_s = 0.0
        self._bounds = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, int]]:
        """(bound as text, how many were at most that), ascending, the last one `+Inf`."""
        found: list[tuple[str, int]] = []
        running = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            running += count
            found.append((bound, running))
        return found


Reading = Callable[[], float]
"""Asked at a scrape; must be cheap and must not raise."""

Rows = Callable[[], Iterable[tuple[tuple[str, ...], float]]]
"""Likewise, of a value with labels: each set of their values, MAX_SERIES at most are shown."""


class Metrics:
    """Everything that is counted in one process. Counters are public: whoever knows a fact counts it."""

    def __init__(self) -> None:
        self.decisions = Counter("spend_decisions", "Decisions about calls.", ("outcome", "reason"))
        self.unfit = Counter("spend_unfit_requests", "Requests that could not be taken, by why.", ("reason",))
        self.requests = Counter("spend_requests", "Calls forwarded, by the provider's status.", ("provider", "status"))
        self.settlements = Counter("spend_settlements", "Calls settled, by how the answer ended.", ("ending", "exact"))
        self.settle_errors = Counter("spend_settle_errors", "Settlements that could not be recorded.")
        self.passed_through = Counter(
            "spend_passed_through", "Requests passed on without being metered.", ("upstream",)
        )
        self.lease_misses = Counter("spend_lease_misses", "Decisions that had to ask the ledger first.")
        self.growths = Counter("spend_hold_growths", "Times that an open call's hold grew, or could not.", ("outcome",))
        self.overhead = Histogram(
            "spend_overhead_seconds", "Time from a request's head to its being sent on or denied.", OVERHEAD_BUCKETS_S
        )
        self._gauges: dict[str, tuple[str, Reading]] = {}
        self._families: dict[str, tuple[str, tuple[str, ...], Rows]] = {}
        self.gauge("spend_holds_open", "Calls admitted and not yet settled.", lambda: 0)
        self.gauge("spend_lease_age_seconds", "Age of the oldest lease that may still be spent from.", lambda: 0)
        self.gauge("spend_outbox_depth", "Records written and not yet acknowledged by the ledger.", lambda: 0)
        self.gauge("spend_outbox_age_seconds", "Age of the oldest record not yet acknowledged.", lambda: 0)

    def gauge(self, name: str, help_text: str, reading: Reading) -> None:
        """Show a value that is read at each scrape; a name given before is replaced."""
        self._gauges[name] = (help_text, reading)

    def family(self, name: str, help_text: str, labels: tuple[str, ...], rows: Rows) -> None:
        """Show a value with labels that is read at each scrape; a name given before is replaced."""
        self._families[name] = (help_text, labels, rows)

    def counters(self) -> tuple[Counter, ...]:
        """All counters."""
        return (
            self.decisions,
            self.unfit,
            self.requests,
            self.settlements,
            self.settle_errors,
            self.passed_through,
            self.lease_misses,
            self.growths,
        )

    def collect(self) -> Iterable[Metric]:
        """The families as Prometheus' library wants them: this object is a collector."""
        from prometheus_client.core import (  # noqa: PLC0415 - late: a process that nobody scrapes never loads it
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        for counter in self.counters():
            family = CounterMetricFamily(counter.name, counter.help, labels=counter.labels)
            for values, count in counter.rows():
                family.add_metric(values, count)
            yield family
        yield HistogramMetricFamily(
            self.overhead.name, self.overhead.help, buckets=self.overhead.buckets(), sum_value=self.overhead.sum_s
        )
        for name, (help_text, reading) in self._gauges.items():
            yield GaugeMetricFamily(name, help_text, value=reading())
        for name, (help_text, labels, rows) in self._families.items():
            gauges = GaugeMetricFamily(name, help_text, labels=labels)
            for values, value in islice(rows(), MAX_SERIES):
                gauges.add_metric(values, value)
            yield gauges

    def render(self) -> bytes:
        """The text that a scrape gets (CONTENT_TYPE)."""
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - late, as above

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)
