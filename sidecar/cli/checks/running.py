"""What runs: the ledger, the sidecar, its health, and what waits in its outbox."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from sidecar.app.data_folder import OUTBOX
from sidecar.cli.checks.finding import Finding, Setup, ok, problem, warning
from sidecar.cli.connection import Place
from sidecar.cli.scrape import Answer, Counts, ask, read_counts
from sidecar.outbox.shipper import REFUSED

SKEW_WARNING_S: Final = 2.0
SKEW_PROBLEM_S: Final = 300.0
"""Of this machine's clock against the ledger's: from here on the ledger asks for a person (L38)."""

BACKLOG_WARNING_S: Final = 30.0
BACKLOG_PROBLEM_S: Final = 3600.0
DAMAGED: Final = "damaged"


def running(setup: Setup) -> Iterator[Finding]:
    """Everything here."""
    place = setup.place
    if place is None:
        return
    start = setup.start
    before = time.time()
    answer = ask(place.address, "/v1/health")
    yield _ledger(place, answer, start)
    if answer.status == 200:
        yield clock_against(answer.header("Date"), before, time.time())
        yield from jumped(ask(place.address, "/v1/clock", headers={"Authorization": f"Bearer {place.token}"}))
    if place.proxy:
        yield _proxy(place.proxy, start)
    if place.health:
        yield from _health(place, setup)
    if setup.data is not None and not setup.lone_ledger:
        yield from set_aside(setup.data / OUTBOX)


def _ledger(place: Place, answer: Answer, start: str) -> Finding:
    check = "ledger"
    if not answer.status:
        return problem(check, f"{place.address} does not answer ({answer.problem})", start)
    known = ask(place.address, "/v1/version", headers={"Authorization": f"Bearer {place.token}"})
    version = _version(known)
    if answer.status != 200 or not (known.status == 401 or version):
        return problem(check, f"{place.address} answers, but not as a ledger does", "spend doctor --data DIR")
    if known.status == 401:
        then = "unset SPEND_TOKEN   (a ledger's own token is in its DIR/admin.json)"
        return problem(check, f"{place.address} does not take this token", then)
    return ok(check, f"{place.address} answers, version {version}")


def _version(answer: Answer) -> str:
    """What a ledger says it is; `` for an answer that is none of a ledger's."""
    try:
        return str(json.loads(answer.body)["version"])[:64] if answer.status == 200 else ""
    except (ValueError, KeyError, TypeError):
        return ""


def clock_against(date: str, before: float, after: float) -> Finding:
    """This machine's clock against the `Date` of an answer that came between two instants (Unix seconds)."""
    check = "clock"
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return warning(check, "the ledger's answer tells no time", "date -u   (compare it with the ledger's machine)")
    ahead = before - (theirs + 1) if before > theirs + 1 else min(0.0, after - theirs)
    if abs(ahead) < SKEW_WARNING_S:
        return ok(check, "this machine's and the ledger's agree to a second or two")
    what = f"this machine's is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the ledger's"
    then = "timedatectl set-ntp true   (on the one that is wrong)"
    return problem(check, what, then) if abs(ahead) >= SKEW_PROBLEM_S else warning(check, what, then)


def jumped(answer: Answer) -> Iterator[Finding]:
    """Whether the ledger goes by another time than its machine, whose clock somebody set."""
    try:
        jump_ms = int(json.loads(answer.body)["jump_ms"]) if answer.status == 200 else 0
    except (ValueError, KeyError, TypeError):
        return
    if jump_ms:
        way = "ahead of" if jump_ms > 0 else "behind"
        what = f"the ledger's machine jumped {abs(jump_ms) // 1000} s {way} the time that it goes by"
        yield problem("ledger clock", what, "spend ledger clock --accept   (if that machine's clock is right)")


def _proxy(address: str, start: str) -> Finding:
    check = "sidecar"
    # A name that it does not go by: refused at the door, so that looking leaves no trace in its counts.
    answer = ask(address, "/", headers={"Host": "spend-doctor.invalid"})
    if not answer.status:
        return problem(check, f"{address} does not answer ({answer.problem})", start)
    if answer.header("Spend-Origin") != "sidecar":
        then = "spend up --port 0   (or end what listens there)"
        return problem(check, f"something else listens on {address}", then)
    return ok(check, f"{address} answers")


def _health(place: Place, setup: Setup) -> Iterator[Finding]:
    check = "health"
    ready = ask(place.health, "/readyz")
    if not ready.status:
        yield problem(check, f"{place.health} does not answer ({ready.problem})", setup.start)
        return
    scraped = ask(place.health, "/metrics")
    counts = read_counts(scraped.body.decode("utf-8", "replace")) if scraped.status == 200 else None
    if counts is None:
        what = f"{place.health} answers, but not as {'a ledger' if setup.lone_ledger else 'a sidecar'}'s health does"
        yield problem(check, what, f"{setup.command} --health-port 0")
        return
    if ready.status != 200:
        yield problem(check, f"not ready: {_obstacles(ready)}", "spend doctor   (again in a moment; then see its log)")
    elif setup.lone_ledger:
        yield ok(check, f"{place.health} answers; ready")
    else:
        yield ok(check, f"{place.health} answers; ready, {counts.open_calls} calls under way")
    if setup.lone_ledger:  # no call runs there, and what is settled waits with the sidecars
        return
    yield backlog(counts)
    refused = counts.denied.get("model_not_priced", 0)
    if refused:
        what = f"{refused} calls were refused since the start because their model has no price"
        then = "spend catalog check   (after adding a rate card; `request_denied` in the log names the models)"
        yield warning("models refused", what, then)
    if counts.settle_errors:
        what = f"{counts.settle_errors} settlements could not be recorded"
        yield problem("recording", what, "df -h   (then see each `settlement_not_recorded` in the log)")


def _obstacles(ready: Answer) -> str:
    try:
        return "; ".join(str(one)[:200] for one in json.loads(ready.body)["obstacles"])
    except (ValueError, KeyError, TypeError):
        return f"status {ready.status}"


def backlog(counts: Counts) -> Finding:
    """What is settled and not yet in the book."""
    check = "outbox"
    what = f"{counts.outbox_depth} calls wait to be booked, the oldest for {counts.outbox_age_s:.0f} s"
    if not counts.outbox_depth or counts.outbox_age_s < BACKLOG_WARNING_S:
        return ok(check, what if counts.outbox_depth else "everything settled is booked")
    then = "spend watch   (does it shrink? if not, `sync_failed` or `ledger_unavailable` in the log says why)"
    return problem(check, what, then) if counts.outbox_age_s >= BACKLOG_PROBLEM_S else warning(check, what, then)


def set_aside(outbox: Path) -> Iterator[Finding]:
    """What the ledger would not book, and what could not be read: the only copies there are."""
    for name, what, why in (
        (REFUSED, "files of calls that the ledger would not book", "`events_refused` in the log says why"),
        (DAMAGED, "pieces of the outbox that could not be read", "`outbox_damaged` in the log says when"),
    ):
        try:
            count = sum(1 for _ in (outbox / name).iterdir())
        except OSError:
            continue
        if count:
            yield problem(
                "put aside", f"{count} {what}", f"ls -l {shlex.quote(str(outbox / name))}   (keep them; {why})"
            )
