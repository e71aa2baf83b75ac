"""`spend keys`: a key is shown once and by its maker alone."""

from __future__ import annotations

from sidecar.core.governance.virtual_keys import is_key, key_digest
from tests.unit.cli.conftest import Shell


def test_a_key_is_made_here_and_the_ledger_gets_its_digest(acme: Shell) -> None:
    """S-13: alone on standard output, so that a script can keep it; whom it names and how to end it beside."""
    done = acme.run("keys", "create", "acme/team:data/user:ada", "--name", "ci", "--agent", "bot")
    key = done.stdout.strip()
    assert is_key(key)
    assert acme.administration.digests == [key_digest(key).hex()]
    assert "acme/team:data/user:ada agent=bot" in done.stderr
    assert "spend keys revoke acme key_1" in done.stderr
    (made,) = acme.json("keys", "create", "acme")
    assert is_key(made["key"])
    assert made["key"] != key
    assert (made["key_id"], made["path"], made["revoked_at_ms"]) == ("key_2", "acme", None)


def test_keys_are_listed_and_revoked(acme: Shell) -> None:
    """By name and fingerprint; the key itself is in no list."""
    key = acme.run("keys", "create", "acme", "--name", "ci").stdout.strip()
    digest = key_digest(key).hex()
    table = acme.run("keys", "list", "acme").stdout
    assert table.splitlines()[0].split() == ["KEY", "NAME", "NAMES", "FINGERPRINT", "CREATED", "LAST", "USED", "STATE"]
    assert digest[:12] in table
    assert "good" in table
    assert key not in table
    assert digest not in table
    assert "key_1" in acme.run("keys", "revoke", "acme", "key_1").stdout
    assert "revoked 2026-" in acme.run("keys", "list", "acme").stdout
    (row,) = acme.json("keys", "list", "acme")
    assert (row["key_id"], row["revoked_by"]) == ("key_1", "admin")


def test_mistakes_say_what_to_type(acme: Shell) -> None:
    """A customer without keys, a key that is none, and a key given where its name is wanted: that one is not sent."""
    assert "spend keys create acme" in acme.run("keys", "list", "acme").stdout
    assert "key_9" in acme.run("keys", "revoke", "acme", "key_9", code=1).stderr
    key = acme.run("keys", "create", "acme").stdout.strip()
    refused = acme.run("keys", "revoke", "acme", key, code=2).stderr
    assert "spend keys list acme" in refused
    assert key not in refused


def test_how_long_a_key_is_good_is_said_like_every_duration(acme: Shell) -> None:
    """The same words as everywhere; what is none is told apart before anything is sent."""
    for length in ("90s", "30m", "2w"):
        assert is_key(acme.run("keys", "create", "acme", "--expires", length).stdout.strip())
    assert "expected a duration" in acme.run("keys", "create", "acme", "--expires", "2mo", code=2).stderr
    assert len(acme.administration.digests) == 3
