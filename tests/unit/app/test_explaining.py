"""What is remembered of a call, as the ledger's API shows it."""

from __future__ import annotations

from sidecar.app.explaining import explain_recent, with_expected
from sidecar.core.governance.decisions import Denied, Reason
from sidecar.core.governance.rights import Role, read_scope
from sidecar.core.governance.tenancy import Subject, parse_path
from sidecar.ledger.http_scopes import within
from sidecar.proxy.expectations import LEARNED_FROM, Expectations
from sidecar.proxy.recent import Denial, RecentDecisions
from tests.support.authority import USD


def test_a_denial_stands_where_the_books_calls_do() -> None:
    """S-34: its path begins with its customer, so that a token of any node on it finds it, of the outermost too."""
    recent = RecentDecisions()
    subject = Subject("acme", parse_path("department:a/team:data"), user="ada")
    recent.remember("req_1", Denial(Denied(Reason.BUDGET_EXCEEDED, "no"), subject, "openai", "gpt", 1))
    view = explain_recent("req_1", recent, {})
    assert view is not None
    assert view.subject == {"customer": "acme", "path": "acme/department:a/team:data", "user": "ada"}
    for node in ("department:a", "team:data", "user:ada"):
        assert within(view, read_scope(f"acme/{node}"), Role.APP) == view


def test_what_is_expected_is_the_own_protocols() -> None:
    """A model is asked by several, and a dearer one's calls say nothing of this one."""
    expected = Expectations()
    for protocol, atoms in (("openai.chat", 5), ("openai.responses", 900)):
        for _ in range(LEARNED_FROM):
            expected.learn(("openai", protocol, "gpt", "usd"), atoms)
    recent = RecentDecisions()
    denied = Denied(Reason.BUDGET_EXCEEDED, "no", ceiling_atoms=1000, currency="usd")
    for protocol, atoms in (("openai.chat", 5), ("openai.responses", 900), ("", 900)):
        recent.remember("r", Denial(denied, None, "openai", "gpt", 1, protocol))
        view = explain_recent("r", recent, {"usd": USD})
        assert view is not None
        told = with_expected(view, expected, {"usd": USD}).expected
        assert told is not None
        assert told.atoms == atoms
    recent.remember("r", Denial(denied, None, "openai", "gpt", 1, "openai.embeddings"))
    view = explain_recent("r", recent, {"usd": USD})
    assert view is not None
    assert with_expected(view, expected, {"usd": USD}).expected is None
