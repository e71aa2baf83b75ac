"""On every engine alike: who did what is listed, and the heads that are signed are those of the entries (L7, L8)."""

from __future__ import annotations

from pathlib import Path

from sidecar.app.checkpoint_files import CheckpointOptions, read_lines
from sidecar.app.checkpointing import Checkpointer
from sidecar.core.credits.checkpoints import read_line
from sidecar.ledger.administration import Act, NewToken
from sidecar.ledger.verifying import verify
from sidecar.ledger.witnessing import SignedHead
from tests.support.ledger import Desk


async def test_acts_are_listed_and_their_heads_signed(desk: Desk, tmp_path: Path) -> None:
    """Of customers and of the ledger itself, by actor and in pages; a signed head that is not the book's is told."""
    service = desk.service
    await service.add_customer("acme", "none", Act("ada", "1", "a new contract ✓"))
    await service.make_token(
        NewToken(name="ci", role="auditor", path="", token_sha256="ab" * 32), Act("bob", "2", "a visit")
    )
    await service.add_nodes("acme/team:data", Act("ada", "3"))
    first, cursor = await service.audit(customer="", actor="", since_ms=0, until_ms=2**62, after="", limit=2)
    rest, end = await service.audit(customer="", actor="", since_ms=0, until_ms=2**62, after=cursor, limit=2)
    found = {(act.actor, act.kind, act.customer, act.reason) for act in [*first, *rest]}
    assert (len(first), end) == (2, "")
    assert {
        ("ada", "customer_added", "acme", "a new contract ✓"),
        ("ada", "nodes_added", "acme", ""),
        ("bob", "token_made", "_system", "a visit"),
    } <= found
    mine, _ = await service.audit(customer="acme", actor="ada", since_ms=0, until_ms=2**62, after="", limit=9)
    assert [act.kind for act in mine] == ["customer_added", "nodes_added"]

    maker = Checkpointer(desk.book, desk.clock, desk.ids, CheckpointOptions(), data=tmp_path / "checkpoints")
    assert await maker.make() == 1
    ((_, line),) = list(read_lines(tmp_path / "checkpoints" / "checkpoints.jsonl"))
    heads = {head.customer: head for head in read_line(line).heads}
    assert {"_system", "acme"} <= heads.keys()
    for customer in ("_system", "acme"):
        head = heads[customer]
        good = SignedHead(customer, head.sequence, head.hash, "checkpoint 1")
        view = await desk.book.read(customer, lambda tx, customer=customer, good=good: verify(tx, customer, [good]))  # type: ignore[misc]
        assert (view.signed, view.problems) == (1, ())
        bad = SignedHead(customer, head.sequence, "0" * 64, "checkpoint 1")
        view = await desk.book.read(customer, lambda tx, customer=customer, bad=bad: verify(tx, customer, [bad]))  # type: ignore[misc]
        assert "checkpoint 1 signed another hash" in view.problems[0]
