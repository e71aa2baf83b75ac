"""Reads the corpora of bad input: JSON lines, in which exact bytes are written so that people can read them.

A text stands for the bytes of its characters (latin-1). `%NAME%` stands for a part of a usual
request, and `<<text*3>>` for a text so many times; both so that a case shows only what is wrong
with it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.besieged import CHAT, GOOD_BODY

FOLDER = Path(__file__).parents[1] / "bad_input" / "corpus"

PARTS = {
    "LINE": f"POST {CHAT} HTTP/1.1\r\n",
    "HOST": "Host: localhost\r\n",
    "WHO": "Spend-Customer: acme\r\n",
    "LEN": f"Content-Length: {len(GOOD_BODY)}\r\n",
    "BODY": GOOD_BODY.decode("latin-1"),
    "SIZE": f"{len(GOOD_BODY):x}",
    "CHUNKED": "Transfer-Encoding: chunked\r\n",
    "CHUNKS": f"{len(GOOD_BODY):x}\r\n{GOOD_BODY.decode('latin-1')}\r\n0\r\n\r\n",
}
PARTS["GOOD"] = PARTS["LINE"] + PARTS["HOST"] + PARTS["WHO"] + PARTS["LEN"]
PARTS["HIDDEN"] = PARTS["GOOD"].replace("acme", "smuggled") + "\r\n" + PARTS["BODY"]

_PART = re.compile(r"%([A-Z]+)%")
_REPEATED = re.compile(r"<<(.*?)\*(\d+)>>", re.DOTALL)


@dataclass(frozen=True)
class Case:
    """One line of a corpus; `facts` is all that it says."""

    id: str
    name: str
    facts: dict[str, Any] = field(repr=False)

    @property
    def wire(self) -> bytes:
        """The bytes to send."""
        return expand(self.facts["wire"])

    @property
    def statuses(self) -> list[int]:
        """The statuses that are right."""
        status = self.facts["status"]
        return status if isinstance(status, list) else [status]


def expand(text: str) -> bytes:
    """The bytes that a text of the corpus stands for."""
    return repeat(_PART.sub(lambda part: PARTS.get(part[1], part[0]), text)).encode("latin-1")


def repeat(text: str) -> str:
    """The text with its repeats written out."""
    return _REPEATED.sub(lambda part: part[1] * int(part[2]), text)


def cases(name: str) -> list[Any]:
    """A corpus as parameters of a test, each under its row's id."""
    found = []
    for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        if line:
            facts = json.loads(line)
            case = Case(facts["id"], facts["name"], facts)
            marks = [pytest.mark.xfail(strict=True, reason=facts["xfail"])] if "xfail" in facts else []
            found.append(pytest.param(case, id=f"{case.id} {case.name}", marks=marks))
    return found
