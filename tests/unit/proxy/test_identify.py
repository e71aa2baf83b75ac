from __future__ import annotations

import pytest

from sidecar.core.governance.decisions import Denied, Reason
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.proxy.identify import Identifier
from sidecar.proxy.subject_fields import FIELDS
from sidecar.proxy.unfit import Unfit, UnfitReason


def identify(headers: dict[str, str], **defaults: str) -> Subject | Denied | Unfit:
    return Identifier(defaults).identify({name.encode(): value.encode() for name, value in headers.items()})


def test_every_field_by_header() -> None:
    """All seven headers, the path outermost first."""
    headers = {f"spend-{field}": f"x-{field}" for field in FIELDS} | {"spend-path": "department:a/team:b"}
    wanted = {field: f"x-{field}" for field in FIELDS if field != "path"}
    assert identify(headers) == Subject(path=(Node("department", "a"), Node("team", "b")), **wanted)


def test_every_field_by_baggage() -> None:
    """Members are percent-decoded, properties and others' members are passed over."""
    baggage = "trace=1, spend.customer = acme;p=1 ,spend.path=team%3Adata,spend.user=ada%40x.org,x.spend.user=eve"
    assert identify({"baggage": baggage}) == Subject("acme", (Node("team", "data"),), user="ada@x.org")


def test_sources_fill_each_others_gaps() -> None:
    """Header, then baggage, then default; the same value twice is no conflict."""
    found = identify(
        {"spend-user": "ada", "baggage": "spend.user=ada,spend.agent=bot"}, customer="acme", agent="other", product="p"
    )
    assert found == Subject("acme", user="ada", agent="bot", product="p")


@pytest.mark.parametrize(
    "headers",
    [{"spend-customer": "acme", "baggage": "spend.customer=rival"},
     {"spend-customer": "acme", "baggage": "SPEND.customer=rival"},
     {"baggage": "spend.customer=acme,spend.customer=rival"},
     {"spend-customer": "a", "spend-user": "x", "baggage": "spend.user=y"}],
)  # fmt: skip
def test_two_values_for_one_field_are_a_conflict(headers: dict[str, str]) -> None:
    """B-P43: nobody chooses between two that would pay."""
    found = identify(headers)
    assert isinstance(found, Denied)
    assert found.reason is Reason.SUBJECT_CONFLICT


def test_a_missing_customer_is_named() -> None:
    """B-P40: the refusal names the header to send."""
    found = identify({"spend-user": "ada"})
    assert isinstance(found, Denied)
    assert found.reason is Reason.CUSTOMER_REQUIRED
    assert "Spend-Customer" in found.detail


@pytest.mark.parametrize(
    "headers",
    [{"spend-customer": ""}, {"spend-customer": "a b"}, {"spend-customer": "../x"}, {"spend-customer": "x" * 129},
     {"spend-customer": "a", "spend-session": "%"}, {"spend-customer": "a", "spend-path": "team"},
     {"spend-customer": "a", "spend-path": "team:x/team:y"}, {"spend-customer": "a", "spend-path": "user:eve"},
     {"baggage": "spend.customer=%E2%80%AEacme"}, {"baggage": "spend.customer=a%0Ab"},
     {"baggage": "spend.customer=%zz"}, {"baggage": "spend.customer="}],
)  # fmt: skip
def test_bad_ids_are_refused_without_an_echo(headers: dict[str, str]) -> None:
    """B-P44: only ids of the agreed letters and length, whatever way they came."""
    found = identify(headers)
    assert isinstance(found, Unfit)
    assert found.reason is UnfitReason.INVALID_SUBJECT
    assert "eve" not in found.message


def test_unseen_traces_do_not_fill_the_memory() -> None:
    """Baggage that says nothing of ours is no part of what is remembered."""
    identifier = Identifier()
    found = {id(identifier.identify({b"spend-customer": b"a", b"baggage": b"t=%d" % n})) for n in range(5)}
    assert len(found) == 1


@pytest.mark.parametrize("defaults", [{"custmer": "a"}, {"customer": "a b"}, {"path": "x"}])
def test_defaults_are_checked_once(defaults: dict[str, str]) -> None:
    """A default that no request could send is a mistake of the configuration."""
    with pytest.raises(ValueError, match=r"expected"):
        Identifier(defaults)


@pytest.mark.parametrize("member", ["spend.usr=eve", "spend.user-id=eve", "SPEND.Paht=team:a"])
def test_a_misspelt_member_of_the_baggage_is_refused(member: str) -> None:
    """Passed over, the limits of whoever was meant would not apply."""
    found = identify({"spend-customer": "acme", "baggage": f"trace=1,{member}"})
    assert isinstance(found, Unfit)
    assert "did you mean spend." in found.message


def test_what_is_like_no_field_is_passed_over() -> None:
    """Members and headers of our own that we do not know do not reach the provider, and are no mistake."""
    assert identify({"spend-customer": "acme", "baggage": "spend.trace=1,spend.=2"}) == Subject("acme")
