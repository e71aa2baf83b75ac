from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.key_echo import KeyEcho, without_key

KEY = b"abacab"


@given(st.lists(st.one_of(st.just(KEY), st.sampled_from([b"a", b"ab", b"aba", b"abac", b"x", b""])), max_size=12))
def test_the_key_is_blackened_wherever_it_is_cut(pieces: list[bytes]) -> None:
    """The bytes are the whole body's with the key blackened, and nothing is kept at the end."""
    echo = KeyEcho(KEY)
    seen = b"".join(echo.pass_on(piece, last=False) for piece in pieces) + echo.pass_on(b"", last=True)
    body = b"".join(pieces)
    assert len(seen) == len(body)
    assert KEY not in seen
    if KEY not in body:
        assert seen == body


def test_only_an_end_that_may_be_the_key_waits() -> None:
    """Everything else is passed on at once."""
    echo = KeyEcho(KEY)
    assert echo.pass_on(b"data\n\n", last=False) == b"data\n\n"
    assert echo.pass_on(b"x ab", last=False) == b"x "
    assert echo.pass_on(b"!", last=False) == b"ab!"


def test_header_lines_with_the_key_are_left_out() -> None:
    """The status line stays, without it."""
    lines = b"HTTP/1.1 401 bad abacab\r\nA: 1\r\nB: x abacab\r\n"
    assert without_key(lines, KEY) == b"HTTP/1.1 401 bad \r\nA: 1\r\n"
    assert without_key(lines, b"") == lines
