"""A head that could be read in two ways is refused; one that is fine keeps every byte."""

from __future__ import annotations

import pytest

from sidecar.proxy import request_head
from sidecar.proxy.refusals import Header, RefusalReason, Refused
from sidecar.proxy.request_head import (
    GOOD_TARGET_CHARS_MAX,
    KNOWN_NAME_BYTES_MAX,
    KNOWN_NAMES_MAX,
    LOOPBACK_HOSTS,
    RequestHead,
    lower_name,
    read_head,
)

HOST = (b"Host", b"localhost:8402")


def read(
    *headers: Header, target: str = "/v1/x", method: str = "POST", hosts: frozenset[bytes] = LOOPBACK_HOSTS
) -> RequestHead:
    """Read a head with these lines."""
    return read_head(method, target, (1, 1), headers, hosts=hosts)


def reason_of(*headers: Header, **changes: str) -> RefusalReason:
    """Why such a head is refused."""
    with pytest.raises(Refused) as caught:
        read(*headers, **changes)  # type: ignore[arg-type]
    return caught.value.refusal.reason


def test_a_good_head_is_kept() -> None:
    """Raw lines stay raw; lookups are by lower-case name; ordinary repeated lines are joined."""
    head = read(HOST, (b"X-A", b"1"), (b"x-a", b"2"), (b"Spend-Customer", b"acme"), target="/v1/x?q=%20&b")
    assert head.headers == (HOST, (b"X-A", b"1"), (b"x-a", b"2"), (b"Spend-Customer", b"acme"))
    assert head.get(b"x-a") == b"1, 2"
    assert head.get(b"spend-customer") == b"acme"
    assert head.get(b"missing") is None
    assert (head.path, head.target) == ("/v1/x", "/v1/x?q=%20&b")


@pytest.mark.parametrize("host", [b"localhost", b"LOCALHOST:1", b"127.0.0.1:8402", b"[::1]:8402", b"my.name"])
def test_our_names(host: bytes) -> None:
    """Loopback in any spelling, and what is configured."""
    read((b"Host", host), hosts=LOOPBACK_HOSTS | {b"my.name"})


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        (b"evil.example", RefusalReason.HOST),
        (b"localhost.evil.example", RefusalReason.HOST),
        (b"my.name", RefusalReason.HOST),
        (b"localhost/#@evil", RefusalReason.MALFORMED),
        (b"u:p@localhost", RefusalReason.MALFORMED),
        (b"", RefusalReason.MALFORMED),
    ],
)
def test_other_names(host: bytes, reason: RefusalReason) -> None:
    """B-P04, B-P05, B-P07: a rebound name is 421, nonsense is malformed."""
    assert reason_of((b"Host", host)) is reason


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/v1/models/ft:gpt-4o:a::b",
        "/v1/models/x:streamGenerateContent?alt=sse",
        "/a%20b/~c/@d",
        "/v1/a..b/.well-known",
    ],
)
def test_good_targets(target: str) -> None:
    """Dots inside segments, escapes of what needs them and any query are fine, the first time and the second."""
    assert read(HOST, target=target).target == target
    assert read(HOST, target=target).target == target


BAD_TARGETS = [
    "*",
    "x",
    "http://localhost/x",
    "//x",
    "/a//b",
    "/.",
    "/a/..",
    "/a/./b",
    "/\\a",
    "/%2E",
    "/%2f",
    "/%5c",
    "/%00",
    "/%1f",
    "/%7F",
    "/%41",
    "/%7a",
    "/%30",
    "/%5f",
    "/%2d",
    "/%",
    "/%4",
    "/%g0",
    "/a#b",
    "/a?#",
    "/é",
    "/a\x7f",
]


@pytest.mark.parametrize("target", ["", "/a b", *BAD_TARGETS])
def test_bad_targets(target: str) -> None:
    """B-P34, B-P35: nothing that some server would read as another path."""
    assert reason_of(HOST, target=target) is RefusalReason.MALFORMED


@pytest.mark.parametrize("name", [b"spend_\xd1", b"spend-\xff"])
def test_a_name_beyond_ascii_is_refused_in_words(name: bytes) -> None:
    """Found by fuzzing: its own refusal could not be written."""
    with pytest.raises(Refused):
        read_head("POST", "/v1/messages", (1, 1), [(name, b"a"), (name, b"b")], hosts=LOOPBACK_HOSTS)


@pytest.mark.parametrize(
    "name", [b"spend_customer", b"Spend-Customer_", b"x_api_key", b"Content_Length", b"transfer_encoding", b"HOST_"]
)
def test_underscore_twins(name: bytes) -> None:
    """B-P31: some servers read them as hyphens; only names that matter are refused."""
    if name.endswith(b"_") and name != b"Spend-Customer_":
        read(HOST, (name, b"x"))
    else:
        assert reason_of(HOST, (name, b"x")) is RefusalReason.MALFORMED


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"authorization", RefusalReason.REPEATED_HEADER),
        (b"X-Api-Key", RefusalReason.REPEATED_HEADER),
        (b"Idempotency-Key", RefusalReason.REPEATED_HEADER),
        (b"Host", RefusalReason.REPEATED_HEADER),
        (b"Spend-Customer", RefusalReason.SUBJECT_CONFLICT),
        (b"Spend-Idempotency-Key", RefusalReason.SUBJECT_CONFLICT),
    ],
)
def test_what_must_be_single(name: bytes, reason: RefusalReason) -> None:
    """B-P32: two of them, even equal ones, in any spelling."""
    assert reason_of(HOST, (name, b"localhost"), (name.upper(), b"localhost")) is reason


def test_remembered_spellings_are_bounded() -> None:
    """A caller who invents names does not fill the memory."""
    for number in range(2 * KNOWN_NAMES_MAX):
        assert lower_name(b"X-%d" % number) == b"x-%d" % number
    from sidecar.proxy import request_head

    assert len(request_head._lower_names) <= KNOWN_NAMES_MAX


@pytest.mark.parametrize("origin", [b"http://localhost:3000", b"https://127.0.0.1"])
def test_pages_of_this_host_may_call(origin: bytes) -> None:
    """A local tool's page is not a stranger's."""
    read(HOST, (b"Origin", origin))


@pytest.mark.parametrize("origin", [b"https://evil", b"null", b"http://localhost@evil", b"http://localhost.evil", b""])
def test_other_pages_may_not(origin: bytes) -> None:
    """B-P70."""
    assert reason_of(HOST, (b"Origin", origin)) is RefusalReason.BROWSER


@pytest.mark.parametrize("name", [b"Spend-Usr", b"spend-users", b"SPEND-PAHT", b"Spend-Customer-Id", b"Spend-Sesion"])
def test_a_misspelt_header_of_ours_is_refused(name: bytes) -> None:
    """Passed over, the limits of whoever was meant would not apply; also the second time."""
    for _ in range(2):
        with pytest.raises(Refused, match="did you mean Spend-"):
            read(HOST, (name, b"eve"))


@pytest.mark.parametrize("name", [b"Spend-Anything", b"Spend-Usage", b"Spend-Idempotency-Key", b"Spend-User", b"Spend"])
def test_a_header_that_is_like_none_of_ours_passes(name: bytes) -> None:
    """It is dropped later, and no mistake."""
    read(HOST, (name, b"x"))


KEY = b"sk-spend-abc"


@pytest.mark.parametrize(
    ("lines", "key", "has_own"),
    [
        ([], None, False),
        ([(b"Authorization", b"Bearer sk-own")], None, True),
        ([(b"Authorization", b"Bearer " + KEY)], KEY, False),
        ([(b"authorization", b"bearer  " + KEY)], KEY, False),
        ([(b"X-Api-Key", KEY)], KEY, False),
        ([(b"api-key", KEY)], KEY, False),
        ([(b"x-goog-api-key", KEY)], KEY, False),
        ([(b"Spend-Key", KEY), (b"x-api-key", b"sk-own")], KEY, True),
        ([(b"x-api-key", KEY), (b"Authorization", b"Bearer " + KEY)], KEY, False),
        ([(b"x-api-key", KEY), (b"Authorization", b"Bearer " + KEY + b"d")], b"", False),
        ([(b"Spend-Key", KEY), (b"x-api-key", KEY + b"d"), (b"api-key", KEY)], b"", False),
        ([(b"Spend-Key", b"whatever")], b"whatever", False),
        ([(b"Spend-Key", b"")], b"", False),
        ([(b"Authorization", b"Basic " + KEY)], b"Basic " + KEY, False),
        ([(b"Authorization", KEY)], KEY, False),
        ([(b"X-Other", KEY)], None, False),
    ],
)
def test_where_a_virtual_key_is_found(lines: list[Header], key: bytes | None, has_own: bool) -> None:
    """In every header that may hold a provider's key, and in our own; two that differ are none."""
    head = read(HOST, *lines)
    assert (head.key, head.has_own_key) == (key, has_own)


@pytest.mark.parametrize(
    "target",
    ["/v1/sk-spend-abc", "/v1/x/sk-spend-abc/y", "/v1/x?key=sk-spend-abc", "/v1/x?sk-spend-abc", "/v1/x?a=1&sk-spend-",
     "/v1/x?key=sk%2dspend%2Dabc", "/v1/x?%73k-spend-abc=1"],
)  # fmt: skip
def test_a_virtual_key_in_the_target_is_refused(target: str) -> None:
    """It would go out with the path, and stand in whatever logs it on the way; each time, for it is not remembered."""
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            read(HOST, target=target)
        assert caught.value.refusal.reason is RefusalReason.MALFORMED
        assert "abc" not in caught.value.refusal.message


def test_long_names_and_targets_are_not_remembered() -> None:
    """What callers make up is kept in small pieces only, however much of it they send."""
    name, target = b"X-" + b"a" * KNOWN_NAME_BYTES_MAX, "/" + "a" * GOOD_TARGET_CHARS_MAX
    assert lower_name(name) == name.lower()
    read_head("GET", target, (1, 1), [(b"Host", b"localhost"), (name, b"1")], hosts=LOOPBACK_HOSTS)
    assert name not in request_head._lower_names
    assert target not in request_head._good_targets
