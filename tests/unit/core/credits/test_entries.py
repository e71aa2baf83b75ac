"""The text of an entry that is hashed: the same by whatever it is written."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credits.entries import Entry, Leg, body_of, read_body

odd = st.sampled_from('a\x00\x1f"\\/\x7f\x80é\u2028\n\t\ud800')
texts = st.text(st.characters(codec=None, exclude_categories=())) | st.text(odd)
numbers = st.integers(-(2**70), 2**70) | st.sampled_from([2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64])
facts = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
legs = st.builds(Leg, texts, st.sampled_from(["available", "leased"]), texts, numbers)


@given(
    texts=st.tuples(texts, texts, texts, texts),
    instants=st.tuples(numbers, numbers),
    legs=st.lists(legs, max_size=3).map(tuple),
    facts=st.dictionaries(texts, facts, max_size=4),
)
def test_the_text_is_what_the_standard_library_writes(
    texts: tuple[str, str, str, str], instants: tuple[int, int], legs: tuple[Leg, ...], facts: dict[str, object]
) -> None:
    """L8: ASCII, keys sorted, no blanks, so that anybody can compute the hash again with a JSON library alone."""
    customer, kind, key, actor = texts
    body = body_of(Entry(customer, 7, kind, key, actor, *instants, legs, facts))
    expected = {
        "v": 1,
        "customer": customer,
        "sequence": 7,
        "kind": kind,
        "key": key,
        "actor": actor,
        "recorded_at_ms": instants[0],
        "occurred_at_ms": instants[1],
        "legs": [[leg.account, leg.bucket, leg.currency, leg.atoms] for leg in legs],
        "facts": facts,
    }
    assert body == json.dumps(expected, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def test_it_is_read_back() -> None:
    """All of it."""
    entry = Entry("acme", 1, "lent", "k", "ledger", 5, 4, (Leg("budget:b", "leased", "usd", 3),), {"a": [1, "é", None]})
    assert read_body(body_of(entry)) == entry
