"""Every row of the catalogue of bad input that this side of the product answers for stands beside a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

ROWS = {
    "P": (1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20, 22, 23, 25, 26, 28, 29, 31, 32, 34, 35, 37, 38,
          40, 41, 43, 44, 46, 47, 49, 50, 52, 53, 55, 56, 58, 59, 61, 62, 64, 65, 67, 68, 70),
    "U": (1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20, 22, 23),
    "A": (1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20, 25, 26, 28, 29),
    "C": (1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16),
}  # fmt: skip
"""By kind: what callers send (P), what providers answer (U), what administers us (A), what configures us (C).

Of A, 22 and 23 are of webhooks, which are not built.
"""


@pytest.mark.parametrize("row", [f"B-{kind}{number:02}" for kind, numbers in ROWS.items() for number in numbers])
def test_the_row_stands_beside_a_test(row: str) -> None:
    """In the name of a case, or in what a test says of itself."""
    ours = [path for path in TESTS.rglob("*") if path.suffix in {".py", ".jsonl"} and path != Path(__file__)]
    assert any(re.search(rf"{row}\b", path.read_text(encoding="utf-8")) for path in ours)
