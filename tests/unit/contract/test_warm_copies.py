"""Copies of policies: what is in them, and what is not taken for one."""

from __future__ import annotations

import msgspec
import pytest

from sidecar.contract.codec import encode
from sidecar.contract.warm_copies import (
    CLOCKS_APART_MS,
    MAX_COPY_AGE_MS,
    MAX_COPY_BUDGETS,
    MAX_COPY_BYTES,
    WarmCopy,
    read_copy,
    write_copy,
)
from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Subject
from tests.support.authority import GRANT

NOW = 1_795_521_600_000
ADA = Subject("acme", (), "ada")
BUDGET = Budget("b1", "usd", 5_000, Cadence.LIFETIME)
STANDING = Standing("acme", (), "ada", Wallet.NONE, "usd", (BUDGET,), (), "default@1", 7, 60_000)


def copy(**changes: object) -> bytes:
    return encode(msgspec.structs.replace(WarmCopy("acme", (), "ada", NOW, STANDING), **changes))


def test_a_copy_is_read_as_it_was_written_with_its_age() -> None:
    """The same standing, and how old it is; the session and agent of who asks make no difference."""
    data = write_copy(ADA, STANDING, now_ms=NOW)
    assert data is not None
    assert read_copy(data, ADA, now_ms=NOW + 5_000) == (STANDING, 5_000)
    assert read_copy(data, Subject("acme", (), "ada", agent="x", session="y"), now_ms=NOW) == (STANDING, 0)
    assert read_copy(data, ADA, now_ms=NOW - CLOCKS_APART_MS) == (STANDING, 0)


def test_no_spending_power_is_in_a_copy_or_read_from_one() -> None:
    """Grants are left out by who writes, and passed over by who reads: a forged one has none to give."""
    rich = msgspec.structs.replace(STANDING, grants=(GRANT,))
    data = write_copy(ADA, rich, now_ms=NOW)
    assert data is not None
    assert data == write_copy(ADA, STANDING, now_ms=NOW)
    assert read_copy(copy(standing=rich), ADA, now_ms=NOW) == (STANDING, 0)


@pytest.mark.parametrize(
    ("changes", "later_ms"),
    [
        ({"customer": "beta"}, 0),
        ({"user": "bob"}, 0),
        ({"standing": msgspec.structs.replace(STANDING, customer="beta")}, 0),
        ({"standing": msgspec.structs.replace(STANDING, budgets=(BUDGET,) * (MAX_COPY_BUDGETS + 1))}, 0),
        ({"standing": msgspec.structs.replace(STANDING, budgets=(Budget("b", "usd", -1, Cadence.DAY),))}, 0),
        ({"standing": msgspec.structs.replace(STANDING, budgets=(Budget("b", "usd", 2**63, Cadence.DAY),))}, 0),
        ({"form": 2}, 0),
        ({}, MAX_COPY_AGE_MS + 1),
        ({}, -CLOCKS_APART_MS - 1),
    ],
)
def test_what_is_another_s_too_old_or_senseless_is_none(changes: dict[str, object], later_ms: int) -> None:
    """Whatever lies there is held against what was asked for, and against what a standing can be."""
    assert read_copy(copy(), ADA, now_ms=NOW) is not None
    assert read_copy(copy(**changes), ADA, now_ms=NOW + later_ms) is None


@pytest.mark.parametrize("data", [b"", b"\xc1", b"not a copy", b"\x81" * 500, copy()[:-1], copy() + b"\x00"])
def test_other_bytes_are_none(data: bytes) -> None:
    """Bytes that are no copy are as if there were none."""
    assert read_copy(data, ADA, now_ms=NOW) is None


def test_a_copy_is_bounded_on_both_sides() -> None:
    """Too many policies are not written, and too many bytes are not read."""
    match = {"model": "m" * 1000}
    many = tuple(Budget(f"b{n}", "usd", 1, Cadence.DAY, match=match) for n in range(60))
    assert write_copy(ADA, msgspec.structs.replace(STANDING, budgets=many), now_ms=NOW) is None
    assert write_copy(ADA, msgspec.structs.replace(STANDING, budgets=(BUDGET,) * 129), now_ms=NOW) is None
    assert read_copy(copy(standing=msgspec.structs.replace(STANDING, budgets=many)), ADA, now_ms=NOW) is None
    assert len(copy(standing=msgspec.structs.replace(STANDING, budgets=many))) > MAX_COPY_BYTES
