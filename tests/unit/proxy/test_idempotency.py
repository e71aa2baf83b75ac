from __future__ import annotations

from sidecar.proxy.idempotency import IdempotencyKeys


def test_a_key_stands_for_one_request_of_one_customer() -> None:
    """B-P64: another body or another path under a used key is another request."""
    keys = IdempotencyKeys()
    keys.remember("acme", b"k", "/v1/messages", b"{}")
    assert not keys.is_for_another("acme", b"k", "/v1/messages", b"{}")
    assert keys.is_for_another("acme", b"k", "/v1/messages", b"{ }")
    assert keys.is_for_another("acme", b"k", "/v1/chat/completions", b"{}")
    assert not keys.is_for_another("other", b"k", "/v1/messages", b"[]")
    assert not keys.is_for_another("acme", b"K", "/v1/messages", b"[]")


def test_what_is_remembered_is_bounded() -> None:
    """The key used longest ago goes first."""
    keys = IdempotencyKeys(size=2)
    for key in (b"a", b"b", b"a", b"c"):
        keys.remember("acme", key, "/", b"1")
    assert keys.is_for_another("acme", b"a", "/", b"2")
    assert not keys.is_for_another("acme", b"b", "/", b"2")
