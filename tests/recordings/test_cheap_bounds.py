"""The cheap bound against what providers counted of recorded prompts; skipped where there are no recordings.

The recordings are not part of this repository.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from statistics import median
from typing import Final

import pytest

from sidecar.providers.cheap_bounds import cheap_bound
from tests.recordings import test_shared_clouds as clouds
from tests.recordings import test_shared_recordings as others
from tests.recordings.test_shared_recordings import FOLDER

UNDER_AT_LEAST: Final = 0.99
"""Of text-only prompts, so many are under their cheap bound."""

EXCESS_AT_MOST: Final = 2.2
"""The median of cheap bound ÷ tokens."""

LONG_TOKENS: Final = 400
"""Shorter prompts are mostly frame, whose constants a ratio says little of."""

LONG_EXCESS_AT_MOST: Final = 1.6
"""The same of longer ones alone."""

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings at {FOLDER}")


def measured() -> dict[str, list[tuple[str, int, int]]]:
    """By endpoint: name, cheap bound and counted tokens of each recorded prompt that is texts alone and whole."""
    found: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    edited = {name for protocol in clouds.PROTOCOLS.values() for name, why in protocol.beyond.items() if why}
    everything = [(one, others.facts_of(one)) for one in others.recorded()]
    for protocol in clouds.PROTOCOLS.values():
        everything += [(one, clouds.facts_of(one)) for one in clouds.recorded(protocol.endpoints)]
    for exchange, facts in everything:
        told = (exchange["usage"] or {}).get("input_tokens")
        hidden = facts is None or facts.ceiling.unbounded
        if exchange["usage_state"] != "final" or not told or facts is None or hidden or exchange["name"] in edited:
            continue
        bound = cheap_bound(facts.model, base64.b64decode(exchange["request_body_b64"] or ""))
        if bound is not None:
            found[exchange["endpoint"]].append((exchange["name"], bound, told))
    return found


def test_it_is_right_in_99_of_100_and_near() -> None:
    """WIRE's aim: at least 99 % of recorded text-only prompts lie under it, at a median excess of 2.2 at most."""
    prompts = [prompt for listed in measured().values() for prompt in listed]
    beyond = [prompt for prompt in prompts if prompt[1] < prompt[2]]
    excess = median(bound / told for _, bound, told in prompts)
    of_long = median(bound / told for _, bound, told in prompts if told > LONG_TOKENS)
    under = 1 - len(beyond) / len(prompts)
    shown = f"{len(prompts)} prompts, {under:.2%} under, median excess {excess:.2f}, of long ones {of_long:.2f}"
    print(shown)
    assert len(prompts) > 2000
    assert len(beyond) <= (1 - UNDER_AT_LEAST) * len(prompts), (shown, beyond)
    assert excess <= EXCESS_AT_MOST, shown
    assert of_long <= LONG_EXCESS_AT_MOST, shown
