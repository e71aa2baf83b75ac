"""The real Helm engine, in a process of its own: its runtime has signal handlers that a test run should not share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.unit.source_tree import ROOT

CHART = ROOT / "helm" / "spend-sidecar"
TIMEOUT_S = 60.0
Values = Mapping[str, Any]


class RefusedValues(Exception):
    """The engine did not take them; its own words."""


@dataclass(frozen=True)
class Rendered:
    """What would be sent to a cluster, and what would be said to whoever installs."""

    objects: list[dict[str, Any]] = field(default_factory=list)
    notes: str = ""

    def one(self, kind: str) -> dict[str, Any]:
        """The only object of a kind."""
        [found] = [thing for thing in self.objects if thing["kind"] == kind]
        return found


def render(
    values: Values | None = None, *, chart: Path = CHART, name: str = "spend", namespace: str = "ns"
) -> Rendered:
    """`helm template`.

    Raises:
        RefusedValues: by the schema, or by the templates.
    """
    files = _ask({"chart": str(chart), "values": values, "name": name, "namespace": namespace})
    objects = [
        thing
        for file, text in sorted(files.items())
        if not file.endswith("NOTES.txt")
        for thing in yaml.safe_load_all(text)
        if thing is not None
    ]
    return Rendered(objects, next((text for file, text in files.items() if file.endswith("NOTES.txt")), ""))


def lint(values: Values | None = None) -> list[str]:
    """`helm lint --strict`: what is at least a warning."""
    report = _ask({"chart": str(CHART), "values": values})
    return [f"{message['path']}: {message['error']}" for message in report["messages"] if message["severity"] >= 2]


def _ask(question: dict[str, Any]) -> Any:
    command = [sys.executable, "-m", "tests.support.helm_engine"]
    done = subprocess.run(
        command, input=json.dumps(question), capture_output=True, text=True, timeout=TIMEOUT_S, check=True, cwd=ROOT
    )
    answer = json.loads(done.stdout)
    if "refused" in answer:
        raise RefusedValues(answer["refused"])
    return answer["found"]


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    import helm_python as helm

    try:
        if "name" not in question:
            return {"found": helm.lint(question["chart"], question["values"], strict=True)}
        with helm.Chart.load(question["chart"]) as chart:
            names = {"name": question["name"], "namespace": question["namespace"]}
            return {"found": chart.render(question["values"], **names)}
    except helm.HelmError as problem:
        return {"refused": str(problem)}


if __name__ == "__main__":
    print(json.dumps(_answer(json.load(sys.stdin))))
