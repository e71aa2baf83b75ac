"""Virtual keys as text: their form, their checksum, and how they are told from other secrets."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.governance.checked_tokens import SECRET_BYTES, is_token, write_token
from sidecar.core.governance.virtual_keys import KEY_PREFIX, fingerprint, is_key, key_digest, write_key
from sidecar.ledger.http_access import admin_token, sidecar_token
from sidecar.telemetry.logs import redact

SECRETS = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)
KEY = write_key(bytes(range(32)))


def test_the_form_is_for_good() -> None:
    """Keys are kept by their holders for years: what was one stays one, and has the same digest."""
    assert KEY == "sk-spend-aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq_6fmruwa"
    assert key_digest(KEY) == hashlib.sha256(KEY.encode()).digest()
    assert fingerprint(key_digest(KEY).hex()) == hashlib.sha256(KEY.encode()).hexdigest()[:12]


@given(SECRETS, SECRETS)
def test_every_secret_has_a_key_of_its_own(one: bytes, other: bytes) -> None:
    """S-13: the prefix by which scanners find it, all bits of the secret, a checksum; and a header can carry it."""
    key = write_key(one)
    assert is_key(key)
    assert key.startswith(KEY_PREFIX)
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key
    assert (write_key(other) == key) is (other == one)


@given(SECRETS, st.integers(0, 68), st.sampled_from("abcxyz27_-A0 "))
def test_a_mistyped_key_is_none(secret: bytes, at: int, letter: str) -> None:
    """One letter that is another is found by the checksum, wherever it stands."""
    key = write_key(secret)
    changed = key[:at] + letter + key[at + 1 :]
    assert is_key(changed) is (changed == key)


@pytest.mark.parametrize(
    "text",
    ["", KEY_PREFIX, KEY[:-1], KEY + "a", KEY.upper(), f" {KEY}", f"{KEY}\n", KEY[len(KEY_PREFIX) :],
     admin_token(bytes(32)), sidecar_token(bytes(32)), "sk-proj-abcdefgh", f"{KEY_PREFIX}{'é' * 52}_aaaaaaa"],
)  # fmt: skip
def test_what_is_no_key(text: str) -> None:
    """Cut, lengthened, in capitals, with white space, of another kind."""
    assert not is_key(text)


def test_tokens_are_made_of_256_bits() -> None:
    """Fewer would be guessed, and none of another prefix is taken."""
    for size in (0, SECRET_BYTES - 1, SECRET_BYTES + 1):
        with pytest.raises(ValueError, match="32 random bytes"):
            write_token("x_", bytes(size))
    assert is_token("x_", write_token("x_", bytes(32)))
    assert not is_token("y_", write_token("x_", bytes(32)))


def test_no_log_shows_a_key() -> None:
    """S-22: by its looks, whoever logs it."""
    assert KEY not in redact(f"it was {KEY}, they said")
