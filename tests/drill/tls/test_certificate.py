"""A certificate replaced under a real nginx that reloads, and put back; what is served is seen by a client of the test's own."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from probe.clock import SystemClock
from probe.drill.faults.base import FaultIO, Klass, NotUndone, Preparing, Refused, State
from probe.drill.faults.certificate import Certificate, CertificateFault
from probe.errors import ProbeError
from probe.model.clock import NS
from probe.net.redact import Redactor
from tests.tools import free_port, requires, spawn, wait_until

TOKEN = "0a1b2c3d"
CONFIGURATION = """\
daemon off; pid {folder}/nginx.pid; error_log stderr notice;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; }}
}}
"""


def made(folder: Path, name: str, certificate: str = "cert.pem", key: str = "key.pem", days: int = 90) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(private.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=200)).not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )  # fmt: skip
    (folder / certificate).write_bytes(built.public_bytes(serialization.Encoding.PEM))
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / key).write_bytes(private.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
    (folder / key).chmod(0o640)


@dataclass(frozen=True)
class Server:
    folder: Path
    port: int
    pid: int

    def params(self, **changed: object) -> Certificate:
        said = {"certificate": self.folder / "cert.pem", "key": self.folder / "key.pem", "make": "expired"}
        said |= {"reload": ("kill", "-HUP", str(self.pid)), "verify": f"127.0.0.1:{self.port}", "name": "live.test"}
        return Certificate.model_validate(said | changed)

    def served(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", self.port), timeout=5).encode())

    def name(self) -> str:
        return self.served().subject.rfc4514_string()

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.glob("*.pem*")}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    nginx = requires("nginx", package="nginx")
    made(tmp_path, "live.test")
    port = free_port()
    (tmp_path / "nginx.conf").write_text(CONFIGURATION.format(folder=tmp_path, port=port))
    command: list[str | Path] = [nginx, "-c", tmp_path / "nginx.conf", "-p", tmp_path]
    with spawn(command, tmp_path / "nginx.log") as child:
        one = Server(tmp_path, port, child.popen.pid)

        def up() -> bool:
            try:
                return "live.test" in one.name()
            except OSError:
                return False

        await wait_until(up, 10, "nginx")
        yield one


def given() -> Preparing:
    return Preparing(clock=SystemClock(), token=TOKEN, lasts=30 * NS, expires=0)


def io() -> FaultIO:
    return FaultIO(clock=SystemClock(), token=TOKEN, expires=0, redactor=Redactor())


async def until(fault: CertificateFault, record, state: State) -> None:
    async def so() -> bool:
        return (await fault.observe(record, io())).state is state

    await wait_until(so, 10, str(state))
    await wait_until(so, 10, f"{state}, still")


async def serves(server: Server, name: str) -> None:
    """Whoever asks, old workers gone."""
    await wait_until(lambda: all(server.name() == name for _ in range(5)), 10, name)


async def test_an_expired_certificate_is_served_and_its_own_again(server):
    fault, before = CertificateFault(), server.files()
    prepared = await fault.prepare(server.params(), given())
    assert prepared.klass is Klass.REVERSIBLE
    assert server.files() == before
    assert b"PRIVATE" not in repr(prepared).encode()
    assert (await fault.observe(prepared.record, io())).state is State.RESTORED
    await fault.restore(prepared.record, io())  # nothing is there yet

    await fault.inject(prepared.record, io())
    await until(fault, prepared.record, State.INJECTED)
    await wait_until(lambda: server.served().not_valid_after_utc < datetime.now(UTC), 10, "an expired one")
    assert (server.folder / "key.pem").stat().st_mode & 0o777 == 0o640

    await fault.restore(prepared.record, io())
    await until(fault, prepared.record, State.RESTORED)
    await serves(server, "CN=live.test")
    await fault.restore(prepared.record, io())
    assert server.files() == before


async def test_another_process_puts_it_back_from_the_record_alone(server):
    fault = CertificateFault()
    prepared = await fault.prepare(server.params(make="other_name"), given())
    await fault.inject(prepared.record, io())
    await until(fault, prepared.record, State.INJECTED)
    code = (
        "import asyncio, json, sys\n"
        "from probe.clock import SystemClock\nfrom probe.net.redact import Redactor\n"
        "from probe.drill.faults.base import FaultIO\nfrom probe.drill.faults.table import fault\n"
        f"io = FaultIO(clock=SystemClock(), token={TOKEN!r}, expires=0, redactor=Redactor())\n"
        "asyncio.run(fault('certificate').restore(json.load(sys.stdin), io))\n"
    )
    subprocess.run([sys.executable, "-c", code], input=json.dumps(prepared.record).encode(), check=True, timeout=30)
    await until(fault, prepared.record, State.RESTORED)
    await serves(server, "CN=live.test")


async def test_one_signed_by_the_issuer_or_brought_along(server):
    made(server.folder, "ca.test", "ca.pem", "ca-key.pem")
    made(server.folder, "old.live.test", "old.pem", "old-key.pem", days=-3)
    fault = CertificateFault()
    issuer = {"certificate": server.folder / "ca.pem", "key": server.folder / "ca-key.pem"}
    prepared = await fault.prepare(server.params(issuer=issuer), given())
    await fault.inject(prepared.record, io())
    await until(fault, prepared.record, State.INJECTED)
    authority = x509.load_pem_x509_certificate((server.folder / "ca.pem").read_bytes())
    await wait_until(lambda: server.served().issuer == authority.subject, 10, "one of that issuer")
    await serves(server, f"O=sp-{TOKEN}")
    server.served().verify_directly_issued_by(authority)
    await fault.restore(prepared.record, io())
    await until(fault, prepared.record, State.RESTORED)

    old = {"certificate": server.folder / "old.pem", "key": server.folder / "old-key.pem"}
    prepared = await fault.prepare(server.params(make=None, use=old), given())
    await fault.inject(prepared.record, io())
    await until(fault, prepared.record, State.INJECTED)
    await serves(server, "CN=old.live.test")
    await fault.restore(prepared.record, io())
    await until(fault, prepared.record, State.RESTORED)


async def test_who_renews_it_meanwhile_keeps_theirs(server):
    fault = CertificateFault()
    prepared = await fault.prepare(server.params(), given())
    await fault.inject(prepared.record, io())
    made(server.folder, "renewed.test")
    os.kill(server.pid, 1)
    await fault.restore(prepared.record, io())
    await until(fault, prepared.record, State.RESTORED)
    await serves(server, "CN=renewed.test")
    assert sorted(server.files()) == ["cert.pem", "key.pem"]


async def test_a_reload_that_fails_is_neither_injected_nor_undone(server):
    fault = CertificateFault()
    prepared = await fault.prepare(server.params(reload=("false",)), given())
    with pytest.raises(ProbeError, match="the reload ended with 1"):
        await fault.inject(prepared.record, io())
    assert (await fault.observe(prepared.record, io())).state is State.RESTORED
    with pytest.raises(NotUndone, match="the reload"):
        await fault.restore(prepared.record, io())
    assert sorted(server.files()) == ["cert.pem", "key.pem"]


@pytest.mark.parametrize("which", ["cert.pem.sp-0a1b2c3d", "cert.pem.sp-0a1b2c3d.ours", "cert.pem.sp-0a1b2c3d.new"])
async def test_cut_off_before_the_rename_nothing_was_replaced(server, which):
    fault, before = CertificateFault(), server.files()
    prepared = await fault.prepare(server.params(), given())
    if which.endswith("c3d"):
        os.link(server.folder / "cert.pem", server.folder / which)
    else:
        (server.folder / which).write_text("torn")
    await fault.restore(prepared.record, io())
    assert server.files() == before


async def test_what_is_refused_before_anything_is_touched(server):
    fault, before = CertificateFault(), server.files()
    made(server.folder.parent, "elsewhere.test")
    elsewhere = {"certificate": server.folder.parent / "cert.pem", "key": server.folder.parent / "key.pem"}
    for params, words in (
        (server.params(verify=f"127.0.0.1:{free_port()}"), "did not shake hands"),
        (server.params(certificate=elsewhere["certificate"], key=elsewhere["key"]), "serves another certificate"),
        (server.params(certificate=server.folder / "none.pem"), "cannot be read"),
        (server.params(certificate=server.folder / "nginx.conf"), "holds no certificate"),
        (
            server.params(make=None, use={"certificate": server.folder / "key.pem", "key": server.folder / "key.pem"}),
            "with its key",
        ),
    ):
        with pytest.raises(Refused, match=words):
            await fault.prepare(params, given())
    assert server.files() == before
    with pytest.raises(ValueError, match="neither or both"):
        server.params(make=None)


async def test_a_server_that_is_away_is_unknown(server):
    fault = CertificateFault()
    prepared = await fault.prepare(server.params(), given())
    away = {**prepared.record, "verify": f"127.0.0.1:{free_port()}"}
    assert (await fault.observe(away, io())).state is State.UNKNOWN
