"""`spend explain`: why a call was admitted or denied, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence

import click

from sidecar.cli.answers import decoded, json_option, show_json
from sidecar.cli.connection import with_ledger
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.tables import show_age, show_facts, show_money, show_table
from sidecar.core.credits.amounts import Currency, format_amount
from sidecar.core.governance.decisions import Consulted, Decision
from sidecar.ledger.views import ExplainView


@click.command("explain")
@click.argument("request_id")
@json_option
@with_ledger
def command(client: LedgerClient, request_id: str, as_json: bool) -> None:
    """Explain one call: every budget and grant consulted, its ceiling, hold and charge.

    REQUEST_ID is the Spend-Request-Id of the answer, admitted or denied.
    """
    raw = client.get(f"/v1/requests/{segment(request_id)}")
    if as_json:
        return show_json(raw)
    call = decoded(raw, ExplainView)
    click.echo(f"{call.request_id}: {call.outcome}{f', {call.reason}' if call.reason else ''}")
    show_facts(_facts(call))
    consulted = call.consulted if call.decision is None else call.decision.consulted
    if consulted or call.decision is not None:
        click.echo()
        _show_consulted(consulted, call)
    return None


def _facts(call: ExplainView) -> list[tuple[str, str]]:
    """What there is to say beside the accounts."""
    facts = [
        ("detail", call.detail),
        ("customer", call.customer),
        *((name, value) for name, value in call.subject.items() if name != "customer"),
        ("model", " / ".join(filter(None, (call.provider, call.model)))),
        ("ceiling", show_money(call.ceiling)),
        ("hold", show_money(call.held)),
        ("charge", show_money(call.charge)),
        ("expected", "" if call.expected is None else f"95 of 100 such calls: {show_money(call.expected)} at most"),
        ("flags", " ".join(call.flags)),
    ]
    if call.usage is not None:
        total = call.usage.total()
        counts = [(name, getattr(total, name)) for name in total.__struct_fields__]
        words = [f"{name.removesuffix('_tokens')} {count}" for name, count in counts if count is not None]
        facts.append(("tokens", f"{', '.join(words) or 'not said'} ({call.usage.state.value})"))
    if call.decision is not None:
        decision = call.decision
        facts += [
            ("decided by", f"{decision.source.value}, its oldest lease {show_age(decision.lease_age_ms)} old"),
            ("standing", f"{show_age(decision.standing_age_ms)} old, plan {decision.plan}"),
            ("shortened", _shortened(decision)),
            ("its hold", "grows: it began with less than the ceiling" if decision.grows else ""),
            ("virtual key", decision.key_id),
            ("without a bound", "; ".join(decision.unbounded)),
            ("rate card", decision.rate_card),
            ("catalog", decision.catalog_sha256),
        ]
    return facts


def _shortened(decision: Decision) -> str:
    """How the output limit was lowered so that the call fits; `` where it was not."""
    if decision.clamped_to is None:
        return ""
    asked = "none" if decision.asked_output is None else f"{decision.asked_output}"
    return f"output limit {decision.clamped_to} tokens, asked for: {asked}"


def _show_consulted(consulted: Sequence[Consulted], call: ExplainView) -> None:
    """Every account that was asked, as it stood then."""
    scales = {money.currency: money.scale for money in (call.ceiling, call.held, call.charge) if money is not None}

    def amount(atoms: int | None, currency: str) -> str:
        if atoms is None:
            return "?"
        scale = scales.get(currency)
        return f"{atoms} atoms" if scale is None else format_amount(atoms, Currency(currency, scale))

    rows = [
        (
            account.kind,
            account.owner + (f" [{account.child}]" if account.child else ""),
            account.id,
            f"{amount(account.limit, account.currency)} {account.currency}",
            account.cadence.value if account.kind == "budget" else "",
            "hard" if account.hard else "soft",
            amount(account.used, account.currency),
            amount(account.held, account.currency),
            amount(account.elsewhere, account.currency),
            amount(account.remaining, account.currency),
            "never" if account.resets_in_ms is None else f"in {show_age(account.resets_in_ms)}",
            show_age(account.lease_age_ms),
        )
        for account in consulted
    ]
    titles = (
        "kind",
        "owner",
        "id",
        ">limit",
        "per",
        "",
        ">used",
        ">held",
        ">elsewhere",
        ">remaining",
        "resets",
        "lease",
    )
    show_table(titles, rows, nothing="No budget and no grant was consulted.")
