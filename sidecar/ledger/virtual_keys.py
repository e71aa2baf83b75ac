"""Virtual keys in the book: what each names, and whether it is good.

A key is made by who asks for it, and the book gets its SHA-256 alone. Making and revoking one are
entries that move the customer's revision, so that every sidecar hears of them at once.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Final

import msgspec

from sidecar.contract.messages import ResolveKeyReply
from sidecar.core.governance.limits import EPOCH
from sidecar.core.governance.tenancy import Node, Subject, format_path
from sidecar.core.governance.virtual_keys import fingerprint
from sidecar.errors import Conflict, LedgerUnavailable, NotFound, Rejected
from sidecar.ledger.administration import NewKey
from sidecar.ledger.journal import Journal
from sidecar.ledger.policies import Path, Refusal, load_paths, locate
from sidecar.ledger.reading import customer_row, page_size
from sidecar.ledger.showing import whole_path
from sidecar.ledger.views import KeyView
from sidecar.ports import Book, Row, Transaction

DAY_MS: Final = 86_400_000
MAX_KEYS: Final = 10_000
"""Keys of one customer that are good."""


class KnownKey(msgspec.Struct, frozen=True):
    """A good key: its name in the book, whom it names, the revision of that customer, its end and its last day."""

    key_id: str
    subject: Subject
    revision: int
    expires_at_ms: int | None = None
    last_used_day: int | None = None


async def create(journal: Journal, form: NewKey, subject: Subject, *, key_id: str, actor: str) -> KeyView:
    """Take a key into the book.

    Raises:
        Conflict: this customer has had a key with this digest.
        Rejected: it has MAX_KEYS.
    """
    tx, customer = journal.tx, journal.customer
    if await tx.fetch("SELECT key_id FROM virtual_keys WHERE sha256 = ? AND customer = ?", (form.sha256, customer)):
        raise Conflict("there is a key with this SHA-256; make another")
    counted = await tx.fetch(
        "SELECT count(*) AS n FROM virtual_keys WHERE customer = ? AND revoked_at_ms IS NULL", (customer,)
    )
    if counted[0]["n"] >= MAX_KEYS:
        raise Rejected("too_many_keys", {"path": f"a customer has at most {MAX_KEYS} keys; revoke some"})
    shown: dict[str, object] = {"key_id": key_id, "name": form.name, "fingerprint": fingerprint(form.sha256)}
    facts = shown | {"subject": msgspec.to_builtins(subject)}
    expires_at_ms = None if form.expires_in_ms is None else journal.now_ms + form.expires_in_ms
    if expires_at_ms is not None:
        facts["expires_at_ms"] = expires_at_ms
    sequence = journal.post("key_created", actor=actor, facts=facts, key=key_id, policy=True)
    await tx.execute(
        "INSERT INTO virtual_keys (customer, key_id, sha256, name, subject, created_at_ms, created_by, sequence,"
        " expires_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            customer,
            key_id,
            form.sha256,
            form.name,
            msgspec.json.encode(subject).decode(),
            journal.now_ms,
            actor,
            sequence,
            expires_at_ms,
        ),
    )
    return await _one(tx, customer, key_id)


async def revoke(journal: Journal, key_id: str, *, actor: str) -> KeyView:
    """Let nobody in by it any more; one that is revoked stays as it is.

    Raises:
        NotFound: this customer has no such key.
    """
    tx, customer = journal.tx, journal.customer
    view = await _one(tx, customer, key_id)
    if view.revoked_at_ms is not None:
        return view
    journal.post("key_revoked", actor=actor, facts={"key_id": key_id}, key=key_id, policy=True)
    await tx.execute(
        "UPDATE virtual_keys SET revoked_at_ms = ?, revoked_by = ? WHERE customer = ? AND key_id = ?",
        (journal.now_ms, actor, customer, key_id),
    )
    return await _one(tx, customer, key_id)


async def resolve_key(book: Book, digest: bytes, now_ms: int) -> ResolveKeyReply:
    """Whom a key names, as a sidecar asks it; that it was used on this day is noted once a day."""
    found = await book.read_everyone(lambda tx: find(tx, digest, now_ms))
    if found is None:
        return ResolveKeyReply()
    today = now_ms // DAY_MS
    if found.last_used_day is None or found.last_used_day < today:
        with suppress(LedgerUnavailable):  # whoever asks next notes it
            await book.transact(found.subject.customer, partial(_note_used, known=found, day=today))
    expires_in_ms = None if found.expires_at_ms is None else found.expires_at_ms - now_ms
    return ResolveKeyReply(found.subject, found.key_id, found.revision, expires_in_ms=expires_in_ms)


async def _note_used(tx: Transaction, known: KnownKey, day: int) -> None:
    await tx.execute(
        "UPDATE virtual_keys SET last_used_day = ?"
        " WHERE customer = ? AND key_id = ? AND (last_used_day IS NULL OR last_used_day < ?)",
        (day, known.subject.customer, known.key_id, day),
    )


async def find(tx: Transaction, digest: bytes, now_ms: int) -> KnownKey | None:
    """The good key with this digest; None: there is none, it was revoked, or it has expired.

    A key says who, not where: a node that it names is found where it stands now.
    """
    rows = await tx.fetch(
        "SELECT k.key_id, k.sha256, k.subject, k.expires_at_ms, k.last_used_day, c.revision FROM virtual_keys AS k"
        " JOIN customers AS c ON c.customer = k.customer WHERE k.sha256 = ? AND k.revoked_at_ms IS NULL",
        (digest.hex(),),
    )
    if len(rows) != 1 or not hmac.compare_digest(digest, bytes.fromhex(rows[0]["sha256"])):
        return None  # and one that two customers have would name neither
    row = rows[0]
    if row["expires_at_ms"] is not None and row["expires_at_ms"] <= now_ms:
        return None
    subject = msgspec.json.decode(row["subject"], type=Subject)
    paths = await load_paths(tx, subject.customer, subject.path)
    if isinstance(locate(subject, paths), Refusal):  # it was named by where it stood then
        subject = msgspec.structs.replace(subject, path=paths.get(subject.path[-1], subject.path))
    return KnownKey(row["key_id"], subject, row["revision"], row["expires_at_ms"], row["last_used_day"])


async def keys(tx: Transaction, customer: str, after: int, limit: int) -> tuple[list[KeyView], int]:
    """A customer's keys in the order in which they were made, revoked ones too, and the number to go on with.

    Raises:
        NotFound: the customer.
    """
    await customer_row(tx, customer)
    size = page_size(limit)
    rows = await tx.fetch(
        "SELECT * FROM virtual_keys WHERE customer = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        (customer, after, size + 1),
    )
    return await _views(tx, customer, rows[:size]), rows[size - 1]["sequence"] if len(rows) > size else 0


async def _one(tx: Transaction, customer: str, key_id: str) -> KeyView:
    rows = await tx.fetch("SELECT * FROM virtual_keys WHERE customer = ? AND key_id = ?", (customer, key_id))
    if not rows:
        raise NotFound("key", key_id)
    return (await _views(tx, customer, rows))[0]


async def _views(tx: Transaction, customer: str, rows: Sequence[Row]) -> list[KeyView]:
    """Keys as they are shown: at the place where their node stands now, which says who may see them."""
    subjects = [msgspec.json.decode(row["subject"], type=Subject) for row in rows]
    paths = await load_paths(tx, customer, sorted({subject.path[-1] for subject in subjects if subject.path}))
    return [
        _view(row, subject, paths.get(subject.path[-1], subject.path) if subject.path else ())
        for row, subject in zip(rows, subjects, strict=True)
    ]


def _view(row: Row, subject: Subject, path: Path) -> KeyView:
    nodes = (*path, *((Node("user", subject.user),) if subject.user else ()))
    return KeyView(
        customer=row["customer"],
        key_id=row["key_id"],
        name=row["name"],
        fingerprint=fingerprint(row["sha256"]),
        path=whole_path(row["customer"], format_path(nodes)),
        agent=subject.agent,
        session=subject.session,
        feature=subject.feature,
        product=subject.product,
        created_at_ms=row["created_at_ms"],
        created_by=row["created_by"],
        revoked_at_ms=row["revoked_at_ms"],
        revoked_by=row["revoked_by"],
        expires_at_ms=row["expires_at_ms"],
        last_used_on="" if row["last_used_day"] is None else str(EPOCH.date() + timedelta(days=row["last_used_day"])),
    )
