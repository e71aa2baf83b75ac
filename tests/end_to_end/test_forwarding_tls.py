"""Providers over TLS: verified or not used at all; injected keys go nowhere else."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from sidecar.providers.dialect import Ending
from sidecar.proxy.outcomes import Cause
from sidecar.proxy.provider_keys import ProviderKey
from sidecar.proxy.upstream_pool import tls_context
from tests.support.forwarding import calling, on_both_loops, running_rig
from tests.support.scripted_provider import Script, ScriptedProvider

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate of its own authority for `name`, and a server's context with it."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


@on_both_loops
async def test_a_trusted_provider(tmp_path: Path) -> None:
    """Connections are kept over TLS too, streams pass, and the caller's key is replaced by the injected one."""
    trusted, context = certificate(tmp_path, "localhost")
    key_file = tmp_path / "key"
    key_file.write_text("sk-real")
    async with ScriptedProvider(tls=context) as provider:
        provider.then(Script.stream([b"data: 1\n\n", b"data: [DONE]\n\n"]))
        async with running_rig(provider.url, tls=tls_context(str(trusted))) as rig, calling(rig.port) as caller:
            rig.upstream.key = ProviderKey(key_file, header="Authorization", prefix="Bearer ", sweep=rig.sweep)
            for _ in range(2):
                caller.post(b"{}", "Authorization: Bearer sk-own", "x-api-key: sk-own")
                answer = await caller.answer()
                assert (answer.status, answer.complete) == (200, True)
                assert b"sk-" not in answer.raw_head + answer.body
        assert provider.connections == 1
    for request in provider.requests:
        assert request.headers["authorization"] == "Bearer sk-real"
        assert b"sk-own" not in request.head


@pytest.mark.parametrize(("name", "trust"), [("localhost", False), ("other.example", True)], ids=["issuer", "name"])
@on_both_loops
async def test_an_untrusted_provider_gets_nothing(tmp_path: Path, name: str, trust: bool) -> None:
    """F-57: unknown issuer or wrong name is 502, and no byte of the request was sent."""
    trusted, context = certificate(tmp_path, name)
    async with ScriptedProvider(tls=context) as provider:
        tls = tls_context(str(trusted) if trust else None)
        async with running_rig(provider.url, tls=tls) as rig, calling(rig.port) as caller:
            caller.post()
            assert (await caller.answer()).status == 502
            outcome = await rig.outcome()
            assert (outcome.ending, outcome.cause) == (Ending.UNSENT, Cause.UNREACHABLE)
    assert provider.requests == []
