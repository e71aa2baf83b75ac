"""Tables for people: one line a row where there is room, folded where the terminal is narrower."""

from __future__ import annotations

import pytest

from sidecar.cli.tables import beside, table_lines

TITLES = ("sidecar", ">leases", "last heard", "drift")
ROWS = [("sidecar_a", "3", "2026-11-26 23:50:02Z", "-"), ("sidecar_longer", "12", "never", "")]


def test_a_row_is_a_line_where_nothing_bounds_it() -> None:
    """In a pipe whatever its width, and on a terminal that is wide enough to the character."""
    lines = [
        "SIDECAR         LEASES  LAST HEARD            DRIFT",
        "sidecar_a            3  2026-11-26 23:50:02Z  -",
        "sidecar_longer      12  never",
    ]
    assert table_lines(TITLES, ROWS) == lines
    assert table_lines(TITLES, ROWS, room=len(lines[0])) == lines


def test_columns_that_find_no_room_stand_below() -> None:
    """Titles as their cells, each column still one; what is empty at a row's end takes no line."""
    assert table_lines(TITLES, ROWS, room=50) == [
        "SIDECAR         LEASES  LAST HEARD",
        "  DRIFT",
        "sidecar_a            3  2026-11-26 23:50:02Z",
        "  -",
        "sidecar_longer      12  never",
    ]


@pytest.mark.parametrize("room", [1, 19, 20, 33, 80])
def test_no_line_is_wider_than_the_terminal(room: int) -> None:
    """Also where a cell is wider by itself: it goes on below, and every word of it is there."""
    moves = "budget:bud_1.available-100775 budget:bud_1.leased+100775 " * 3
    lines = table_lines(("sequence", "moves", "hash"), [("4", moves, "f2e04000ac8a")], room=room)
    assert max(map(len, lines)) <= max(room, 20)
    whole = "".join("".join(lines).split())
    assert moves.replace(" ", "") in whole
    assert whole.endswith("f2e04000ac8a")


def test_a_text_beside_its_name_goes_on_below_its_beginning() -> None:
    """A word is never broken, for it may be something to paste; without room for that the line is left alone."""
    line = "ok  settings  config/spend.yaml and this shell's variables are well"
    assert beside(line, 40, 14) == [
        "ok  settings  config/spend.yaml and this",
        "              shell's variables are well",
    ]
    assert beside(line, None, 14) == beside(line, 20, 14) == [line]
