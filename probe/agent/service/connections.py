"""The connections that are open, and which of them must go.

There are at most `MOST`. Who comes then takes the place of the one that has been idle longest, or has not taken its answer for
`PATIENCE` seconds, so that a thousand connections that say nothing, or do not listen, do not keep a scrape out; where there is
none the newcomer is closed at once. A client has `HEADERS` seconds for its first request and may stay for `IDLE` after its last.
Each connection that is closed on a client is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from aiohttp import web

from probe.agent.service.answer import SECURITY
from probe.model.clock import NS, Clock

MOST = 512
HEADERS = 10.0
IDLE = 75.0
PATIENCE = 3.0
MAX_LINE = 8190  # request line, and each header
MAX_HEADERS = 64
KINDS = ("full", "displaced", "slow_request", "idle", "slow_reader", "handshake", "malformed")


class Connection:
    """One client's. `busy`: it is being answered; `sending`: and is to read; `since`: monotonic ns of when that began, or of its
    beginning or last answer where it is not."""

    __slots__ = ("busy", "handshake", "sending", "served", "since", "taken", "transport")

    def __init__(self, since: int) -> None:
        self.since = since
        self.busy = self.sending = False
        self.served = 0
        self.transport: asyncio.Transport | None = None
        self.handshake: asyncio.Task[None] | None = None
        self.taken = False  # the loop has its socket

    def drop(self) -> None:
        """Without waiting for anybody to read."""
        if self.transport is not None:
            self.transport.abort()
        elif self.handshake is not None:
            self.handshake.cancel()


class Connections:
    """`count` is told why a connection was closed on its client: one of KINDS."""

    def __init__(self, clock: Clock, count: Callable[[str], None], most: int = MOST) -> None:
        self._clock, self._most = clock, most
        self.count = count
        self.open: set[Connection] = set()

    def admit(self) -> Connection | None:
        """A place for a newcomer; None where there is none."""
        now = self._clock.now()
        if len(self.open) >= self._most:
            slow = now - int(PATIENCE * NS)
            least = min((c for c in self.open if not c.busy or (c.sending and c.since < slow)), key=_rank, default=None)
            if least is None:
                self.count("full")
                return None
            self._close(least, "slow_reader" if least.busy else "displaced")
        connection = Connection(now)
        self.open.add(connection)
        return connection

    def begins(self, connection: Connection) -> None:
        """It has sent a request."""
        connection.busy = True

    def sends(self, connection: Connection) -> None:
        """Its answer is ready."""
        connection.sending = True
        connection.since = self._clock.now()

    def ends(self, connection: Connection) -> None:
        """It has its answer."""
        connection.busy = connection.sending = False
        connection.served += 1
        connection.since = self._clock.now()

    def gone(self, connection: Connection) -> None:
        self.open.discard(connection)

    def sweep(self) -> None:
        """Close those that have been silent too long; ask each second."""
        now = self._clock.now()
        for connection in [c for c in self.open if not c.busy]:
            silent = (now - connection.since) / NS
            closing = connection.transport is not None and connection.transport.is_closing()
            if not connection.served and silent > HEADERS:
                self._close(connection, "slow_request")
            elif closing and silent > HEADERS:  # and does not take what it still has to get
                self._close(connection, "slow_reader")
            elif silent > IDLE:
                self._close(connection, "idle")

    def _close(self, connection: Connection, kind: str) -> None:
        self.open.discard(connection)
        self.count(kind)
        connection.drop()


def _rank(connection: Connection) -> tuple[bool, int]:
    """Idle ones go first, the oldest first."""
    return connection.busy, connection.since


class Guarded(web.RequestHandler):
    """aiohttp's side of a connection, which tells when it is over and answers what is no HTTP without repeating it."""

    __slots__ = ("_connections", "connection")

    def __init__(self, connection: Connection, connections: Connections, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # what turns it off
            keepalive_timeout=IDLE + 5,  # the sweep comes first, and counts
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            lingering_time=2.0,
        )
        self.connection, self._connections = connection, connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connection.transport = cast(asyncio.Transport, transport)  # uvloop's are none by name
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.gone(self.connection)
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Of a request that aiohttp could not read: its own page would show a part of it."""
        self._connections.count("malformed")
        if request.writer.output_size > 0:
            raise ConnectionError("the answer was under way")
        response = web.Response(status=status, text=f"{status} {HTTPStatus(status).phrase}\n", headers=SECURITY)
        response.force_close()
        return response
