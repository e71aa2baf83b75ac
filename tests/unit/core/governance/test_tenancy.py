"""The customer's tree, as callers write it."""

from __future__ import annotations

import pytest

from sidecar.core.governance.tenancy import Node, format_path, is_id, parse_path


def test_a_path_reads_from_the_outermost_node_inwards() -> None:
    """And is written back as it was."""
    text = "department:analytics/team:data"
    assert parse_path(text) == (Node("department", "analytics"), Node("team", "data"))
    assert format_path(parse_path(text)) == text
    assert parse_path("") == ()


@pytest.mark.parametrize(
    "text",
    ["team", "team:", ":data", "Team:data", "team:a b", "team:a/", "/team:a", "team:a//x:b", "team:a/team:b",
     "customer:acme", "team:" + "a" * 129, "team:ä", "team:a\n", "/".join(f"k{i}:x" for i in range(17))],
)  # fmt: skip
def test_what_is_no_path(text: str) -> None:
    """Every malformed part is refused, with what was expected."""
    with pytest.raises(ValueError, match=r"expected|at most|only once"):
        parse_path(text)


@pytest.mark.parametrize(
    ("text", "good"),
    [("a" * 128, True), ("", False), ("a" * 129, False), ("../x", False),
     ("a%20", False), ("a\n", False), ("\u202eabc", False), ("A.b_c:d@e-1", True)],
)  # fmt: skip
def test_ids(text: str, good: bool) -> None:
    """B-P44: at most 128 of [A-Za-z0-9._:@-]."""
    assert is_id(text) is good
