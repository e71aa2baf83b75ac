"""What is remembered of a call, as the ledger's API shows it."""

from __future__ import annotations

from sidecar.app.explaining import explain_recent
from sidecar.core.governance.decisions import Denied, Reason
from sidecar.core.governance.rights import Role, read_scope
from sidecar.core.governance.tenancy import Subject, parse_path
from sidecar.ledger.http_scopes import within
from sidecar.proxy.recent import Denial, RecentDecisions


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
