"""What the chart renders, and the README's example of an application that depends on it, read as containers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.containers import Container
from tests.support.helm_engine import CHART, Rendered, render

POD_UID = "0b5e8f0a-6a0f-4d6c-9f0e-2f3a4b5c6d7e"
DATABASE_URL = "postgresql://spend:secret@db.example.net:5432/spend"
REDIS_URL = "redis://:secret@one.example.net:6379,two.example.net:6379"
SECRETS = {
    "SPEND_LEDGER__DATABASE__URL": DATABASE_URL,
    "SPEND_LEDGER__REDIS__URL": REDIS_URL,
    "SPEND_REDIS__URL": REDIS_URL,
}
"""What the Secrets that the chart refers to would hold."""


def render_application(folder: Path, values: Mapping[str, Any]) -> Rendered:
    """The application's chart as this chart's README writes it, `values` over those of the README's own."""
    files = {
        found[1]: found[2]
        for found in re.finditer(r"```yaml\n# (\S+)\n(.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
    }
    assert set(files) == {"Chart.yaml", "values.yaml", "templates/deployment.yaml"}
    (folder / "templates").mkdir()
    files["Chart.yaml"] += "apiVersion: v2\nname: checkout\nversion: 1.0.0\n"
    for name, text in files.items():
        (folder / name).write_text(text)
    shutil.copytree(CHART, folder / "charts" / "spend-sidecar")
    return render({"spend-sidecar": values}, chart=folder)


def pod(thing: Mapping[str, Any]) -> dict[str, Any]:
    """The pod of a Deployment or a StatefulSet."""
    spec: dict[str, Any] = thing["spec"]["template"]["spec"]
    return spec


def sidecar_spec(rendered: Rendered) -> dict[str, Any]:
    """The sidecar's container in the application's pod."""
    [spec] = pod(rendered.one("Deployment"))["initContainers"]
    found: dict[str, Any] = spec
    return found


def sidecar(rendered: Rendered) -> Container:
    """The same, as it would be run."""
    return _container(sidecar_spec(rendered))


def ledger(rendered: Rendered) -> Container:
    """The ledger's."""
    [spec] = pod(rendered.one("StatefulSet"))["containers"]
    return _container(spec)


def _container(spec: Mapping[str, Any]) -> Container:
    assert "command" not in spec  # the image's own ENTRYPOINT
    return Container(
        spec["args"],
        {variable["name"]: _value(variable) for variable in spec["env"]},
        [mount["mountPath"] for mount in spec["volumeMounts"]],
    )


def _value(variable: Mapping[str, Any]) -> str:
    if "value" in variable:
        value = variable["value"]
        assert isinstance(value, str)
        return value
    if "secretKeyRef" in variable["valueFrom"]:
        assert variable["name"] in SECRETS
        return SECRETS[variable["name"]]
    assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.uid"}}
    return POD_UID
