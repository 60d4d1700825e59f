"""coturn as Debian ships it: STUN and TURN on loopback over UDP, TCP and TLS, with one user and a certificate of our own."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from probe.plan import IceServer
from tests.tools import Child, free_port, requires, spawn, wait_until

USER, PASSWORD, REALM = "probe", "r3lay-password", "test.invalid"

_CONFIGURATION = """\
listening-ip={host}
relay-ip={host}
listening-port={port}
tls-listening-port={tls}
{certificate}
realm={realm}
lt-cred-mech
user={user}:{password}
fingerprint
no-cli
no-software-attribute
log-file=stdout
simple-log
verbose
pidfile={folder}/turn.pid
userdb={folder}/turn.db
{more}
"""


@dataclass(frozen=True)
class Coturn:
    """A running turnserver."""

    child: Child
    host: str
    port: int
    tls_port: int

    def url(self, transport: str = "udp", name: str = "") -> str:
        """As RFC 7065 has it; `transport`: udp, tcp or tls."""
        host = name or (f"[{self.host}]" if ":" in self.host else self.host)
        return (
            f"turns:{host}:{self.tls_port}?transport=tcp"
            if transport == "tls"
            else f"turn:{host}:{self.port}?transport={transport}"
        )

    def server(self, transport: str = "udp", *, name: str = "", password: str = PASSWORD) -> IceServer:
        return IceServer(url=self.url(transport, name), username=USER, credential=password)

    @property
    def stun(self) -> IceServer:
        return IceServer(url=f"stun:{self.host}:{self.port}")

    def allocations(self) -> int:
        """How many it has given so far."""
        return self.child.text().count("ALLOCATE processed, success")


@contextlib.asynccontextmanager
async def running(*, certificate: Path | None = None, host: str = "127.0.0.1", **more: str) -> AsyncIterator[Coturn]:
    """turnserver in the foreground. `certificate`: a PEM file of key and certificate for `turns`; `more`: options of its
    configuration, underlines for hyphens (`denied_peer_ip="127.0.0.1"`). It relays to loopback."""
    command = requires("turnserver", package="coturn")
    with tempfile.TemporaryDirectory(prefix="coturn-") as name:
        folder = Path(name)
        port, tls = free_port(), free_port()
        options = {"allow_loopback_peers": True, **more}
        lines = [
            key.replace("_", "-") + ("" if value is True else f"={value}") for key, value in options.items() if value is not False
        ]
        configuration = folder / "turnserver.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                host=host,
                port=port,
                tls=tls,
                certificate=f"cert={certificate}\npkey={certificate}" if certificate else "no-tls\nno-dtls",
                realm=REALM,
                user=USER,
                password=PASSWORD,
                folder=folder,
                more="\n".join(lines),
            )
        )
        with spawn([command, "-c", configuration], folder / "turnserver.log", cwd=folder) as child:
            turn = Coturn(child, host, port, tls)
            await wait_until(lambda: _listening(host, port, tls if certificate else port), 10, "turnserver")
            yield turn


def _listening(host: str, *ports: int) -> bool:
    for port in ports:
        with contextlib.closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as s:
            s.settimeout(1)
            if s.connect_ex((host, port)):
                return False
    return True
