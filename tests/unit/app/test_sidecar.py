"""`spend sidecar`: the address and the token that it is given, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.app.sidecar import check_address, is_in_the_clear, read_token
from sidecar.errors import ConfigurationError


@pytest.mark.parametrize(
    "url",
    [
        "", "ledger:8403", "ftp://ledger", "http://", "http://ledger:0", "http://ledger:99999", "http://ledger/v1",
        "http://a:b@ledger", "http://ledger?x", "http://[::1",
    ],
)  # fmt: skip
def test_what_is_no_origin_is_refused(url: str) -> None:
    """And the password that may stand in it is not said."""
    with pytest.raises(ConfigurationError, match="expected an origin"):
        check_address(url)


def test_an_origin_and_whether_its_token_is_safe() -> None:
    """Without TLS only on this machine."""
    for url, clear in (
        ("http://127.0.0.1:8403", False),
        ("http://[::1]:8403/", False),
        ("https://ledger", False),
        ("http://ledger:8403", True),
    ):
        check_address(url)
        assert is_in_the_clear(url) is clear


def test_a_token_stands_alone_in_its_file(tmp_path: Path) -> None:
    """White space around it is nothing; anything else is a mistake, said without quoting it."""
    path = tmp_path / "token"
    path.write_text("spend_sidecar_abc\n")
    assert read_token(path) == "spend_sidecar_abc"
    for raw in (b"", b"\n", b"one two", b"one\ntwo", b"secr\xc3\xa9t", b"secr\0et"):
        path.write_bytes(raw)
        with pytest.raises(ConfigurationError, match="sidecar-token") as error:
            read_token(path)
        assert "secr" not in str(error.value)
    path.unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        read_token(path)
