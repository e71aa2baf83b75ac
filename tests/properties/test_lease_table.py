"""The lease table against a plain model of it, under any sequence of messages, calls and returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.contract.messages import AccountReading, LeaseGrant
from sidecar.core.credits.grants import Grant
from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Subject
from sidecar.leases.table import Held, LeaseTable

BUDGETS = ("budget:a:lifetime:", "budget:b:lifetime:")
GRANTS = ("grant:g1", "grant:g2", "grant:g3")
SUBJECT = Subject("acme")
STANDING = Standing(
    "acme",
    (),
    "",
    Wallet.REQUIRED,
    "usd",
    tuple(Budget(name, "usd", 10**6, Cadence.LIFETIME) for name in ("a", "b")),
    tuple(Grant(name, "usd", 10**6, 0, number) for number, name in enumerate(("g1", "g2", "g3"))),
    "p@1",
    1,
    60_000,
)


@dataclass
class Model:
    """One account in the plainest form: what was granted, returned, spent, and each open hold's part."""

    granted: int = 0
    returned: int = 0
    spent: int = 0
    overrun: int = 0
    held: dict[int, int] = field(default_factory=dict)
    more: bool = True

    @property
    def left(self) -> int:
        """Below zero after an overrun."""
        return self.granted - self.returned - self.spent - sum(self.held.values())

    @property
    def free(self) -> int:
        return max(0, self.left)


class TableMachine(RuleBasedStateMachine):
    """L12, L16, L20, L21, L39, L42: the table does what the model does, whatever order messages come in."""

    @initialize()
    def start(self) -> None:
        self.table = LeaseTable()
        self.model = {name: Model() for name in (*BUDGETS, *GRANTS)}
        self.holds: dict[int, tuple[Held, int]] = {}
        self.sent: list[tuple[str, int, int, bool]] = []
        self.clock = 0
        self.number = 0

    def deliver(self, message: tuple[str, int, int, bool]) -> None:
        name, granted, sent_at, more = message
        kind, an_id, *_ = name.split(":")
        model = self.model[name]
        escrow = granted - model.returned - model.spent
        reading = AccountReading(name, kind, an_id, "", 10**6, 0, max(0, escrow), 0, 1 if more else 0)
        grant = LeaseGrant(f"i/{name}", granted, 10**9, has_more=more)
        self.table.merge("acme", [grant], [reading], sent_at=float(sent_at), now=float(self.clock))

    @rule(name=st.sampled_from((*BUDGETS, *GRANTS)), atoms=st.integers(1, 200), more=st.booleans(), lost=st.booleans())
    def lend(self, name: str, atoms: int, more: bool, lost: bool) -> None:
        """The ledger lends; its answer may be lost, and then comes late or never."""
        self.clock += 1
        granted = max([g for n, g, _, _ in self.sent if n == name], default=0) + atoms
        self.sent.append((name, granted, self.clock, more))
        if not lost:
            self.deliver(self.sent[-1])
            self.model[name].granted = granted
            self.model[name].more = more

    @precondition(lambda self: bool(self.sent))
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        """Any message so far, once more or for the first time."""
        message = data.draw(st.sampled_from(self.sent))
        name, granted, sent_at, more = message
        known = self.table.lease(f"i/{name}")
        newer = known is None or sent_at >= known.heard_at
        self.deliver(message)
        self.model[name].granted = max(self.model[name].granted, granted)
        if newer:
            self.model[name].more = more

    @rule(atoms=st.integers(0, 250), ask_first=st.booleans())
    def take(self, atoms: int, ask_first: bool) -> None:
        """All or none: every budget whole, the grants in order, none passed over that may have more."""
        wanted = self.expected(atoms, ask_first)
        found = self.table.take(
            STANDING, SUBJECT, model="m", provider="p", atoms=atoms, now=float(self.clock), ask_first=ask_first
        )
        if wanted is None:
            assert not isinstance(found, Held)
            return
        assert isinstance(found, Held)
        assert found.slices == tuple((f"i/{name}", part) for name, part in wanted)
        self.number += 1
        self.holds[self.number] = found, atoms
        for name in BUDGETS:
            self.model[name].held[self.number] = atoms
        for name, part in wanted:
            self.model[name].held[self.number] = part

    def expected(self, atoms: int, ask_first: bool) -> list[tuple[str, int]] | None:
        for name in BUDGETS:
            if self.table.lease(f"i/{name}") is None or self.model[name].left < atoms:
                return None
        parts, owed = [], atoms
        for name in GRANTS:
            model = self.model[name]
            if not owed:
                break
            if model.free < owed and ask_first and model.more:
                return None
            if model.free:
                parts.append((name, min(owed, model.free)))
                owed -= parts[-1][1]
        return None if owed else parts

    @precondition(lambda self: bool(self.holds))
    @rule(data=st.data(), charge=st.integers(0, 400))
    def settle(self, data: st.DataObject, charge: int) -> None:
        """Below the hold, at it, or above it."""
        number = data.draw(st.sampled_from(sorted(self.holds)))
        held, atoms = self.holds.pop(number)
        parts = [(name, self.model[name].held.pop(number)) for name in GRANTS if number in self.model[name].held]
        for name in BUDGETS:
            self.model[name].held.pop(number)
            self.model[name].spent += charge
            self.model[name].overrun += max(0, charge - atoms)
        split = self.table.settle(held, charge)
        paid: dict[str, int] = {}
        owed = charge
        for name, part in parts:
            paid[name] = min(owed, part)
            owed -= paid[name]
        for name, part in parts:
            extra = min(owed, max(0, self.model[name].free - part))
            paid[name] += extra
            owed -= extra
        for name, atoms_paid in paid.items():
            self.model[name].spent += atoms_paid
        assert dict(split.legs) == {f"i/{name}": atoms_paid for name, atoms_paid in paid.items() if atoms_paid}
        assert split.excess == (owed if parts else 0)

    @rule(name=st.sampled_from((*BUDGETS, *GRANTS)), share=st.integers(0, 4))
    def give_back(self, name: str, share: int) -> None:
        """Some of what is free goes back; it is then not free any more."""
        lease = self.table.lease(f"i/{name}")
        if lease is not None:
            atoms = lease.free * share // 4
            self.table.give_back(lease, atoms)
            self.model[name].returned += atoms
            if atoms:
                self.model[name].more = True

    @invariant()
    def totals_agree(self) -> None:
        """L42: spent + held + returned ≤ granted, but for overruns; and all four are the model's."""
        for name, model in self.model.items():
            lease = self.table.lease(f"i/{name}")
            if lease is None:
                continue
            assert (lease.granted, lease.returned, lease.spent) == (model.granted, model.returned, model.spent)
            assert lease.held == sum(model.held.values())
            assert lease.spent + lease.held + lease.returned <= lease.granted + model.overrun
            lent = max(granted for sent_name, granted, _, _ in self.sent if sent_name == name)
            assert lease.granted <= lent
        assert self.table.open_holds == len(self.holds)


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=150, stateful_step_count=40)
