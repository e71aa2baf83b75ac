"""Which heads are refused whatever body comes with them: those that the corridor refuses before it looks at one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from sidecar.proxy.corridor import Desk
from sidecar.proxy.identify import Identifier
from sidecar.proxy.request_head import LOOPBACK_HOSTS, read_head
from sidecar.proxy.route import Routes
from sidecar.proxy.uninvited import is_refused_by_head

KEY = "sk-spend-a"


class FakeDesk:
    """As much of a desk as is looked at."""

    def __init__(self, *, requires_key: bool = False, local: object = object()) -> None:
        self.routes = Routes()
        self.identifier = Identifier()
        self.requires_key = requires_key
        self.local = local


def refused(target: str, lines: Mapping[str, str], **more: Any) -> bool:
    headers = [(b"Host", b"localhost"), *((name.encode(), value.encode()) for name, value in lines.items())]
    head = read_head("POST", target, (1, 1), headers, hosts=LOOPBACK_HOSTS)
    return is_refused_by_head(head, cast(Desk, FakeDesk(**more)))


CHAT, ACME = "/v1/chat/completions", {"Spend-Customer": "acme"}


@pytest.mark.parametrize(
    ("target", "lines", "more", "expected"),
    [
        (CHAT, ACME, {}, False),
        (CHAT, {}, {}, True),
        (CHAT, {**ACME, "Spend-User": "a b"}, {}, True),
        ("/v1/nothing", ACME, {}, True),
        ("/v1/responses/input_tokens", {}, {}, False),  # passed on without anybody's name
        ("/spend/v1/check", {}, {}, False),  # which answers for itself
        ("/spend/v1/check", {}, {"local": None}, True),
        (CHAT, ACME, {"requires_key": True}, True),
        (CHAT, {"Spend-Key": KEY}, {"requires_key": True}, False),  # good or not: the ledger may have to say
        (CHAT, {"Spend-Key": KEY}, {}, False),
    ],
)
def test_what_a_head_alone_refuses(
    target: str, lines: Mapping[str, str], more: Mapping[str, Any], *, expected: bool
) -> None:
    """A path that goes nowhere, nobody who spends, no key where one is needed (B-P37)."""
    assert refused(target, lines, **more) is expected
