"""Who is spending: the customer's tree, and the subject of one request.

The tree is customer / path nodes / user (L30). Agent, session, feature, product, model and
provider are *dimensions*: a budget may match on them, but they own nothing.
"""

from __future__ import annotations

import re

import msgspec

ID_PATTERN = r"[A-Za-z0-9._:@-]{1,128}"
KIND_PATTERN = r"[a-z][a-z0-9_-]{0,31}"
MAX_DEPTH = 16
_ID = re.compile(ID_PATTERN, re.ASCII)
_NODE = re.compile(rf"({KIND_PATTERN}):({ID_PATTERN})", re.ASCII)
RESERVED_KINDS = frozenset({"customer"})


class Node(msgspec.Struct, frozen=True, order=True):
    """An owner in a customer's tree: a kind (`team`) and an id, unique per kind in a customer."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


class Subject(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asks. An empty string is "not said". `path` goes from the outermost node inwards."""

    customer: str
    path: tuple[Node, ...] = ()
    user: str = ""
    agent: str = ""
    session: str = ""
    feature: str = ""
    product: str = ""


def is_id(text: str) -> bool:
    """Whether `text` may name a customer, a node, or a value of a dimension."""
    return _ID.fullmatch(text) is not None


def parse_path(text: str) -> tuple[Node, ...]:
    """Read `department:analytics/team:data` into nodes, outermost first; `` is the customer itself.

    A user at its end, who is no node of the tree, does not count as deep.

    Raises:
        ValueError: a part is not kind:id, a kind stands twice, or it is deeper than MAX_DEPTH.
    """
    if not text:
        return ()
    parts = text.split("/")
    if len(parts) - parts[-1].startswith("user:") > MAX_DEPTH:
        raise ValueError(f"a path has at most {MAX_DEPTH} nodes")
    nodes: list[Node] = []
    for part in parts:
        match = _NODE.fullmatch(part)
        if match is None or match[1] in RESERVED_KINDS:
            raise ValueError(f"expected kind:id, such as team:data, got {part[:64]!r}")
        nodes.append(Node(match[1], match[2]))
    if len({node.kind for node in nodes}) != len(nodes):
        raise ValueError("each kind may stand only once in a path")
    return tuple(nodes)


def format_path(path: tuple[Node, ...]) -> str:
    """The inverse of `parse_path`."""
    return "/".join(map(str, path))
