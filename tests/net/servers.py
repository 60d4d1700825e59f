"""Real servers on loopback for the client's tests: well-behaved ones, raw ones, and ones with certificates of our own."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from probe.clock import SystemClock
from probe.model.ids import span_id
from probe.model.observation import RequestDone
from probe.net.client import AddressPolicy, Client

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Raw = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TRACE = "0af7651916cd43dd8448eb211c80319c"


@asynccontextmanager
async def serving(
    routes: dict[str, Handler], *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", name: str = ""
) -> AsyncIterator[str]:
    """An aiohttp server: path → handler of any method. Yields its origin, by `name` if that is to be used."""
    app = web.Application(client_max_size=1 << 26)
    for path, handler in routes.items():
        app.router.add_route("*", path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.2, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        shown = name or (f"[{host}]" if ":" in host else host)
        yield f"{'https' if tls else 'http'}://{shown}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw(handler: Raw) -> AsyncIterator[str]:
    """A TCP server whose every connection is `handler`'s. Yields its http origin."""
    tasks: set[asyncio.Task[None]] = set()
    idle = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()
            idle.set()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        while tasks:
            idle.clear()
            await idle.wait()
        await server.wait_closed()


async def head(reader: asyncio.StreamReader) -> bytes:
    """Read a request up to its empty line."""
    return await reader.readuntil(b"\r\n\r\n")


def says(answer: bytes, *, then: Callable[[asyncio.StreamWriter], Any] | None = None) -> Raw:
    """A raw handler that answers every request with these bytes, then closes or does `then`."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(answer)
        await writer.drain()
        if then is not None:
            result = then(writer)
            if result is not None:
                await result
        else:
            writer.close()
            await writer.wait_closed()

    return handler


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST."""
    import socket
    import struct

    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@dataclass
class Record:
    """A client and what it reported."""

    client: Client
    requests: list[RequestDone] = field(default_factory=list)


@asynccontextmanager
async def client(*allow: str, **options: Any) -> AsyncIterator[Record]:
    """A client that may connect to `allow` (default: 127.0.0.1), closed at the end."""
    requests: list[RequestDone] = []
    made = Client(
        clock=SystemClock(),
        trace_id=TRACE,
        new_span=lambda: span_id(random.SystemRandom()),
        on_request=requests.append,
        allow=AddressPolicy.of(*(allow or ("127.0.0.1",))),
        **options,
    )
    try:
        yield Record(made, requests)
    finally:
        await made.close()


class Authority:
    """A certificate authority of our own; `client` trusts it and nobody else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None), [], 1)

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        constraints: x509.BasicConstraints,
        names: list[x509.GeneralName],
        days: int,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=3))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(constraints, critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def server(self, *names: str, days: int = 1) -> ssl.SSLContext:
        """A server's context for these host names and addresses, its certificate good for `days` more."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem(*names, days=days))
        return context

    def pem(self, *names: str, days: int = 1) -> Path:
        """A file with a server's key and its certificate for these names, good for `days` more."""
        key = ec.generate_private_key(ec.SECP256R1())
        general: list[x509.GeneralName] = []
        for name in names:
            try:
                general.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                general.append(x509.DNSName(name))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(subject, key, x509.BasicConstraints(ca=False, path_length=None), general, days)
        path = self._folder / f"{names[0]}-{days}.pem"
        path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return path

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.certificate.public_bytes(serialization.Encoding.PEM).decode())
        context.set_alpn_protocols(["http/1.1"])
        return context
