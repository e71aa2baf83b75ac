"""The providers: whether they can be reached, and whose keys they get."""

from __future__ import annotations

import asyncio
import queue
import socket
import ssl
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sidecar.app.settings import KEY_VARIABLES, UpstreamSettings, uses_demo
from sidecar.cli.checks.finding import Finding, Setup, ok, problem, warning
from sidecar.errors import ConfigurationError
from sidecar.proxy.provider_keys import ProviderKey
from sidecar.proxy.sweep import Sweep
from sidecar.proxy.upstream_pool import Origin, read_origin, tls_context

CONNECT_TIMEOUT_S: Final = 3.0
WAIT_S: Final = 6.0
"""For all of them together: a name that cannot be resolved takes longer than its connection may."""


def providers(setup: Setup) -> Iterator[Finding]:
    """Everything here."""
    if setup.lone_ledger:  # which calls none
        return
    ours = setup.settings.sidecar
    if uses_demo(setup.settings, setup.environ):
        what = "no provider is set and no key is in this shell: `spend up` started here brings its demo provider"
        yield ok("upstreams", what, "export OPENAI_API_KEY=…   (before `spend up`, for the real ones)")
        return
    yield from reach(ours.upstreams, setup)
    for name, upstream in sorted(ours.upstreams.items()):
        yield key(name, upstream, setup)


def reach(upstreams: Mapping[str, UpstreamSettings], setup: Setup) -> Iterator[Finding]:
    """TCP and TLS to each, all at once. One that nobody set or has a key for may be out of reach."""
    found: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    for name, upstream in upstreams.items():
        # Daemons: a resolver that hangs must not keep this process.
        threading.Thread(target=lambda n, o: found.put((n, connect(o))), args=(name, read_origin(upstream.base_url)),
                         daemon=True).start()  # fmt: skip
    answers: dict[str, str] = {}
    try:
        for _ in upstreams:
            name, trouble = found.get(timeout=WAIT_S)
            answers[name] = trouble
    except queue.Empty:
        pass
    for name, upstream in sorted(upstreams.items()):
        trouble = answers.get(name, f"no answer within {WAIT_S:g} s")
        check = f"upstream {name}"
        if not trouble:
            yield ok(check, f"{upstream.base_url} can be reached")
            continue
        meant = name in setup.settings.configured_upstreams or setup.environ.get(KEY_VARIABLES.get(name, ""))
        what = f"{upstream.base_url} cannot be reached: {trouble}"
        then = f"curl -sv {upstream.base_url} -o /dev/null   (or set SPEND_UPSTREAMS__{name.upper()}__BASE_URL)"
        yield problem(check, what, then) if meant else warning(check, what, then)


def connect(origin: Origin) -> str:
    """Open a connection, with TLS where it wants it, and close it; what went wrong, `` for nothing."""
    host = origin.host
    try:
        with socket.create_connection((host, origin.port), timeout=CONNECT_TIMEOUT_S) as plain:
            if origin.scheme == "https":
                with tls_context().wrap_socket(plain, server_hostname=host):
                    return ""
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not to be trusted ({error.verify_message})"
    except TimeoutError:
        return f"no connection within {CONNECT_TIMEOUT_S:g} s"
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return ""


def key(name: str, upstream: UpstreamSettings, setup: Setup) -> Finding:
    """Whether the sidecar has a provider's key, or passes on the caller's."""
    check = f"key {name}"
    path = upstream.key_file
    variable = f"SPEND_UPSTREAMS__{name.upper()}__KEY_FILE"
    if path is None and setup.settings.sidecar.require_key and upstream.needs_key:
        what = "require_key is on and no key is here: a call that brings a virtual key alone is refused"
        return warning(check, what, f"export {variable}=FILE   (or send the virtual key in the header Spend-Key)")
    if path is None:
        return ok(check, f"passed through: applications send their own (or give one with {variable})")
    try:
        asyncio.run(_read_key(path))
        mode = path.stat().st_mode
    except ConfigurationError as error:
        return problem(check, error.problems[0], f"export {variable}=FILE   (one line: the key)")
    except OSError as error:
        return problem(check, f"{path}: {error.strerror}", f"export {variable}=FILE   (one line: the key)")
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        return warning(check, f"{path} may be read by everybody on this machine", f"chmod 600 {path}")
    return ok(check, f"given by {path}")


async def _read_key(path: Path) -> None:
    """Read it as the sidecar does."""
    ProviderKey(path, header="authorization", prefix="", sweep=Sweep())


def settings_problem(text: str, environ: Mapping[str, str], config: Path | None) -> Finding:
    """A mistake in the settings, and for an upstream's address the one that was probably meant."""
    place = text.partition(":")[0]
    value = environ.get(place, "")
    if place.startswith("SPEND_") and place.endswith("__BASE_URL"):
        parts = urlsplit(value)
        if parts.scheme in ("http", "https") and parts.netloc and parts.path not in ("", "/"):
            twice = " (with it /v1 would stand there twice)" if "/v1" in parts.path else ""
            what = f"{place} has a path, and the caller's own is appended to it{twice}"
            return problem("settings", what, f"export {place}={parts.scheme}://{parts.netloc}")
    if place.startswith("SPEND_"):
        return problem("settings", text, f"unset {place}   (or set it to what was expected)")
    return problem("settings", text, f"edit {config or 'the settings'}, then `spend doctor` again")
