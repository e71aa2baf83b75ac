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


def test_long_sets_are_not_remembered() -> None:
    """Thousands of different headers of kilobytes would else be kept; they are read the same each time."""
    identifier = Identifier()
    kept = identifier._remembered.cache_info
    for number in range(50):
        fields = {b"spend-customer": b"acme", b"baggage": b"spend.user=ada,n=%d,pad=" % number + b"a" * 1024}
        assert identifier.identify(fields) == identifier.identify(fields) == Subject("acme", user="ada")
        assert isinstance(identifier.identify({b"spend-customer": b"a" * 2000}), Unfit)
    assert kept().currsize == 0
    assert identifier.identify({b"spend-customer": b"acme"}) == identifier.identify({b"spend-customer": b"acme"})
    assert (kept().currsize, kept().hits) == (1, 1)


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


HOLDER = Subject("acme", (Node("team", "data"),), user="ada", feature="chat")


def held(headers: dict[str, str], holder: Subject = HOLDER, **defaults: str) -> Subject | Denied | Unfit:
    """Identify a request that brings a virtual key which names `holder`."""
    raw = {name.encode(): value.encode() for name, value in headers.items()}
    return Identifier(defaults).identify(raw, holder)


def test_a_virtual_key_says_who_and_the_request_fills_what_it_leaves_open() -> None:
    """The key is over headers, baggage and defaults; a field it does not name comes from them."""
    assert held({}) == HOLDER
    found = held({"spend-session": "s", "baggage": "spend.agent=bot"}, customer="other", feature="f", product="p")
    assert found == Subject("acme", (Node("team", "data"),), "ada", "bot", "s", "chat", "p")
    same = {"spend-customer": "acme", "spend-path": "team:data", "spend-user": "ada", "spend-feature": "chat"}
    assert held(same) == HOLDER


@pytest.mark.parametrize(
    "headers",
    [{"spend-customer": "rival"}, {"spend-path": "team:other"}, {"spend-path": "team:data/project:x"},
     {"spend-user": "eve"}, {"spend-feature": "other"}, {"baggage": "spend.user=eve"},
     {"baggage": "spend.customer=rival"}, {"spend-user": "ada", "baggage": "spend.user=eve"}, {"spend-user": ""}],
)  # fmt: skip
def test_a_virtual_key_cannot_be_overruled(headers: dict[str, str]) -> None:
    """Another value of a field that it names, in a header or in the baggage, is a conflict; neither wins."""
    found = held(headers)
    assert isinstance(found, Denied)
    assert found.reason is Reason.SUBJECT_CONFLICT
    assert "eve" not in found.detail
    assert "ada" not in found.detail


def test_one_key_does_not_answer_for_another() -> None:
    """The same headers with other keys, and with none: each its own subject, in any order."""
    identifier = Identifier()
    headers = {b"spend-session": b"s"}
    beta = Subject("beta")
    for _ in range(2):
        assert identifier.identify(headers, HOLDER) == Subject("acme", HOLDER.path, "ada", session="s", feature="chat")
        assert identifier.identify(headers, beta) == Subject("beta", session="s")
        without = identifier.identify(headers)
        assert isinstance(without, Denied)
        assert without.reason is Reason.CUSTOMER_REQUIRED


def test_a_key_in_the_place_of_a_name_is_refused() -> None:
    """S-24: it would be booked with every call, and shown to whoever reads the book."""
    found = identify({"spend-customer": "acme", "spend-user": "sk-spend-abc"})
    assert isinstance(found, Unfit)
    assert found.reason is UnfitReason.INVALID_SUBJECT
    assert "sk-spend" not in found.message
