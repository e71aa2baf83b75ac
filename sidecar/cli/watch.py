"""`spend watch`: spend, holds and denials as they happen.

On a terminal one table is drawn over and over in its own place: each line is written over the one
that stood there, so nothing flickers, and what scrolled by before is left alone. Where the output
is no terminal, each tick adds lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from sidecar.cli.answers import decoded, page_rows
from sidecar.cli.connection import connection_options, find_place, said_here
from sidecar.cli.failures import NotReachable
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.matching import scope_words
from sidecar.cli.tables import beside, printable, show_instant, table_lines
from sidecar.ledger.views import BalanceView, CustomerView, Money

if TYPE_CHECKING:
    from sidecar.cli.scrape import Counts

MAX_CUSTOMERS: Final = 50
"""Watched at once: each is a question to the ledger at every tick."""

MIN_INTERVAL_S: Final = 0.2
MAX_INTERVAL_S: Final = 3600.0

_TITLES: Final = ("path", "counts", "per", "child", ">limit", ">spent", ">+", ">held", ">left", ">full")
_UP: Final = "\x1b[{}A"
_LINE_END: Final = "\x1b[K\n"
_BELOW: Final = "\x1b[J"


class _Interval(click.ParamType[float]):
    """Seconds within bounds."""

    name = "seconds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; what is no number fails every comparison, and so is refused too."""
        with contextlib.suppress(ValueError):
            seconds = float(str(value))
            if MIN_INTERVAL_S <= seconds <= MAX_INTERVAL_S:
                return seconds
        expected = f"expected seconds from {MIN_INTERVAL_S:g} to {MAX_INTERVAL_S:g}, such as 2."
        raise click.BadParameter(f"{str(value)[:32]!r}: {expected}", ctx=ctx, param=param)


class Tick:
    """What was read at one instant."""

    def __init__(self, at_ms: int, balances: list[BalanceView], counts: Counts | None, *, more: bool) -> None:
        self.at_ms = at_ms
        self.balances = balances
        self.counts = counts
        self.more = more


@click.command("watch")
@click.option("--customer", default="", metavar="C", help="This customer only.")
@click.option(
    "--interval",
    type=_Interval(),
    default=2.0,
    show_default=True,
    metavar="S",
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="One look, then end.")
@click.option("--health", metavar="URL", help="The sidecar's health address.  [of --data]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object at every look.")
@connection_options
def command(
    *,
    customer: str,
    interval: float,
    once: bool,
    health: str | None,
    as_json: bool,
    data: str | None,
    ledger: str | None,
    token: str | None,
) -> None:
    """Watch what customers spend, what is held for open calls, and what is denied; Ctrl-C ends it.

    Spent, held and left are of the current period, a line for each budget's account, and for each
    wallet. Denials are counted by the sidecar, over all customers, since it was started.
    """
    place = find_place(said_here(data, ledger, token), os.environ)
    client = LedgerClient(place.address, place.token)
    screen = _screen(as_json=as_json, once=once)
    try:
        _watch(client, screen, customer, health or place.health, 0.0 if once else interval)
    except KeyboardInterrupt:
        return
    finally:
        client.close()


def _watch(client: LedgerClient, screen: Screen, customer: str, health: str, interval_s: float) -> None:
    """Look, show, wait; a ledger that stops answering is waited for, one that never did is an error."""
    shown = False
    while True:
        try:
            screen.show(_look(client, customer, health))
            shown = True
        except NotReachable as problem:
            if not shown or not interval_s:
                raise
            screen.say(f"{problem.what} Looking again every {interval_s:g} s.")
        if not interval_s:
            return
        time.sleep(interval_s)


def _look(client: LedgerClient, customer: str, health: str) -> Tick:
    from sidecar.cli.scrape import scrape  # noqa: PLC0415 (not for --help)

    names, more = [customer], False
    if not customer:
        page = client.get("/v1/customers", limit=MAX_CUSTOMERS + 1)
        names = [row.customer for row in page_rows(page, CustomerView)]
        names, more = names[:MAX_CUSTOMERS], len(names) > MAX_CUSTOMERS
    balances = [decoded(client.get(f"/v1/customers/{segment(name)}/balance"), BalanceView) for name in names]
    return Tick(time.time_ns() // 1_000_000, balances, scrape(health) if health else None, more=more)


class Screen:
    """Where looks are shown."""

    def show(self, tick: Tick) -> None:
        """Show one."""
        raise NotImplementedError

    def say(self, words: str) -> None:
        """Say what stands in the way of looking."""
        click.echo(words, err=True)


def _screen(*, as_json: bool, once: bool) -> Screen:
    if as_json:
        return _Lines()
    return _Terminal() if sys.stdout.isatty() and not once else _Table(once=once)


class _Lines(Screen):
    """One JSON object a look."""

    def show(self, tick: Tick) -> None:
        import msgspec  # noqa: PLC0415 (not for --help)

        counts = tick.counts
        facts = {
            "at_ms": tick.at_ms,
            "customers": msgspec.to_builtins(tick.balances),
            "more_customers": tick.more,
            "sidecar": None
            if counts is None
            else {
                "admitted": counts.admitted,
                "denied": counts.denied,
                "unfit": counts.unfit,
                "open_calls": counts.open_calls,
                "outbox_depth": counts.outbox_depth,
            },
        }
        click.echo(json.dumps(facts))
        sys.stdout.flush()


class _Table(Screen):
    """Plain tables, one below the other, each under the time of its look."""

    def __init__(self, *, once: bool) -> None:
        self._once = once
        self._before: dict[tuple[str, ...], int] = {}

    def show(self, tick: Tick) -> None:
        click.echo("\n".join(_frame(tick, self._before)))
        if not self._once:
            click.echo()
        sys.stdout.flush()


class _Terminal(Screen):
    """A table drawn in its own place."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, ...], int] = {}
        self._lines: list[str] = []
        self._drawn = 0

    def show(self, tick: Tick) -> None:
        self._lines = _frame(tick, self._before, shutil.get_terminal_size().columns - 1)
        self._draw(self._lines)

    def say(self, words: str) -> None:
        self._draw([words, *self._lines[1:]])

    def _draw(self, lines: list[str]) -> None:
        size = shutil.get_terminal_size()
        room = max(1, size.lines - 1)
        if len(lines) > room:
            lines = [*lines[: room - 1], f"… {len(lines) - room + 1} more lines; --customer C shows one customer"]
        shown = [printable(line)[: size.columns - 1] for line in lines]
        up = _UP.format(self._drawn) if self._drawn else ""
        sys.stdout.write(f"\r{up}" + "".join(f"{line}{_LINE_END}" for line in shown) + _BELOW)
        sys.stdout.flush()
        self._drawn = len(shown)


def _frame(tick: Tick, before: dict[tuple[str, ...], int], room: int | None = None) -> list[str]:
    """The lines of one look, folded into `room`.

    `before` is what each account had spent at the last one, and is brought up to date.
    """
    rows = [_row(one, before) for one in _accounts(tick.balances)]
    table = table_lines(_TITLES, rows, room=room) or ["No customers yet. Add one with `spend customers add NAME`."]
    if tick.more:
        table.append(f"… and customers beyond the first {MAX_CUSTOMERS}; --customer C shows another one.")
    return [*beside(_headline(tick), room, len(show_instant(tick.at_ms)) + 2), *table]


def _headline(tick: Tick) -> str:
    counts = tick.counts
    if counts is None:
        return f"{show_instant(tick.at_ms)}  the sidecar's counts are not known: say where with --health URL"
    reasons = sorted([*counts.denied.items(), *counts.unfit.items()], key=lambda one: -one[1])
    why = f" ({', '.join(f'{name} {count}' for name, count in reasons)})" if reasons else ""
    return (
        f"{show_instant(tick.at_ms)}  admitted {counts.admitted}  denied {sum(count for _, count in reasons)}{why}"
        f"  open {counts.open_calls}  to be booked {counts.outbox_depth}"
    )


class _Account:
    """One line: a budget's account, or a customer's wallet in one currency."""

    def __init__(self, names: tuple[str, ...], limit: Money | None, spent: Money, held: Money, left: Money) -> None:
        self.names = names
        self.limit = limit
        self.spent = spent
        self.held = held
        self.left = left


def _accounts(balances: list[BalanceView]) -> Iterator[_Account]:
    for balance in balances:
        whole = zip(balance.consumed, balance.leased, balance.available, strict=True)
        for spent, held, left in whole:
            counts = "wallet" if balance.wallet == "required" else "all"
            yield _Account((balance.customer, counts, "", ""), None, spent, held, left)
        for budget in balance.budgets:
            counts = scope_words(budget.match, "") + ("" if budget.hard else " (soft)")
            for child in budget.children:
                names = (budget.path, counts, budget.per, child.child)
                yield _Account(names, budget.limit, child.used, child.leased, child.remaining)
            if not budget.children:
                nothing = Money(budget.limit.currency, 0, budget.limit.scale, "0")
                yield _Account((budget.path, counts, budget.per, ""), budget.limit, nothing, nothing, budget.limit)


def _row(account: _Account, before: dict[tuple[str, ...], int]) -> tuple[str, ...]:
    spent, limit = account.spent, account.limit
    key = (*account.names, spent.currency, "" if limit is None else limit.text)
    new = spent.atoms - before.get(key, spent.atoms)
    before[key] = spent.atoms
    unbounded = limit is None and account.names[1] == "all"
    return (
        *account.names,
        "" if limit is None else f"{limit.text} {limit.currency}",
        f"{spent.text} {spent.currency}" if limit is None else spent.text,
        _amount(new, spent) if new > 0 else "",
        account.held.text,
        "-" if unbounded else account.left.text,
        "" if limit is None else _full(account, limit),
    )


def _amount(atoms: int, like: Money) -> str:
    from sidecar.core.credits.amounts import Currency, format_amount  # noqa: PLC0415 (not for --help)

    return format_amount(atoms, Currency(like.currency, like.scale))


def _full(account: _Account, limit: Money) -> str:
    """How much of the limit is spent or held, in whole percent, never rounded up to 100."""
    taken = account.spent.atoms + account.held.atoms
    return "100%" if taken >= limit.atoms else f"{taken * 100 // limit.atoms}%"
