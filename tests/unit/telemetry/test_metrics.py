from __future__ import annotations

import subprocess
import sys

from sidecar.telemetry.metrics import MAX_SERIES, Counter, Histogram, Metrics


def test_what_was_counted_is_what_a_scrape_shows() -> None:
    """Counters with labels, histogram buckets that add up, gauges read at the scrape."""
    metrics = Metrics()
    metrics.decisions.add("admitted", "lease")
    metrics.decisions.add("denied", "budget_exceeded", count=2)
    for seconds in (0.00005, 0.0003, 5.0):
        metrics.overhead.observe(seconds)
    held = 3
    metrics.gauge("spend_holds_open", "Open.", lambda: held)
    held = 4
    text = metrics.render().decode()
    assert 'spend_decisions_total{outcome="admitted",reason="lease"} 1.0' in text
    assert 'spend_decisions_total{outcome="denied",reason="budget_exceeded"} 2.0' in text
    assert 'spend_overhead_seconds_bucket{le="0.0001"} 1.0' in text
    assert 'spend_overhead_seconds_bucket{le="0.0005"} 2.0' in text
    assert 'spend_overhead_seconds_bucket{le="+Inf"} 3.0' in text
    assert "spend_overhead_seconds_count 3.0" in text
    assert "spend_holds_open 4.0" in text
    assert "spend_settle_errors_total 0.0" in text
    for name in ("spend_lease_age_seconds", "spend_outbox_depth", "spend_outbox_age_seconds"):
        assert f"\n{name} 0.0" in text


def test_labels_do_not_grow_without_bound() -> None:
    """What would be one set of labels too many is counted together."""
    counter = Counter("c", "help", ("x",))
    for number in range(MAX_SERIES + 50):
        counter.add(str(number))
    assert len(list(counter.rows())) == MAX_SERIES + 1
    assert counter.total() == MAX_SERIES + 50
    assert counter.value("other") == 50


def test_a_bound_belongs_to_its_bucket() -> None:
    """A duration just at a bound is at most that bound."""
    histogram = Histogram("h", "help", (0.1, 1.0))
    histogram.observe(0.1)
    assert histogram.buckets() == [("0.1", 1), ("1.0", 1), ("+Inf", 1)]


def test_counting_does_not_load_prometheus() -> None:
    """A process that nobody scrapes never pays for the library."""
    code = (
        "import sys; from sidecar.telemetry.metrics import Metrics; Metrics().decisions.add('a', 'b');"
        "sys.exit('prometheus_client' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
