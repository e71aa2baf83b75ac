"""Puts the proxy together from settings: providers, routes, desk, gauges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from sidecar.app.settings import OFFICIAL, SidecarSettings, UpstreamSettings
from sidecar.app.tokenizing import exact_counts
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.errors import ConfigurationError
from sidecar.leases.table import Keeper, LeaseTable
from sidecar.outbox.shipper import Shipper
from sidecar.outbox.spool import Spool
from sidecar.ports import Clock, Ids
from sidecar.providers.registry import DIALECTS
from sidecar.proxy.authorize import Authority
from sidecar.proxy.background import Background
from sidecar.proxy.corridor import Desk, Provider
from sidecar.proxy.deny import DenyOptions
from sidecar.proxy.expectations import LABELS as EXPECTED_LABELS
from sidecar.proxy.expectations import Expectations
from sidecar.proxy.forward_options import ForwardOptions
from sidecar.proxy.identify import Identifier
from sidecar.proxy.key_ring import KeyRing
from sidecar.proxy.makers import Makers
from sidecar.proxy.open_ended import LABELS as OPEN_LABELS
from sidecar.proxy.open_ended import OpenEnded, UnboundedCalls
from sidecar.proxy.pressure import Pressure
from sidecar.proxy.price import UnknownModel
from sidecar.proxy.provider_keys import ProviderKey
from sidecar.proxy.rates import RateDesk
from sidecar.proxy.route import Routes
from sidecar.proxy.sweep import Sweep
from sidecar.proxy.upstream_pool import Upstream, read_origin, tls_context
from sidecar.telemetry.metrics import Metrics

KEY_HEADERS: Final = {"anthropic": ("x-api-key", ""), "gemini": ("x-goog-api-key", "")}
"""In which header, and behind which word, a provider wants its key; all others: Authorization, Bearer."""


_OWN_FIELD_HOSTS: Final = (".api.openai.com", ".openai.azure.com")
"""OpenAI itself, its regions (`eu.api.openai.com`) and Azure.

Source: developers.openai.com/api/docs/guides/your-data, learn.microsoft.com Azure OpenAI reference, checked 2026-11.
"""


_OLD_FIELD_HOSTS: Final = (
    ".api.deepseek.com",
    ".api.mistral.ai",
    ".api.perplexity.ai",
    ".api.together.xyz",
    ".api.cohere.com",
)
"""Providers whose references of chat completions name `max_tokens` alone.

Source: of Mistral, which answers 422 to the other, BerriAI/litellm issues 9583 and 10910; of DeepSeek, its reference
as its clients repeat it; read 2026-11-27. The others were not looked up: a wrong entry makes bounds larger, no more.
"""


@dataclass(frozen=True, slots=True)
class Proxying:
    """The parts that the proxy is made over."""

    table: LeaseTable
    keeper: Keeper
    spool: Spool
    clock: Clock
    ids: Ids
    rates: RateBook
    metrics: Metrics
    sweep: Sweep
    ring: KeyRing
    rate_desk: RateDesk
    makers: Makers
    pressure: Pressure


def make_desk(ours: SidecarSettings, upstreams: Mapping[str, UpstreamSettings], parts: Proxying) -> Desk:
    """Everything that a request needs on its way.

    Raises:
        ConfigurationError: an upstream's name, address or key file, or a path to pass on, is wrong.
    """
    subject = {name: value for name, value in asdict(ours.subject).items() if value}
    authority = Authority(
        parts.table,
        parts.keeper,
        parts.spool,
        parts.clock,
        lambda: parts.rates,
        UnknownModel(ours.unknown_model),
        ours.clamp_floor_tokens,
        exact_counts(),
        parts.rate_desk,
        open_ended=OpenEnded(UnboundedCalls(ours.unbounded)),
        pressure=parts.pressure,
    )
    background = Background(parts.clock.monotonic, keep_s=ours.background_s)
    parts.sweep.watch(background)
    return Desk(
        routes=Routes(
            further=[name for name in upstreams if name not in OFFICIAL],
            pass_through=ours.pass_through,
            doors={name: entry.doors for name, entry in upstreams.items()},
        ),
        identifier=Identifier(subject),
        authority=authority,
        providers={name: _provider(name, entry, ours, parts.sweep) for name, entry in upstreams.items()},
        ids=parts.ids,
        sweep=parts.sweep,
        metrics=parts.metrics,
        denying=DenyOptions(ours.compat_status),
        makers=parts.makers,
        background=background,
        ring=parts.ring,
        requires_key=ours.require_key,
        on_cap=ours.on_cap,
    )


def knows_own_field(host: str) -> bool:
    """Whether an output limit may be written there as `max_completion_tokens`.

    The address tells, not the name that the settings give it: a compatible server that passes the field over would
    answer at full length. Ollama and Mistral know `max_tokens` alone.
    """
    return f".{host}".endswith(_OWN_FIELD_HOSTS)


def passes_own_field_over(host: str) -> bool:
    """Whether a provider's reference names `max_tokens` alone: a request that names the other has no limit there."""
    return f".{host}".endswith(_OLD_FIELD_HOSTS)


def provider_secrets(providers: Iterable[Provider]) -> list[str]:
    """The keys that were read from files, and those that they took the place of: for the log to know them by."""
    keys = [provider.upstream.key for provider in providers if provider.upstream.key is not None]
    return [secret.decode("ascii") for key in keys for secret in (key.secret, key.former) if secret]


def forwarding_of(name: str, entry: UpstreamSettings, provider: ForwardOptions) -> ForwardOptions:
    """How calls are passed on there: as to any provider, but for what the upstream says of callers who have gone.

    Raises:
        ConfigurationError: `abort`, of a provider that is not known to stop billing then.
    """
    mine = replace(provider, on_caller_gone=entry.on_caller_gone or provider.on_caller_gone)
    if mine.on_caller_gone == "abort" and not entry.stops_billing_on_disconnect:
        raise ConfigurationError(
            [
                f"upstreams.{name}: on_caller_gone: abort leaves uncounted what is generated after we hang up; say in"
                " stops_billing_on_disconnect by which source and date that is not billed, or choose estimate"
            ]
        )
    return mine


def _provider(name: str, entry: UpstreamSettings, ours: SidecarSettings, sweep: Sweep) -> Provider:
    origin = read_origin(entry.base_url)
    upstream = Upstream(
        name,
        origin,
        sweep=sweep,
        tls=tls_context() if origin.scheme == "https" else None,
        options=ours.pool,
        key=None if entry.key_file is None else _key(name, entry, entry.key_file, sweep),
    )
    own_field = knows_own_field(origin.host)
    shorten = {dialect.name: partial(dialect.limit_output, own_field=own_field) for dialect in DIALECTS}
    return Provider(
        upstream,
        entry.prices_of or name,
        bool(entry.stops_billing_on_disconnect),
        entry.needs_key,
        entry.models or None,
        forwarding_of(name, entry, ours.provider),
        keeps_apart=entry.key_file is not None and entry.stored_for == "maker",
        shared=frozenset(entry.shared),
        heeds_own_limit=entry.heeds_max_completion_tokens and not passes_own_field_over(origin.host),
        shorten=shorten,
    )


def _key(name: str, entry: UpstreamSettings, path: Path, sweep: Sweep) -> ProviderKey:
    header, prefix = KEY_HEADERS.get(name, ("authorization", "Bearer "))
    return ProviderKey(path, header=entry.key_header or header, prefix="" if entry.key_header else prefix, sweep=sweep)


def expected_gauge(metrics: Metrics, expected: Expectations) -> None:
    """Show what calls are expected to cost, at each scrape."""
    help_text = "What 95 of 100 of the latest calls of a kind cost at most."
    metrics.family("spend_expected_cost_atoms", help_text, EXPECTED_LABELS, expected.all)


def open_gauges(metrics: Metrics, open_ended: OpenEnded) -> None:
    """Show Ω at each scrape: what calls that are under way may cost beyond their holds (L0)."""
    metrics.gauge("spend_unbounded_calls", "Calls without a bound that are under way.", lambda: len(open_ended))
    help_text = "Atoms of tokens that calls without a bound under way may cost beyond what is held for them."
    metrics.family("spend_unbounded_excess_atoms", help_text, OPEN_LABELS, open_ended.excess_by_currency)
    metrics.gauge("spend_growing_calls", "Calls under way whose hold grows.", lambda: open_ended.growing)
    help_text = "Atoms that calls under way whose hold grows lack of their bounds."
    metrics.family("spend_growing_excess_atoms", help_text, OPEN_LABELS, open_ended.growing_excess_by_currency)


def memory_gauges(metrics: Metrics, pressure: Pressure) -> None:
    """Show how far memory is used up, at each scrape."""
    help_text = "0: at ease; 1: what has to ask the ledger is refused; 2: whatever is new; 3: idle streams are ended."
    metrics.gauge("spend_memory_step", help_text, lambda: int(pressure.step))
    metrics.gauge("spend_streams_shed", "Streams ended for want of memory since the start.", lambda: pressure.shed)


def own_gauges(metrics: Metrics, table: LeaseTable, shipper: Shipper, clock: Clock) -> None:
    """Show what the leases and the outbox are like, at each scrape."""

    def oldest_s() -> float:
        now = clock.monotonic()
        return max((now - lease.heard_at for lease in table.leases() if lease.is_live(now)), default=0.0)

    def grace_atoms() -> int:
        now = clock.monotonic()
        return sum(lease.free for lease in table.leases() if lease.account.is_overdraft and lease.is_live(now))

    metrics.gauge(
        "spend_ledger_away",
        "1 while the ledger does not answer: calls are decided by leases, and by each budget's on_outage.",
        lambda: bool(table.degraded),
    )
    metrics.gauge("spend_grace_atoms", "Atoms of budgets' overdrafts that are here for an outage.", grace_atoms)
    metrics.gauge("spend_holds_open", "Calls admitted and not yet settled.", lambda: table.open_holds)
    metrics.gauge("spend_lease_age_seconds", "Age of the oldest lease that may still be spent from.", oldest_s)
    metrics.gauge(
        "spend_outbox_depth", "Records written and not yet acknowledged by the ledger.", lambda: shipper.depth
    )
    metrics.gauge("spend_outbox_age_seconds", "Age of the oldest record not yet acknowledged.", lambda: shipper.age_s)
    metrics.gauge("spend_outbox_refused", "Events that the ledger would not book, put aside.", lambda: shipper.refused)
