"""Configuration, catalog and environment that nobody should run with (B-C01 … B-C16): one report, and no start.

Each file goes the way of its users: through `spend catalog check`, through `spend up`, or to the
ledger's API. Readings of single values are in `unit/catalog/test_read.py` and
`unit/app/test_settings.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.app.settings import load_settings
from sidecar.catalog.read import parse_catalog, read_catalog
from sidecar.catalog.strict_yaml import read_yaml
from sidecar.cli.main import main
from sidecar.errors import ConfigurationError
from tests.bad_input.conftest import Started
from tests.support.besieged import GOOD_BODY, Besieged
from tests.support.corpus import Case, cases, expand, repeat
from tests.unit.catalog.test_read import CARD


@pytest.fixture(scope="module")
def siege(started: Started) -> Iterator[Besieged]:
    """The product, for what is sent to its ledger's API."""
    with started() as siege:
        yield siege


def checked(path: Path) -> tuple[int, str]:
    """`spend catalog check`: exit code and all it says."""
    done = CliRunner().invoke(main, ["catalog", "check", str(path)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def refused(tmp_path: Path, data: str | bytes) -> str:
    """What is said of a catalog that must not be taken."""
    path = tmp_path / "catalog.yaml"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    code, said = checked(path)
    assert code == 1, said
    assert "Traceback" not in said
    assert len(said) < 20_000
    return said


def started_up(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`spend up` with these, which should end by itself."""
    command = [sys.executable, "-m", "sidecar.cli.main", "up", "--data", str(tmp_path / "data"), "--port", "0"]
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SPEND_DEMO": "off", **environment}
    return subprocess.run(
        [*command, "--health-port", "0", "--ledger-port", "0", *arguments],
        env=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("case", cases("catalogs"))
def test_a_catalog_that_is_not_taken(tmp_path: Path, case: Case) -> None:
    """Exit code 1, the file, the line and what was expected; no trace, whatever the bytes."""
    facts = case.facts
    if "bytes" in facts:
        data = expand(facts["bytes"])
    elif "behind" in facts:
        data = CARD.encode() + expand(facts["behind"])
    else:
        text = repeat(facts["text"])
        data = CARD.replace(facts["in_place_of"], text).encode() if "in_place_of" in facts else text.encode()
    assert facts["says"] in refused(tmp_path, data)


@pytest.mark.parametrize("end", ["\r\n", "\n"], ids=["CRLF", "LF"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
def test_line_ends_and_a_mark_do_not_matter(tmp_path: Path, end: str, mark: bytes) -> None:
    """B-C11: files that editors elsewhere write are the same files."""
    path = tmp_path / "catalog.yaml"
    path.write_bytes(mark + CARD.replace("\n", end).encode())
    code, said = checked(path)
    assert code == 0, said


def test_a_price_of_0_that_is_meant(tmp_path: Path) -> None:
    """B-C08: free is a word."""
    path = tmp_path / "catalog.yaml"
    free = CARD.replace('"3.00"', '"0"').replace('"15.00"', '"0"')
    path.write_text(free.replace("provider: p", "provider: p\n    free: true"))
    assert checked(path)[0] == 0


@pytest.mark.parametrize("kind", ["missing", "a folder", "a pipe", "a device", "2 GB", "everybody may write"])
def test_a_file_that_is_none(tmp_path: Path, kind: str) -> None:
    """B-C11: said at once: a pipe is not waited for, a large file not read whole."""
    path = tmp_path / "catalog.yaml"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "2 GB":
        with path.open("wb") as file:
            file.truncate(2 * 2**30)
    elif kind == "everybody may write":
        path.write_text(CARD)
        path.chmod(0o666)
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))\n"
        "from sidecar.cli.main import main\n"
        "main(['catalog', 'check', sys.argv[1]])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "catalog.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B-C11: said so. (The kernel's answer is played here: the superuser may read everything.)"""

    def no_permission(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sidecar.catalog.files.os.open", no_permission)
    with pytest.raises(ConfigurationError, match=r"catalog\.yaml: cannot be read: Permission denied"):
        read_catalog(tmp_path / "catalog.yaml")


def test_a_file_behind_links_is_read(tmp_path: Path) -> None:
    """B-C11: Kubernetes mounts a file as a link into `..data`, itself a link that is swapped at once."""
    for version, price in (("v1", "3.00"), ("v2", "4.00")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "catalog.yaml").write_text(CARD.replace("3.00", price))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "catalog.yaml").symlink_to("..data/catalog.yaml")
    first = checked(tmp_path / "catalog.yaml")
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    second = checked(tmp_path / "catalog.yaml")
    assert (first[0], second[0]) == (0, 0)
    assert first[1] != second[1]


@pytest.mark.parametrize(
    ("config", "catalog", "said"),
    [
        ("sidecar:\n  unknown_model: maybe\n", None, "spend.yaml:2 sidecar.unknown_model"),
        ("sidecar: [\n", None, "spend.yaml:"),
        (None, CARD.replace('"3.00"', '"0"'), "catalog.yaml:8 rate_cards.0.per_million_tokens.input"),
        ("", "", "catalog.yaml:"),
    ],
    ids=["a wrong value", "no YAML", "a wrong price", "an empty catalog"],
)
def test_it_does_not_start_with_them(tmp_path: Path, config: str | None, catalog: str | None, said: str) -> None:
    """B-C11: no good version, no service: exit code 1, file and line on standard error, nothing listens."""
    arguments = []
    for option, name, text in (("--config", "spend.yaml", config), ("--catalog", "catalog.yaml", catalog)):
        if text is not None:
            (tmp_path / name).write_text(text)
            arguments += [option, str(tmp_path / name)]
    done = started_up(tmp_path, *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data" / "admin.json").exists()


# -- the environment


def problems_of(tmp_path: Path, environ: Mapping[str, str]) -> str:
    """What is wrong with an environment, beside an empty file."""
    path = tmp_path / "spend.yaml"
    path.write_text("")
    with pytest.raises(ConfigurationError) as raised:
        load_settings(path, environ, {})
    return "\n".join(raised.value.problems)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SPEND_LISTEN__PORT", "8402\n"), ("SPEND_LISTEN__PORT", "8402 "), ("SPEND_LISTEN__PORT", ""),
        ("SPEND_LISTEN__PORT", '"8402"'), ("SPEND_LISTEN__PORT", "８４０２"), ("SPEND_LISTEN__PORT", "0x20d2"),
        ("SPEND_LISTEN__PORT", "-1"), ("SPEND_LISTEN__PORT", "8402.0"), ("SPEND_LISTEN__HOST", "127.0.0.1\n"),
        ("SPEND_LISTEN__HOST", ""), ("SPEND_UNKNOWN_MODEL", "deny "), ("SPEND_UNKNOWN_MODEL", "Deny"),
        ("SPEND_UPSTREAMS__OPENAI__BASE_URL", "https://api.openai.com\n"), ("SPEND_UPSTREAMS__OPENAI__BASE_URL", ""),
        ("SPEND_UPSTREAMS__OPENAI__BASE_URL", "'https://api.openai.com'"),
        ("SPEND_UPSTREAMS__OPENAI__BASE_URL", "https://user:secret@api.openai.com"),
        ("SPEND_UPSTREAMS__OPENAI__BASE_URL", "https://api.openai.com/?a=b"),
        ("SPEND_UPSTREAMS__OPENAI__BASE_URL", "file:///etc/passwd"), ("SPEND_UPSTREAMS__SPEND__BASE_URL", ""),
        ("SPEND_SUBJECT__CUSTOMER", "acme "), ("SPEND_SUBJECT__CUSTOMER", "acme\nother"),
        ("SPEND_DOOR__MAX_BODY_BYTES", "1e6"), ("SPEND_DOOR__MAX_BODY_BYTES", "9" * 4400),
        ("SPEND_CLAMP_FLOOR_TOKENS", "0"), ("SPEND_CLAMP_FLOOR_TOKENS", "-1"), ("SPEND_CLAMP_FLOOR_TOKENS", ""),
        ("SPEND_DOOR__HEAD_TIMEOUT_S", "inf"), ("SPEND_DOOR__HEAD_TIMEOUT_S", "-1"),
        ("SPEND_DOOR__HEAD_TIMEOUT_S", "1e400"), ("SPEND_", "1"), ("SPEND_TYPO", "1"), ("SPEND_LISTEN", "8402"),
    ],
)  # fmt: skip
def test_the_environment_is_read_as_it_stands(tmp_path: Path, variable: str, value: str) -> None:
    """B-C13: nothing is trimmed, empty is not unset, and what means nothing is a mistake, named with its variable."""
    said = problems_of(tmp_path, {variable: value})
    assert variable.partition("__")[0] in said
    assert "secret" not in said


@pytest.mark.parametrize("variable", ["SPEND_TYPO__PORT", "SPEND___", "SPEND_LISTEN__PORT__X"])
def test_a_variable_without_a_place_is_named(tmp_path: Path, variable: str) -> None:
    """B-C13: where the tree ends before the variable does, it is the variable that is wrong."""
    assert variable in problems_of(tmp_path, {variable: "1"})


def test_settings_that_are_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    """B-C11: as for the catalog."""
    pipe = tmp_path / "spend.yaml"
    os.mkfifo(pipe)
    code = (
        "import sys, pathlib\n"
        "from sidecar.app.settings import load_settings\n"
        "load_settings(pathlib.Path(sys.argv[1]), {}, {})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(pipe)], capture_output=True, text=True, timeout=60, check=False
    )
    assert "not a plain file" in done.stderr


@pytest.mark.parametrize("variable", ["SPEND_LISTEN__HOST", "SPEND_LEDGER__LISTEN__HOST"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "*", "", "localhost.evil", "127.1", "0"])
def test_no_port_beyond_loopback(tmp_path: Path, variable: str, host: str) -> None:
    """B-C14: callers from elsewhere cannot be told apart, so nothing listens for them."""
    assert variable in problems_of(tmp_path, {variable: host})


def test_a_port_beyond_loopback_does_not_open(tmp_path: Path) -> None:
    """B-C14: nor does the command open it."""
    done = started_up(tmp_path, SPEND_LISTEN__HOST="0.0.0.0")
    assert done.returncode == 1
    assert "SPEND_LISTEN__HOST" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give a folder away")
def test_a_folder_that_is_somebody_else_s(tmp_path: Path) -> None:
    """S-59: whoever owns it could put another book in its place; nothing is written there and nothing listens."""
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, 12_345, 12_345)
    done = started_up(tmp_path)
    assert done.returncode == 1
    assert "belongs to another user" in done.stderr
    assert "--data" in done.stderr
    assert list(data.iterdir()) == []


# -- limits and trees, as the ledger's API takes them


@pytest.mark.parametrize(
    "limit",
    [-1, "-1", "", " ", "1 000", "1,000", "1_000", "1e3", "0x10", "NaN", "inf", "1.", ".5", "١", "$5", "5 usd", "5usd",
     "0.0000000001", "9" * 30, "9" * 4400, True, 1.5, None, [], {}, 5],
    ids=lambda limit: repr(limit)[:24],
)  # fmt: skip
def test_a_limit_that_is_none(siege: Besieged, limit: Any) -> None:
    """B-C07: refused with the field's name; no unit is guessed, nothing is rounded."""
    form = {"path": "acme", "limit": limit, "per": "day", "currency": "usd"}
    status, said = siege.ask("/v1/budgets", form)
    assert status in {400, 422}, said
    assert "limit" in json.dumps(said)


def test_a_limit_of_0_allows_nothing(siege: Besieged) -> None:
    """B-C07: 0 is 0, never "unlimited"."""
    siege.fund("frugal")
    assert siege.ask("/v1/budgets", {"path": "frugal", "limit": "0", "per": "day", "currency": "usd"})[0] < 300
    answer = siege.post(who="frugal")
    assert (answer.status, answer.code) == (402, "request_exceeds_budget")


@pytest.mark.parametrize("currency", ["USD", "eur", "", "usd ", "a" * 4096, "u\0"])
def test_another_currency(siege: Besieged, currency: str) -> None:
    """B-C07: the customer's currency, or a refusal."""
    form = {"path": "acme", "limit": "1", "per": "day", "currency": currency}
    assert siege.ask("/v1/budgets", form)[0] in {400, 422}


@pytest.mark.parametrize(
    "path",
    ["acme/team:é", "acme/team:e\u0301", "acme/team:a\u200b", "acme/team:а", "acme/Team:a", "acme/team:a/team:b",
     "acme/customer:acme", "acme/team:", "acme//team:a", "acme/../team:a", "acme/team:a/", "/team:a", "",
     "acme/" + "/".join(f"k{n}:a" for n in range(17)), "acme/team:" + "a" * 129, "acme/team:a\n"],
    ids=lambda path: ascii(path)[:32],
)  # fmt: skip
def test_a_node_that_is_none(siege: Besieged, path: str) -> None:
    """B-C10: ids are ASCII, a kind stands once in a path (so there are no cycles), and depth has an end."""
    status, said = siege.ask("/v1/nodes", {"path": path})
    assert status in {400, 422}, said


def test_a_node_has_one_place(siege: Besieged) -> None:
    """B-C10: the same node under another parent is a conflict, and an orphan has no parent to be made under."""
    assert siege.ask("/v1/nodes", {"path": "acme/department:one/team:data"})[0] < 300
    status, said = siege.ask("/v1/nodes", {"path": "acme/department:two/team:data"})
    assert status in {409, 422}, said
    assert siege.ask("/v1/nodes", {"path": "nobody/team:data"})[0] in {404, 422}
    answer = siege.post(GOOD_BODY, "Spend-Path: department:two/team:data")
    assert answer.status in {400, 403}


def test_a_million_limits(siege: Besieged) -> None:
    """B-C16: limits are set one by one, each whole; a push of a million is too large and changes nothing."""
    _, before = siege.ask("/v1/customers/acme/budgets")
    form = {
        "path": "acme",
        "limit": "1",
        "per": "day",
        "currency": "usd",
        "match": {f"a{n}": "x" for n in range(100_000)},
    }
    status, said = siege.ask("/v1/budgets", form)
    assert status in {400, 413, 422}, said
    assert len(json.dumps(said)) < 10_000
    assert siege.ask("/v1/customers/acme/budgets")[1] == before
    cards = "rate_cards:\n" + "  - id: x\n" * 1_000_000
    with pytest.raises(ConfigurationError, match="larger than"):
        parse_catalog("catalog.yaml", cards.encode())


# -- whatever else somebody may write

_TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
_SCALAR = st.one_of(
    _TEXT,
    st.sampled_from(
        ["yes", "~", "null", "1e3", ".inf", "0o7", "&a", "*a", "!!str x", "|", ">", "'", '"', "?", "- ", "%"]
    ),
)
_NESTED = st.recursive(
    _SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
        st.lists(st.tuples(_SCALAR, inner), max_size=3).map(
            lambda each: "{" + ", ".join(f"{k}: {v}" for k, v in each) + "}"
        ),
        st.lists(inner, max_size=3).map(lambda items: "\n".join(f"- {item}" for item in items)),
    ),
    max_leaves=12,
)
_EDITS = st.lists(st.tuples(st.integers(0, len(CARD)), st.integers(0, 12), _SCALAR), max_size=3)


@settings(max_examples=300)
@given(data=st.one_of(_NESTED.map(str.encode), st.binary(max_size=64), _TEXT.map(str.encode)))
def test_no_yaml_brings_the_reader_down(data: bytes) -> None:
    """Any bytes: a document of plain values, or a report with the file's name; nothing else is raised."""
    try:
        document = read_yaml("f.yaml", data)
    except ConfigurationError as error:
        assert_report(error, "f.yaml")
    else:
        assert_plain(document.value)


def assert_report(error: ConfigurationError, name: str) -> None:
    """It says something, and where."""
    assert error.problems
    assert all(name in problem for problem in error.problems), error.problems


def assert_plain(value: object) -> None:
    """Nothing but mappings by text, lists, text, whole numbers, true, false and null."""
    if isinstance(value, dict):
        for key, item in value.items():
            assert isinstance(key, str)
            assert_plain(item)
    elif isinstance(value, list):
        for item in value:
            assert_plain(item)
    else:
        assert value is None or type(value) in {str, int, bool}


@settings(max_examples=200)
@given(edits=_EDITS)
def test_no_catalog_brings_the_reader_down(edits: list[tuple[int, int, str]]) -> None:
    """A good catalog with some of it overwritten: read, or reported."""
    text = CARD
    for at, length, new in edits:
        text = text[:at] + new + text[at + length :]
    try:
        catalog = parse_catalog("f.yaml", text.encode())
    except ConfigurationError as error:
        assert_report(error, "f.yaml")
    else:
        assert catalog.rates.cards


@settings(max_examples=100)
@given(data=_NESTED)
def test_no_settings_bring_the_reader_down(tmp_path_factory: pytest.TempPathFactory, data: str) -> None:
    """Anything under a known key: bound, or reported."""
    path = tmp_path_factory.getbasetemp() / "spend.yaml"
    path.write_bytes(f"sidecar: {data}\n".encode())
    try:
        load_settings(path, {}, {})
    except ConfigurationError as error:
        assert_report(error, "spend.yaml")
