"""Opening a connection in exact stages: resolve, connect, TLS.

aiohttp's tracing knows no TLS event and its own connector retries and caches lookups inside. So `BaseConnector`'s
one hook is filled here: look up and check the addresses (`lookup`), connect (`dial`), then TLS on the connected socket with the
host's name. A TLS failure is final; another address is not tried, for it would hide a broken server.
Neither proxies nor UNIX sockets.
"""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from probe.model.clock import Clock
from probe.model.stage import Phase, Stage, StageTimer
from probe.net import errors
from probe.net.dial import TLS_GOODBYE_SECONDS, Dial, reach
from probe.net.lookup import Lookup

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientTimeout
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

_IDLE_SECONDS = 4.0  # servers close idle connections from 5 s on; a POST must not meet one that is just closing


@dataclass(slots=True)
class Opening:
    """How far the connection for one exchange is. `step` is the phase a deadline would hit now."""

    phase: Phase
    stages: StageTimer | None
    stage: Stage | None
    step: Phase = field(init=False)
    websocket: bool = False
    fresh: bool = False  # this exchange opened its connection
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    reached: Callable[[str], None] | None = None  # told the far address of a connection that was opened

    def __post_init__(self) -> None:
        self.step = self.phase


opening: ContextVar[Opening] = ContextVar("opening")


@functools.cache
def default_tls(*protocols: str) -> ssl.SSLContext:
    """Verifies against the system's authorities (or SSL_CERT_FILE) and offers these protocols (ALPN), or none; made once, it
    costs milliseconds."""
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


class StagedConnector(aiohttp.BaseConnector):
    """A pool of connections; marks the stages of those it opens on the exchange that asked."""

    def __init__(self, clock: Clock, lookup: Lookup, dial: Dial | None, tls: ssl.SSLContext) -> None:
        super().__init__(keepalive_timeout=_IDLE_SECONDS, limit=0)
        self._clock = clock
        self._lookup = lookup
        self._dial = dial
        self._tls = tls

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        connection = await super().connect(req, traces, timeout)
        mark = opening.get()
        mark.step = mark.phase
        if mark.stages is not None and mark.stage is not None:
            mark.stages.enter(mark.stage, self._clock.now())
        return connection

    async def _create_connection(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> ResponseHandler:
        host, port = req.url.raw_host, req.url.port
        assert host is not None and port is not None
        mark = opening.get()
        mark.fresh = True
        addresses = await self._lookup.addresses(host, port, phase=mark.phase, looking=lambda: self._enter(mark, Stage.RESOLVE))
        self._enter(mark, Stage.CONNECT)
        sock = await reach(host, addresses, self._dial, mark.reached)
        return await self._speak(sock, host, req.is_ssl(), mark)

    def _enter(self, mark: Opening, stage: Stage) -> None:
        mark.step = Phase(stage.value)
        if mark.stages is not None:
            mark.stages.enter(stage, self._clock.now())

    async def _speak(self, sock: socket.socket, host: str, secure: bool, mark: Opening) -> ResponseHandler:
        secured: dict[str, Any] = {}
        if secure:
            self._enter(mark, Stage.TLS)
            secured = {"ssl": self._tls, "server_hostname": host.rstrip("."), "ssl_shutdown_timeout": TLS_GOODBYE_SECONDS}
        try:
            _, protocol = await self._loop.create_connection(self._factory, sock=sock, **secured)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                failure = errors.of_tls(error) if secure else errors.of_connecting(error)
                if failure is not None:
                    raise failure from error
            raise
        return protocol
