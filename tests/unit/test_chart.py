"""The chart keeps what it says: the real Helm engine renders it, and what comes out is held against the code."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from sidecar.app.settings import NOT_SETTINGS, PREFIX, Settings, load_settings
from sidecar.cli.main import COMMANDS
from tests.support import charts
from tests.support.containers import IMAGE, Container
from tests.support.helm_engine import CHART, RefusedValues, Rendered, lint, render

OLDEST_KUBERNETES = "1.29"
EVERYTHING: dict[str, Any] = {
    "redis": {"secret": {"name": "redis"}, "cluster": True},
    "imagePullSecrets": [{"name": "registry"}],
    "catalog": {"configMap": "prices"},
    "ledger": {"storage": {"className": "fast"}, "env": {"SPEND_LEDGER__RULES__CURRENCY": "usd"}},
    "sidecar": {
        "ledgerUrl": "https://ledger.example.net",
        "ledgerCaConfigMap": "authority",
        "customer": "acme",
        "providerKeys": {"openai": {"name": "keys", "key": "openai"}, "anthropic": {"name": "keys", "key": "claude"}},
        "env": {"SPEND_UNKNOWN_MODEL": "meter"},
    },
}
"""Every value that is off by default, switched on, but a database."""

DATABASE: dict[str, Any] = {"ledger": {"replicas": 3, "databaseSecret": {"name": "database"}}}
"""Several ledgers on one PostgreSQL."""


@pytest.fixture(scope="module")
def plain() -> Rendered:
    """As it comes."""
    return render()


@pytest.fixture(scope="module")
def full() -> Rendered:
    """With everything."""
    return render(EVERYTHING)


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """The README's own example of an application's chart, with everything."""
    return charts.render_application(tmp_path_factory.mktemp("application"), EVERYTHING)


def settings_of(container: Container) -> Settings:
    """What the process makes of its variables; a misspelt one, or one out of bounds, fails."""
    variables = container.variables()
    ours = {name: value for name, value in variables.items() if name.startswith(PREFIX)}
    return load_settings(None, ours, {}, alone=container.arguments[0] == "ledger")


def test_it_is_linted_without_a_warning() -> None:
    """As it comes, and with everything."""
    assert lint() == []
    assert lint(EVERYTHING) == []
    assert lint(DATABASE) == []


@pytest.mark.parametrize("values", [None, EVERYTHING, DATABASE])
def test_kubernetes_would_take_every_object(values: Mapping[str, Any] | None, tmp_path: Path) -> None:
    """Each field has its place and its type, in the oldest version that the chart asks for."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"].startswith(f">={OLDEST_KUBERNETES}.")
    objects = [*render(values).objects, *charts.render_application(tmp_path, values or {}).objects]
    assert {thing["kind"] for thing in objects} == {"Service", "StatefulSet", "Deployment"}
    for thing in objects:
        kubernetes_validate.validate(thing, OLDEST_KUBERNETES, strict=True)


def test_the_ledger_is_one_process_on_a_volume_of_its_own(plain: Rendered) -> None:
    """Its state is below the volume, in the image's own folder; more replicas are refused, with the place."""
    spec = plain.one("StatefulSet")["spec"]
    assert spec["replicas"] == 1
    [claim] = spec["volumeClaimTemplates"]
    ledger = charts.ledger(plain)
    assert ledger.mounts == [IMAGE.one("VOLUME")]
    assert ledger.mount_of(ledger.variables()["SPEND_DATA"]) == IMAGE.one("VOLUME")
    assert charts.pod(plain.one("StatefulSet"))["containers"][0]["volumeMounts"][0]["name"] == claim["metadata"]["name"]
    with pytest.raises(RefusedValues, match="/ledger/replicas': value must be 1"):
        render({"ledger": {"replicas": 2}})


def test_several_ledgers_share_a_database_and_no_volume() -> None:
    """Its address comes from the Secret alone; what each keeps itself may go with its pod."""
    rendered = render(DATABASE)
    stateful = rendered.one("StatefulSet")
    assert stateful["spec"]["replicas"] == 3
    assert "volumeClaimTemplates" not in stateful["spec"]
    [volume] = charts.pod(stateful)["volumes"]
    assert "emptyDir" in volume
    [mount] = charts.pod(stateful)["containers"][0]["volumeMounts"]
    assert (mount["name"], mount["mountPath"]) == (volume["name"], IMAGE.one("VOLUME"))
    [url] = [one for one in charts.pod(stateful)["containers"][0]["env"] if one["name"].endswith("DATABASE__URL")]
    assert url["valueFrom"] == {"secretKeyRef": {"name": "database", "key": "url"}}
    assert settings_of(charts.ledger(rendered)).ledger.database.url == charts.DATABASE_URL
    assert "book-ledger" not in rendered.notes


@pytest.mark.parametrize("everything", [False, True])
def test_every_command_and_variable_is_one_that_there_is(everything: bool, tmp_path: Path) -> None:
    """The containers' arguments are commands; their variables are settings, or those that the commands read."""
    values = EVERYTHING if everything else {}
    ledger, sidecar = charts.ledger(render(values)), charts.sidecar(charts.render_application(tmp_path, values))
    for container in (ledger, sidecar):
        assert container.arguments[0] in COMMANDS
        settings_of(container)
    assert {"SPEND_LEDGER_URL", "SPEND_LEDGER_TOKEN_FILE"} <= set(sidecar.variables()) & NOT_SETTINGS
    if everything:
        assert settings_of(sidecar).sidecar.upstreams["anthropic"].key_file == Path("/etc/spend/keys/anthropic/key")
        for name in ("SPEND_LEDGER_TOKEN_FILE", "SPEND_CATALOG", "SSL_CERT_FILE"):
            sidecar.mount_of(sidecar.variables()[name])


def test_ports_are_those_that_are_listened_on(plain: Rendered) -> None:
    """From the Service to the container to the setting, and the probes on the health port of each."""
    settings = settings_of(charts.ledger(plain)).ledger
    [container] = charts.pod(plain.one("StatefulSet"))["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"ledger": settings.listen.port, "health": settings.health.port}
    [service] = plain.one("Service")["spec"]["ports"]
    assert ports[service["targetPort"]] == service["port"]
    assert {settings.listen.host, settings.health.host} == {"0.0.0.0"}
    assert {container[probe]["httpGet"]["port"] for probe in PROBES} == {"health"}


def test_other_ports_go_the_same_way(tmp_path: Path) -> None:
    """No number stands twice: what is changed in the values is changed at every place."""
    values = {"ledger": {"port": 18403, "healthPort": 19403}, "sidecar": {"port": 18402, "healthPort": 19402}}
    moved = render(values)
    test_ports_are_those_that_are_listened_on(moved)
    assert settings_of(charts.ledger(moved)).ledger.listen.port == 18403
    application = charts.render_application(tmp_path, values)
    ours = settings_of(charts.sidecar(application)).sidecar
    assert (ours.listen.port, ours.health.port) == (18402, 19402)
    assert charts.sidecar_spec(application)["ports"][0]["containerPort"] == 19402


PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def test_the_sidecar_is_there_before_the_application_and_after_it(application: Rendered) -> None:
    """An init container that goes on; its proxy on the pod's loopback, its probes from outside."""
    spec = charts.sidecar_spec(application)
    assert spec["restartPolicy"] == "Always"
    ours = settings_of(charts.sidecar(application)).sidecar
    assert (ours.listen.host, ours.health.host) == ("127.0.0.1", "0.0.0.0")
    [port] = spec["ports"]
    assert {spec[probe]["httpGet"]["port"] for probe in PROBES} == {port["name"]}
    assert port["containerPort"] == ours.health.port
    assert spec["startupProbe"]["httpGet"]["path"] == "/livez"  # a ledger that is away holds no application up


def test_without_an_address_the_sidecar_asks_the_release_s_own_ledger(plain: Rendered, tmp_path: Path) -> None:
    """The name and the port of the Service."""
    service = plain.one("Service")
    address = f"http://{service['metadata']['name']}.ns.svc:{service['spec']['ports'][0]['port']}"
    application = charts.render_application(tmp_path, {"ledger": {"enabled": True}, "sidecar": {"ledgerUrl": ""}})
    assert charts.sidecar(application).variables()["SPEND_LEDGER_URL"] == address
    assert application.one("Service") == service


def test_only_the_templates_where_no_ledger_is_wanted(application: Rendered) -> None:
    """The application's chart has its own pod and nothing else."""
    assert [thing["kind"] for thing in application.objects] == ["Deployment"]


def test_no_container_has_more_than_it_needs(full: Rendered, application: Rendered) -> None:
    """Not root, a root that cannot be written, no capabilities, no token for the cluster."""
    pod = charts.pod(full.one("StatefulSet"))
    assert pod["automountServiceAccountToken"] is False
    for container in (pod["containers"][0], charts.sidecar_spec(application)):
        security = container["securityContext"]
        assert f"{security['runAsUser']}:{security['runAsGroup']}" == IMAGE.one("USER")
        assert security["runAsNonRoot"] is security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
    assert pod["securityContext"]["fsGroup"] == int(IMAGE.one("USER").split(":")[1])


def test_every_volume_that_is_mounted_is_there(full: Rendered, application: Rendered) -> None:
    """And each that is there is mounted."""
    stateful, deployed = full.one("StatefulSet"), charts.pod(application.one("Deployment"))
    claims = [claim["metadata"]["name"] for claim in stateful["spec"]["volumeClaimTemplates"]]
    ledger = charts.pod(stateful)
    for mounted, there in (
        (ledger["containers"][0]["volumeMounts"], [*claims, *[volume["name"] for volume in ledger["volumes"]]]),
        (charts.sidecar_spec(application)["volumeMounts"], [volume["name"] for volume in deployed["volumes"]]),
    ):
        assert sorted(mount["name"] for mount in mounted) == sorted(there)


def test_secrets_are_referred_to_and_never_written(application: Rendered) -> None:
    """Files of the sidecar alone, readable to its uid whatever the pod's fsGroup."""
    pod = charts.pod(application.one("Deployment"))
    secrets = {volume["name"]: volume["secret"] for volume in pod["volumes"] if "secret" in volume}
    assert {name: (secret["secretName"], secret["items"][0]["key"]) for name, secret in secrets.items()} == {
        "spend-token": ("spend-sidecar-token", "token"),
        "spend-key-openai": ("keys", "openai"),
        "spend-key-anthropic": ("keys", "claude"),
    }
    assert {secret["defaultMode"] for secret in secrets.values()} == {0o444}
    assert "volumeMounts" not in pod["containers"][0]
    assert all(thing["kind"] != "Secret" for thing in application.objects)


@pytest.mark.parametrize("release", ["spend", "spend-sidecar", "s" * 53])
def test_no_service_becomes_a_variable_that_means_nothing(release: str) -> None:
    """Kubernetes makes variables of Services' names in every pod: one that begins with SPEND_ would stop a sidecar."""
    service = render(name=release).one("Service")["metadata"]["name"]
    assert not service.upper().replace("-", "_").startswith(PREFIX)
    assert len(service) <= 52
    assert charts.pod(render(name=release).one("StatefulSet"))["enableServiceLinks"] is False


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ledger": {"replicas": 2}}, "'/ledger/replicas': value must be 1"),
        ({"ledger": {"replicas": 0, "databaseSecret": {"name": "database"}}}, "'/ledger/replicas'"),
        ({"ledger": {"port": "8403"}}, "'/ledger/port': got string, want integer"),
        ({"ledger": {"port": 80}}, "'/ledger/port'"),
        ({"ledger": {"storage": {"size": "ten"}}}, "'/ledger/storage/size'"),
        ({"sidcar": {}}, "'sidcar' not allowed"),
        ({"sidecar": {"token": "t"}}, "'token' not allowed"),
        ({"sidecar": {"env": {"UNKNOWN_MODEL": "meter"}}}, "'UNKNOWN_MODEL' does not match pattern"),
        ({"sidecar": {"env": {"SPEND_CLAMP_FLOOR_TOKENS": 256}}}, "SPEND_CLAMP_FLOOR_TOKENS': got number, want string"),
        ({"sidecar": {"ledgerUrl": "ledger:8403"}}, "'/sidecar/ledgerUrl'"),
        ({"sidecar": {"customer": "a b"}}, "'/sidecar/customer'"),
        ({"sidecar": {"demo": True}}, "'/sidecar/demo'"),
        ({"sidecar": {"tokenSecret": {"name": "No_Name"}}}, "'/sidecar/tokenSecret/name'"),
        ({"sidecar": {"providerKeys": {"openai": "sk-1"}}}, "'/sidecar/providerKeys/openai'"),
        ({"image": {"tag": "a b"}}, "'/image/tag'"),
        ({"imagePullSecrets": ["registry"]}, "'/imagePullSecrets/0'"),
    ],
)
def test_a_bad_value_is_refused_with_its_place(values: Mapping[str, Any], message: str) -> None:
    """Before anything is rendered; a key that is not known too, for a misspelt limit is no limit."""
    with pytest.raises(RefusedValues) as refused:
        render(values)
    assert message in str(refused.value)


def test_the_notes_name_what_there_is(plain: Rendered) -> None:
    """The pod, the Secret and the commands."""
    pod = f"{plain.one('StatefulSet')['metadata']['name']}-0"
    commands = re.findall(rf"exec {pod} -- spend (\w+)", plain.notes)
    assert set(commands) == {"customers", "budgets", "ledger"}
    assert set(commands) <= set(COMMANDS)
    assert "generic spend-sidecar-token --from-file=token=/dev/stdin" in plain.notes
    assert plain.one("StatefulSet")["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] + f"-{pod}" in plain.notes


def test_every_value_is_in_the_readme() -> None:
    """And the README names none that there is not."""
    text = (CHART / "README.md").read_text()
    rows = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", text, re.MULTILINE)
    named = set()
    for row in rows:
        first, *others = re.findall(r"`([^`]+)`", row)
        named |= {first, *(first.rpartition(".")[0] + other for other in others)}
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def leaves(value: Any, place: str) -> set[str]:
        if not isinstance(value, dict) or not value or place.endswith("resources"):
            return {place}
        return {leaf for key, inner in value.items() for leaf in leaves(inner, f"{place}.{key}".lstrip("."))}

    assert named == leaves(values, "")


def test_a_packaged_chart_has_no_file_that_it_does_not_need(tmp_path: Path) -> None:
    """What is in the folder is what Helm reads; a copy of it renders the same."""
    there = {str(path.relative_to(CHART)) for path in CHART.rglob("*") if path.is_file()}
    templates = {f"templates/{name}" for name in ("_helpers.tpl", "_sidecar.tpl", "ledger.yaml", "NOTES.txt")}
    assert there == {"Chart.yaml", "README.md", "values.yaml", "values.schema.json"} | templates
    shutil.copytree(CHART, tmp_path / "spend-sidecar")
    assert render(chart=tmp_path / "spend-sidecar") == render()
