"""The customer's tree, as callers write it."""

from __future__ import annotations

import pytest

from sidecar.core.governance.tenancy import MAX_DEPTH, Node, format_path, is_id, parse_path


def test_a_path_reads_from_the_outermost_node_inwards() -> None:
    """And is written back as it was."""
    text = "department:analytics/team:data"
    assert parse_path(text) == (Node("department", "analytics"), Node("team", "data"))
    assert format_path(parse_path(text)) == text
    assert parse_path("") == ()


def test_sixteen_kinds_of_ones_own_and_a_user() -> None:
    """L30: a path is as deep as MAX_DEPTH; who stands below it all is no node of the tree."""
    kinds = [f"kind_{n}-x" for n in range(MAX_DEPTH)]
    path = parse_path("/".join(f"{kind}:n" for kind in kinds) + "/user:ada")
    assert [node.kind for node in path] == [*kinds, "user"]
    with pytest.raises(ValueError, match="at most 16"):
        parse_path(format_path((Node("more", "x"), *path)))


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
