"""The agent's HTTP service, open: its sockets, its connections, its guard, and the file that says how it is guarded.

We accept connections ourselves, because what is refused must be refused before TLS, and a certificate that was renewed must hold
for the next client.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web

from probe.agent.service.app import Guard, routes, secured
from probe.agent.service.auth import Door, is_loopback
from probe.agent.service.connections import KINDS, MOST, Connection, Connections, Guarded
from probe.agent.service.gate import Gates
from probe.agent.service.handing import Handing
from probe.agent.service.health import Health
from probe.agent.service.metrics import Scrapes
from probe.agent.service.pages import Pages
from probe.agent.service.probing import Probes
from probe.agent.service.runs import RunPages
from probe.agent.service.view import View
from probe.agent.service.web_config import Web, read_web_config
from probe.clock import SystemClock
from probe.errors import ConfigError, Located

_log = logging.getLogger(__name__)
_BACKLOG = 1024
_HANDSHAKE = 10.0  # s for TLS
_LOOK = 5.0  # s between looks at the web-config file and its certificates
_BODY = 16 * 1024  # of the one request that has one: a word over a gate
_LEAVING = 1.0  # s for answers under way when the service ends
_PAUSE = 0.2  # s without accepting, where the process has no descriptor left
Stamp = tuple[tuple[int, int, int] | None, ...]


class _Over(Exception):
    """The service has ended, and with it the tasks of its group."""


@asynccontextmanager
async def serving(
    view: View, address: tuple[str, int], web_config: Path | None, clock: SystemClock, *, most: int = MOST, look: float = _LOOK
) -> AsyncIterator[int]:
    """Serve while the block lasts; yields the port. Raises ConfigError where the address cannot be had, or the file is wrong."""
    guarded = _File(web_config)
    connections = Connections(clock, lambda kind: view.figures.add("self_http_dropped_total", {"kind": kind}), most)
    for kind in KINDS:
        view.figures.touch("self_http_dropped_total", {"kind": kind})
    try:
        with ExitStack() as stack:
            sockets = [stack.enter_context(one) for one in _bound(*address)]
            async with asyncio.TaskGroup() as group:
                runner = web.AppRunner(
                    _application(view, guarded, connections, clock, group), handle_signals=False, shutdown_timeout=_LEAVING
                )
                await runner.setup()
                assert runner.server is not None
                listener = _Listener(runner.server, connections, guarded, group)
                own = [group.create_task(listener.accept(one), name="http") for one in sockets]
                group.create_task(_sweep(connections), name="http sweep")
                group.create_task(guarded.watch(look), name="http web-config")
                host, port = sockets[0].getsockname()[:2]
                _tell(host, port, guarded.web)
                try:
                    yield int(port)
                finally:
                    for task in own:
                        task.cancel()
                    await runner.cleanup()
                    for connection in list(connections.open):
                        connection.drop()
                raise _Over
    except* _Over:
        pass


def _application(
    view: View, guarded: _File, connections: Connections, clock: SystemClock, group: asyncio.TaskGroup
) -> web.Application:
    pages = Pages()
    guard = Guard(view, Door(lambda: guarded.web), lambda: guarded.web, connections)
    application = web.Application(middlewares=[guard.middleware], client_max_size=_BODY)
    application.on_response_prepare.append(secured)
    health = Health(view, pages, clock, lambda: guarded.troubles)
    scrapes, probes = Scrapes(view.registry, group), Probes(view, group)
    runs, handing = RunPages(view, pages), Handing(view, group)
    application.add_routes(routes(guard, health, scrapes, probes, Gates(view, clock), runs, handing))
    return application


class _File:
    """The web-config file: what it said when it last said something right."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.troubles: list[str] = []
        self.web = Web() if path is None else read_web_config(path)
        self._seen = _stamp(self.web.files)

    async def watch(self, look: float) -> None:
        """Read it again when it, or a file it names, changes."""
        while self._path is not None:
            await asyncio.sleep(look)
            stamp = await asyncio.to_thread(_stamp, self.web.files)
            if stamp == self._seen and not self.troubles:  # what it lacks may be a file that we do not look at
                continue
            self._seen = stamp
            try:
                self.web = await asyncio.to_thread(read_web_config, self._path)
                self.troubles = []
                _log.info("%s is read again", self._path)
            except ConfigError as error:
                troubles = [f"the web-config file is not taken: {mistake}" for mistake in error.mistakes]
                if troubles != self.troubles:
                    _log.error("%s", "; ".join(troubles))
                self.troubles = troubles


def _stamp(files: Sequence[Path]) -> Stamp:
    stamps: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            stat = file.stat()
            stamps.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError:
            stamps.append(None)
    return tuple(stamps)


class _Listener:
    def __init__(self, server: web.Server, connections: Connections, guarded: _File, group: asyncio.TaskGroup) -> None:
        self._server, self._connections, self._guarded, self._group = server, connections, guarded, group

    async def accept(self, listening: socket.socket) -> None:
        loop, told = asyncio.get_running_loop(), False
        while True:
            try:
                client, _ = await loop.sock_accept(listening)
                told = False
            except ConnectionError:
                continue
            except OSError as error:
                if not told:
                    _log.warning("no connection can be taken: %s", error.strerror)
                told = True
                await asyncio.sleep(_PAUSE)
                continue
            connection = self._connections.admit()
            if connection is None:
                client.close()
            else:
                self._begin(client, connection)
            await asyncio.sleep(0)  # a thousand at once are not to hold the loop

    def _begin(self, client: socket.socket, connection: Connection) -> None:
        def ended(_: object) -> None:
            connection.handshake = None
            if not connection.taken:  # displaced before it began
                client.close()

        connection.handshake = self._group.create_task(self._serve(client, connection), name="http handshake")
        connection.handshake.add_done_callback(ended)

    async def _serve(self, client: socket.socket, connection: Connection) -> None:
        """Until the connection is made; from then on its protocol has it."""
        connection.taken = True
        loop, context = asyncio.get_running_loop(), self._guarded.web.tls
        try:
            await loop.connect_accepted_socket(
                lambda: Guarded(connection, self._connections, self._server),
                client,
                ssl=context,
                ssl_handshake_timeout=None if context is None else _HANDSHAKE,
            )
        except Exception as error:  # what goes wrong with a client must not end the service
            if not isinstance(error, OSError):
                _log.exception("a connection could not be made")
            self._connections.count("handshake")
            self._connections.gone(connection)


async def _sweep(connections: Connections) -> None:
    while True:
        await asyncio.sleep(1.0)
        connections.sweep()


def _bound(host: str, port: int) -> list[socket.socket]:
    """Listening sockets, all on one port. Raises ConfigError."""
    sockets: list[socket.socket] = []
    try:
        absent: OSError | None = None
        for family, *_, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            try:
                sockets.append(_listening(family, (where[0], sockets[0].getsockname()[1] if sockets else port, *where[2:])))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                absent = error  # localhost is two addresses, of which a machine may have one
        if absent is not None and not sockets:
            raise absent
    except (OSError, UnicodeError) as error:  # the latter: of a name that is none
        for one in sockets:
            one.close()
        raise ConfigError([Located("agent.yaml", 0, 0, "listen", _why(host, port, error))]) from error
    return sockets


def _listening(family: int, where: tuple[object, ...]) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(where)
        one.listen(_BACKLOG)
    except OSError:
        one.close()
        raise
    return one


def _why(host: str, port: int, error: OSError | UnicodeError) -> str:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(error, UnicodeError):
        return f"{host} is no host's name"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{place} is in use; end the program that has it, or choose another port (0: any)"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine; 127.0.0.1 and 0.0.0.0 always are"
        case errno.EACCES:
            return f"{place} may not be taken by this user; ports above 1023 may"
    return f"{place} cannot be listened at: {error.strerror or error}"


def _tell(host: str, port: int, guarded: Web) -> None:
    scheme = "https" if guarded.tls else "http"
    _log.info("%s://%s:%d", scheme, f"[{host}]" if ":" in host else host, port)
    if not is_loopback(host) and not guarded.authenticates:
        _log.warning(
            "anybody who reaches %s may read metrics and runs, since there is no authentication; "
            "/probe and /-/reload are answered to this machine alone. Give a web-config file (web: in agent.yaml)",
            host,
        )
