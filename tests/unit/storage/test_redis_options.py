from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.errors import ConfigurationError
from sidecar.storage.redis_client import connect
from sidecar.storage.redis_options import RedisOptions, check_options, read_address


def test_an_address_is_taken_apart() -> None:
    """Nodes by commas, a user, a password that is never shown, TLS, a database."""
    address, password = read_address("rediss://app:s3cret@redis.internal:6380/3")
    assert (address.seeds, address.tls, address.user, address.database) == ((("redis.internal", 6380),), True, "app", 3)
    assert password == "s3cret"
    assert "s3cret" not in f"{address!r}{address}"
    assert read_address("redis://one,two:7000,[::1]:7001")[0].seeds == (("one", 6379), ("two", 7000), ("::1", 7001))


@pytest.mark.parametrize("rest", ["", "h:0", "h:99999", "h:1/x", "a b", "h?x=1", "h/1/2"])
def test_what_is_no_address_is_refused_without_being_shown(rest: str) -> None:
    """A password may stand in it."""
    with pytest.raises(ValueError, match="expected") as refused:
        read_address(f"redis://app:s3cret@{rest}")
    assert "s3cret" not in str(refused.value)
    with pytest.raises(ValueError, match="expected"):
        read_address("http://h")


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        (RedisOptions(), []),
        (RedisOptions("redis://h"), []),
        (RedisOptions("redis://a,b", cluster=True), []),
        (RedisOptions(cluster=True), ["cluster"]),
        (RedisOptions("redis://a,b"), ["url"]),
        (RedisOptions("redis://a/1", cluster=True), ["url"]),
        (RedisOptions("redis://a", ca_file=Path("ca")), ["ca_file"]),
        (RedisOptions("redis://a", open_s=5, max_open_s=1), ["max_open_s"]),
        (RedisOptions("nonsense"), ["url"]),
    ],
)
def test_what_does_not_go_together_is_told_by_key(options: RedisOptions, keys: list[str]) -> None:
    """Before anything is started."""
    assert list(check_options(options)) == keys


def test_a_password_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    """With the file's name, and nothing of what stands there."""
    with pytest.raises(ConfigurationError, match="password alone"):
        connect(RedisOptions("redis://h", password_file=tmp_path / "none"))
