"""Draws what `peers` measured: the latency distribution, and the CPU of a request. Needs matplotlib alone.

.bench/plots/bin/python tests/benchmarks/plots.py .bench/peers.json FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt

SIZE = (7.0, 3.4)
DOTS = 100


def main(source: Path, folder: Path) -> None:
    """Two PNGs."""
    report: dict[str, Any] = json.loads(source.read_text())
    servers = list(dict.fromkeys(speed["server"] for speed in report["speeds"]))
    folder.mkdir(exist_ok=True)
    latency(report, servers, folder / "latency.png")
    cpu(report, servers, folder / "cpu.png")


def latency(report: dict[str, Any], servers: list[str], file: Path) -> None:
    """Which share of calls was answered within which time."""
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    for server in servers:
        rounds = [speed["latency_us"] for speed in report["speeds"] if speed["server"] == server]
        axes.plot([median(column) / 1000 for column in zip(*rounds, strict=True)], report["percentiles"], label=server)
    axes.set_xscale("log")
    axes.set(xlabel="answered within, ms (4 callers, 1 KB)", ylabel="% of calls", ylim=(0, 100))
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(file, dpi=DOTS)


def cpu(report: dict[str, Any], servers: list[str], file: Path) -> None:
    """Microseconds of one core for a request; every round is a dot."""
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    for place, server in enumerate(reversed(servers)):
        found = [speed["cpu_us"] for speed in report["speeds"] if speed["server"] == server]
        axes.barh(place, median(found), color="#7a9cc6")
        axes.plot(found, [place] * len(found), "k.", markersize=4)
        axes.text(max(found) * 1.15, place, f"{median(found):,.0f}", va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(right=axes.get_xlim()[1] * 3)
    axes.set(xlabel="CPU per request, µs (16 callers, 1 KB)")
    axes.set_yticks(range(len(servers)), list(reversed(servers)), fontsize=8)
    axes.grid(alpha=0.3, axis="x")
    figure.savefig(file, dpi=DOTS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
