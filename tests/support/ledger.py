"""A ledger on a book of its own, and the messages that sidecars send it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from sidecar.contract import codec
from sidecar.contract.messages import (
    Admission,
    AnySync,
    Change,
    CustomerPart,
    LeaseReport,
    RegisterReply,
    RegisterRequest,
    ResolveKeyReply,
    ResolveKeyRequest,
    ResolveReply,
    ResolveRequest,
    SyncReply,
    SyncRequest,
    UsageEvent,
)
from sidecar.core.credits.amounts import Currency, format_amount
from sidecar.core.governance.decisions import Decision, Source
from sidecar.core.governance.tenancy import Subject
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState
from sidecar.ledger.administration import Act
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.service import LedgerService
from sidecar.ports import Book, Ledger
from sidecar.storage.sqlite import SQLiteBook, open_book
from tests.support.clock import FakeClock, SequentialIds

USD = Currency("usd", 9)
RATES = RateBook((), (USD, Currency("points", 0)), sha256="ab" * 32)
DECISION = Decision(
    source=Source.LEASE,
    ceiling_atoms=9,
    standing_age_ms=3,
    lease_age_ms=4,
    plan="default@1",
    rate_card="openai/gpt-4o",
    catalog_sha256=RATES.sha256,
)
MODEL, PROVIDER = "gpt-4o", "openai"

S = TypeVar("S", bound=msgspec.Struct)


def usd(atoms: int) -> str:
    """Atoms as the decimal that a person would type."""
    return format_amount(atoms, USD)


class Desk:
    """A service with everything it stands on, and short words for what tests say often."""

    def __init__(self, on: Path | Book, options: LedgerOptions | None = None) -> None:
        """On a book, or on an embedded one that is made in a folder."""
        self.clock = FakeClock()
        self.ids = SequentialIds()
        self.book: Book = open_book(on / "book.db") if isinstance(on, Path) else on
        self.service = LedgerService(self.book, self.clock, self.ids, RATES, options or LedgerOptions())
        self.ledger: Ledger = self.service
        self._acts = 0

    def act(self) -> Act:
        """Somebody, with a key never used before."""
        self._acts += 1
        return Act("ada@example.com", f"key-{self._acts}")

    def close(self) -> None:
        """Close the book, if it is an embedded one."""
        if isinstance(self.book, SQLiteBook):
            self.book.close()

    async def problems(self, customer: str = "acme") -> tuple[str, ...]:
        """What `verify` finds wrong with a customer's book."""
        return (await self.service.verify(customer)).problems

    def request(
        self, subject: Subject, need: int, *, sidecar: str = "s1", demand: int = 0, model: str = MODEL
    ) -> ResolveRequest:
        """A resolve from a sidecar whose incarnation is `SIDECAR-inc`."""
        return ResolveRequest(sidecar, f"{sidecar}-inc", subject, model, PROVIDER, need, "usd", demand)

    async def borrow(
        self, subject: Subject, need: int, *, sidecar: str = "s1", demand: int = 0, model: str = MODEL
    ) -> ResolveReply:
        """Register (twice is once) and resolve."""
        await self.ledger.register(RegisterRequest(sidecar, f"{sidecar}-inc"))
        return await self.ledger.resolve(self.request(subject, need, sidecar=sidecar, demand=demand, model=model))

    def event(
        self,
        request_id: str,
        subject: Subject,
        charge: int | None,
        *,
        leases: tuple[str, ...] = (),
        paid: tuple[tuple[str, int], ...] = (),
        admitted_at_ms: int | None = None,
        model: str = MODEL,
    ) -> UsageEvent:
        """A settled call."""
        admission = Admission(
            request_id,
            subject,
            PROVIDER,
            "openai_chat",
            model,
            self.clock.wall_ms() if admitted_at_ms is None else admitted_at_ms,
            "usd",
            charge or 0,
            DECISION,
            budget_leases=leases,
            slices=paid,
        )
        tokens = Tokens(input_tokens=100, cache_read_tokens=60, output_tokens=20)
        usage = Usage(UsageState.FINAL, (Line(tokens),), raw=b'{"prompt_tokens":100}')
        excess = (charge or 0) - sum(atoms for _, atoms in paid) if paid else 0
        return UsageEvent(admission, 12, 200, "complete", usage, charge, paid=paid, excess_atoms=excess)

    async def sync(
        self,
        *events: UsageEvent,
        reports: tuple[LeaseReport, ...] = (),
        sidecar: str = "s1",
        ended: bool = False,
        all_booked: bool = False,
        heard: int = 0,
    ) -> SyncReply:
        """One sync of one customer's part."""
        customer = events[0].admission.subject.customer if events else "acme"
        part = CustomerPart(customer, events, reports, heard)
        return await self.ledger.sync(
            SyncRequest(sidecar, f"{sidecar}-inc", self.clock.wall_ms(), (part,), ended, all_booked)
        )


class OverTheWire:
    """A ledger whose every message goes through bytes, as it would over a network."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def register(self, request: RegisterRequest) -> RegisterReply:
        """There and back."""
        return again(await self._ledger.register(again(request)))

    async def resolve(self, request: ResolveRequest) -> ResolveReply:
        """There and back."""
        return again(await self._ledger.resolve(again(request)))

    async def resolve_key(self, request: ResolveKeyRequest) -> ResolveKeyReply:
        """There and back."""
        return again(await self._ledger.resolve_key(again(request)))

    async def sync(self, request: AnySync) -> SyncReply:
        """There and back."""
        return again(await self._ledger.sync(again(request)))

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Each change there."""
        return self._ledger.subscribe(lambda change: listener(again(change)))


def again(message: S) -> S:
    """A message after a journey."""
    return codec.decode(codec.encode(message), type(message))
