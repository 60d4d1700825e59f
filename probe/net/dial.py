"""Connections of protocols that open their own: resolve, connect, TLS in exact stages, as HTTP's (`connector`) are.

Connecting is RFC 8305 happy eyeballs through the library aiohttp uses itself. A TLS failure is final; another address is not
tried, for it would hide a broken server. Certificates are checked against what the client trusts. No protocol is named by
ALPN: what comes here is not HTTP.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import aiohappyeyeballs

from probe.model.stage import Phase, Stage, StageTimer
from probe.net import errors

if TYPE_CHECKING:
    from probe.net.client import Client

Dial: TypeAlias = Callable[[str, str, int], Awaitable[tuple[str, int]]]
"""(host, ip, port) → the address to connect to instead: a relay. Host name and TLS stay."""

TLS_GOODBYE_SECONDS = 1.0
_STAGGER_SECONDS = 0.25  # RFC 8305 §5: Connection Attempt Delay
_BUFFER = 256 << 10  # bytes a reader holds before the socket is no longer read


async def open_stream(
    client: Client, host: str, port: int, *, tls: bool, stages: StageTimer, dial: Dial | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to `host`, by `client`'s address policy, family, pin and trust; `dial` leads through a relay.

    RESOLVE, CONNECT and TLS are entered in `stages` as they happen. Raises Failure: resolve/…, connect/…, tls/…. Close it with
    `close_stream`."""
    addresses = await client.resolve(host, port, stages=stages, phase=Phase.CONNECT)
    stages.enter(Stage.CONNECT, client.clock.now())
    sock = await reach(host, addresses, dial, client.reached)
    secured: dict[str, Any] = {}
    if tls:
        stages.enter(Stage.TLS, client.clock.now())
        secured = {
            "ssl": client.tls,
            "server_hostname": host.rstrip("."),
            "ssl_shutdown_timeout": TLS_GOODBYE_SECONDS,
        }
    try:
        return await asyncio.open_connection(sock=sock, limit=_BUFFER, **secured)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            failure = errors.of_tls(error) if tls else errors.of_connecting(error)
            if failure is not None:
                raise failure from error
        raise


async def close_stream(writer: asyncio.StreamWriter, seconds: float = TLS_GOODBYE_SECONDS) -> None:
    """Close it, what is written already sent as far as that goes within `seconds`; then without ceremony."""
    try:
        writer.close()
        async with asyncio.timeout(seconds):
            await writer.wait_closed()
    except OSError:  # TimeoutError is one: it is still there and not to stay
        _abort(writer)
    except asyncio.CancelledError:
        _abort(writer)
        raise


def _abort(writer: asyncio.StreamWriter) -> None:
    with suppress(AttributeError):  # closed in this very moment: a transport of Python 3.11 has then no loop to ask
        writer.transport.abort()


async def reach(
    host: str, addresses: list[tuple[str, int]], dial: Dial | None, reached: Callable[[str], None] | None = None
) -> socket.socket:
    """A connected socket to one of `addresses`, which `reached` is told. Raises Failure(connect, …), and what was this machine's
    own fault as it came."""
    try:
        if dial is not None:
            return await _through(dial, host, addresses, reached)
        sock = await _start(addresses)
    except (OSError, RuntimeError) as error:  # uvloop raises RuntimeError for some of what asyncio calls OSError
        failure = errors.of_connecting(error)
        if failure is None:
            raise
        raise failure from error
    if reached is not None:
        with suppress(OSError):  # reset already: what comes next will say so
            reached(str(sock.getpeername()[0]))
    return sock


async def _through(
    dial: Dial, host: str, addresses: list[tuple[str, int]], reached: Callable[[str], None] | None
) -> socket.socket:
    """One address after another: a relay connects to the far side before it answers."""
    refused: OSError | None = None
    for ip, port in addresses:
        try:
            sock = await _start([await dial(host, ip, port)])
        except OSError as error:
            refused = refused or error
        else:
            if reached is not None:
                reached(ip)
            return sock
    assert refused is not None
    raise refused


async def _start(addresses: list[tuple[str, int]]) -> socket.socket:
    infos: list[Any] = []
    for ip, port in addresses:
        if ":" in ip:
            bare, _, scope = ip.partition("%")
            where: tuple[Any, ...] = (bare, port, 0, socket.if_nametoindex(scope) if scope else 0)
            infos.append((socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where))
        else:
            infos.append((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (ip, port)))
    loop = asyncio.get_running_loop()
    return await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=_STAGGER_SECONDS, loop=loop)
