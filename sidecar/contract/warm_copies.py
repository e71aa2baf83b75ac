"""A subject's policies as they are left for sidecars that start while the ledger is away: never spending power.

Where such a copy lies others may write. So what is read is held against what was asked for and is bounded in every
part; and it decides nothing: whoever has it knows better why a call is refused, and admits none by it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.contract.codec import decode, encode
from sidecar.core.governance.standing import Standing
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.errors import WireFormatError

MAX_COPY_BYTES: Final = 32_768
"""A subject with more policies has no copy."""

MAX_COPY_AGE_MS: Final = 86_400_000
"""An older copy says nothing any more."""

MAX_COPY_BUDGETS: Final = 128
CLOCKS_APART_MS: Final = 300_000
"""How far a writer's wall clock may be ahead of the reader's."""

_MOST_ATOMS: Final = 2**63 - 1
_FORM: Final = 1


class WarmCopy(msgspec.Struct, frozen=True):
    """What was heard of (customer, path, user), as the application named them, and when (Unix milliseconds).

    `standing` has no grants: what they have left is spending power.
    """

    customer: str
    path: tuple[Node, ...]
    user: str
    written_at_ms: int
    standing: Standing
    form: int = _FORM


def write_copy(subject: Subject, standing: Standing, *, now_ms: int) -> bytes | None:
    """The bytes of a copy; None: it would be too large."""
    bare = msgspec.structs.replace(standing, grants=())
    if len(bare.budgets) > MAX_COPY_BUDGETS:
        return None
    data = encode(WarmCopy(subject.customer, subject.path, subject.user, now_ms, bare))
    return data if len(data) <= MAX_COPY_BYTES else None


def read_copy(data: bytes, subject: Subject, *, now_ms: int) -> tuple[Standing, int] | None:
    """The standing in a copy, without grants, and its age in milliseconds; None: it is none of this subject's.

    Likewise where it is too old or from the future, of another form, or has what no standing can have.
    """
    if len(data) > MAX_COPY_BYTES:
        return None
    try:
        copy = decode(data, WarmCopy)
    except WireFormatError:
        return None
    age_ms = now_ms - copy.written_at_ms
    is_his = (copy.customer, copy.path, copy.user) == (subject.customer, subject.path, subject.user)
    standing = copy.standing
    if not is_his or copy.form != _FORM or standing.customer != subject.customer:
        return None
    if not -CLOCKS_APART_MS <= age_ms <= MAX_COPY_AGE_MS or len(standing.budgets) > MAX_COPY_BUDGETS:
        return None
    if not all(0 <= budget.limit_atoms <= _MOST_ATOMS for budget in standing.budgets):
        return None
    return msgspec.structs.replace(standing, grants=()), max(0, age_ms)
