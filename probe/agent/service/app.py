"""The routes, and what stands before each: who asks, how long it may take, what is said where it goes wrong.

Every answer is sent by us, inside the time a client has to read it; an exception becomes a page that repeats nothing of the
request. What sets something going (`/probe`, `/-/reload`, a run that is handed over, a word over a gate) is for those whom we
know, or for this machine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from probe.agent.service.answer import SECURITY, SENDING, Answer, Refuse, line, plain, send
from probe.agent.service.auth import KNOWN, Door, from_another_site, from_here
from probe.agent.service.connections import Connection, Connections, Guarded
from probe.agent.service.gate import Gates
from probe.agent.service.handing import Handing
from probe.agent.service.health import Health
from probe.agent.service.metrics import Scrapes
from probe.agent.service.probing import Probes
from probe.agent.service.runs import RunPages, unread
from probe.agent.service.view import View
from probe.agent.service.web_config import Web
from probe.store.errors import StoreError

_log = logging.getLogger(__name__)
HANDLING = 20.0  # s for everything but a probe, whose run has a deadline, and a reload
_OPEN = ("/healthz", "/readyz")
_UNHURRIED = ("/probe", "/-/reload")
_ACTS = (*_UNHURRIED, "/gate/{name}/override", "/-/runs/{id}")
Answering = Callable[[web.Request], Awaitable[Answer]]


def routes(
    guard: Guard, health: Health, scrapes: Scrapes, probes: Probes, gates: Gates, runs: RunPages, handing: Handing
) -> list[web.RouteDef]:
    """Every address there is."""
    get: dict[str, Answering] = {
        "/": health.index,
        "/metrics": scrapes.answer,
        "/runs": runs.list,
        "/runs/{id}": runs.one,
        "/healthz": health.alive,
        "/readyz": health.ready,
        "/gate/{name}": gates.answer,
        "/probe": probes.answer,
    }
    found = [web.get(path, guard.handler(answering), allow_head=path != "/probe") for path, answering in get.items()]
    return [
        *found,
        web.post("/gate/{name}", guard.handler(gates.answer)),
        web.post("/gate/{name}/override", guard.handler(gates.override)),
        web.delete("/gate/{name}/override", guard.handler(gates.clear)),
        web.put("/-/runs/{id}", guard.handler(handing.answer)),
        web.route("*", "/-/reload", guard.handler(health.reload)),
    ]


class Guard:
    """What stands before every handler."""

    def __init__(self, view: View, door: Door, web_config: Callable[[], Web], connections: Connections) -> None:
        self._view, self._door, self._web, self._connections = view, door, web_config, connections

    @property
    def middleware(self) -> Middleware:
        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            connection = _connection(request)
            self._connections.begins(connection)
            try:
                try:
                    return await handler(request)
                except web.HTTPException as error:  # the router's: no such page, not that method
                    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
                    answer = Answer(plain(error.status).body, status=error.status, headers=allow)
                    return await self._send(request, answer)
            finally:
                self._connections.ends(connection)

        return guarded

    def handler(self, answering: Answering) -> Handler:
        """What aiohttp calls."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._send(request, await self._answer(request, answering))

        return handle

    async def _answer(self, request: web.Request, answering: Answering) -> Answer:
        route = request.match_info.route.resource
        path = route.canonical if route is not None else ""
        try:
            async with asyncio.timeout(None if path in _UNHURRIED else HANDLING):
                await self._admit(request, path)
                return await answering(request)
        except Refuse as refused:
            return refused.answer
        except StoreError as error:
            return unread(error)
        except TimeoutError:
            return line(503, f"no answer within {HANDLING:g} s", {"Retry-After": "5"})
        except Exception:
            _log.exception("%s could not be answered", path)
            return plain(500)

    async def _admit(self, request: web.Request, path: str) -> None:
        """Raises Refuse."""
        known = await self._door.knows(request)
        request[KNOWN] = known or not self._door.asks()
        if not request[KNOWN] and path not in _OPEN:
            raise Refuse(401, "who asks?", {"WWW-Authenticate": 'Basic realm="stream-probe", charset="UTF-8"'})
        if path in _ACTS:
            if from_another_site(request):
                raise Refuse(403, "a page of another site may not ask for this")
            if not known and not from_here(request):
                words = "without authentication only this machine may ask for this; give a web-config file (web: in agent.yaml)"
                raise Refuse(403, words)

    async def _send(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        self._connections.sends(_connection(request))
        self._view.figures.add("self_http_requests_total", {"class": f"{answer.status // 100}xx"})
        try:
            return await send(request, answer, self._web().headers)
        except TimeoutError:
            self._connections.count("slow_reader")
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError(f"the client took more than {SENDING:g} s to read") from None


def _connection(request: web.Request) -> Connection:
    protocol = request.protocol
    assert isinstance(protocol, Guarded)
    return protocol.connection


async def secured(_: web.Request, response: web.StreamResponse) -> None:
    """What aiohttp answers by itself (an Expect that nobody knows, which it repeats) is not to be taken for a page either."""
    for name, value in SECURITY.items():
        if name == "Server" or name not in response.headers:
            response.headers[name] = value
