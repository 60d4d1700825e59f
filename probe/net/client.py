"""The timed HTTP client: every request the probe makes goes through here.

It times what happens in stages, follows redirects itself (a library's own redirects would carry secrets along and hide
hops), bounds everything a server sends, refuses addresses a server had no business naming, and turns every way it can
fail into one (phase, reason). Each exchange, hops included, is recorded as a RequestDone with the edge that answered.
Every request carries `traceparent` (W3C trace context) and `X-Request-ID`. No cookies, no proxies of the environment,
no HTTP/2, no retry except once where an idle connection turned out to be closed.
"""

from __future__ import annotations

import asyncio
import functools
import json as jsonlib
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp

from probe.errors import Failure
from probe.model.clock import Clock
from probe.model.observation import RequestDone
from probe.model.stage import Phase, Stage, StageTimer
from probe.net.addresses import AddressPolicy, bare
from probe.net.call import Call
from probe.net.connector import StagedConnector, default_tls, opening
from probe.net.credential import Credential, origin_of
from probe.net.dial import Dial
from probe.net.exchange import Answer, Streaming
from probe.net.lookup import ADDRESSES, Found, Lookup
from probe.net.redact import Redactor
from probe.net.redirects import STATUSES, Hop, parse
from probe.net.sockets import goodbye

__all__ = ["AddressPolicy", "Answer", "Client", "Credential", "Dial", "Streaming", "origin_of"]

MIB = 1 << 20
TIMEOUT_SECONDS = 10.0
USER_AGENT = "stream-probe (synthetic)"
_LINE, _FIELD, _FIELDS = 8 * 1024, 16 * 1024, 100

_SECRET_LENGTH = 4


def _ignore(_: RequestDone) -> None:
    pass


class _Pool:
    """Connections over one way; opened at the first request, because a session belongs to a running loop."""

    def __init__(self, clock: Clock, lookup: Lookup, dial: Dial | None, tls: ssl.SSLContext) -> None:
        self._make = functools.partial(StagedConnector, clock, lookup, dial, tls)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("this client was closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._make(),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                auto_decompress=False,
                max_line_size=_LINE,
                max_field_size=_FIELD,
                max_headers=_FIELDS,
                middlewares=(_noting_status,),
            )
            # Its silent second try of a GET would hide a server that drops connections.
            self._session._retry_connection = False
        return self._session

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None


def _strings(sent: Any) -> Iterator[str]:
    """Every string of a JSON body that might be a password: an error answer may quote it back."""
    match sent:
        case str() if len(sent) >= _SECRET_LENGTH:
            yield sent
        case dict():
            for value in sent.values():
                yield from _strings(value)
        case list() | tuple():
            for value in sent:
                yield from _strings(value)
        case _:
            pass


async def _noting_status(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keeps status and headers for the record; stops `ws_connect` from following redirects on its own terms."""
    response = await handler(request)
    mark = opening.get()
    mark.status, mark.headers = response.status, response.headers
    if mark.websocket and response.status in STATUSES:
        response.close()
        raise Failure(mark.phase, "redirect_refused", "a WebSocket handshake was redirected")
    return response


class Client:
    """Shared by a run; `using` gives the same client with another attribution. Close the one that was constructed."""

    def __init__(
        self,
        *,
        clock: Clock,
        trace_id: str,
        new_span: Callable[[], str],
        on_request: Callable[[RequestDone], None] = _ignore,
        allow: AddressPolicy | None = None,
        dial: Dial | None = None,
        user_agent: str = USER_AGENT,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`allow` None: public addresses only. `headers` go with every request, to every origin: nothing secret there.
        `tls` None: the system's authorities. The attribute `tls` trusts the same, for protocols that are not HTTP."""
        self.clock = clock
        self.allow = allow or AddressPolicy()
        self._trace_id = trace_id
        self._new_span = new_span
        self._on_request = on_request
        self._headers = {"User-Agent": user_agent, "Accept-Encoding": "identity", **(headers or {})}
        self._tls = tls or default_tls("http/1.1")
        self.tls = tls or default_tls()
        self._dial = dial
        self._parent_span = ""
        self._service = ""
        self._lookup = Lookup(allow=self.allow)
        self._reached: Callable[[str], None] | None = None
        self._pool = _Pool(clock, self._lookup, dial, self._tls)
        self._pools = [self._pool]  # of the whole family
        self._owns = True

    def using(
        self,
        *,
        parent_span: str | None = None,
        service: str | None = None,
        on_request: Callable[[RequestDone], None] | None = None,
        dial: Dial | None = None,
        own_pool: bool = False,
        family: str | None = None,
        pin: str | None = None,
        pinned: str = "",
        reached: Callable[[str], None] | None = None,
    ) -> Client:
        """The same client, attributed to another span or service. With `dial`, or `own_pool` as a person of its own, it
        has its own connections (over this client's dial, unless given another); `close` closes those and no others.

        `family` (any, ipv4, ipv6) and `pin`, the only address of the host `pinned` (empty: of every host), say where it may
        connect to, on connections of its own; host name, SNI and Host header stay. `reached` is told the far address of each
        connection opened."""
        other = Client.__new__(Client)
        other.__dict__.update(self.__dict__)
        if parent_span is not None:
            other._parent_span = parent_span
        if service is not None:
            other._service = service
        other._on_request = on_request or self._on_request
        other._reached = reached or self._reached
        if family is not None:
            other._lookup = replace(other._lookup, family=family)
        if pin is not None:
            other._lookup = replace(other._lookup, pin=pin, pinned=bare(pinned))
        other._owns = own_pool or dial is not None or other._lookup != self._lookup
        if other._owns:
            other._dial = dial or self._dial
            other._pool = _Pool(self.clock, other._lookup, other._dial, self._tls)
            self._pools.append(other._pool)
        return other

    async def resolve(
        self, host: str, port: int, *, stages: StageTimer | None = None, phase: Phase, most: int = ADDRESSES
    ) -> Found:
        """(ip, port) of `host` that may be connected to: policy, family and pin applied, at most `most`. RESOLVE is entered in
        `stages` where there is a name to look up. Raises Failure: resolve/…, (phase, address_refused)."""

        def looking() -> None:
            if stages is not None:
                stages.enter(Stage.RESOLVE, self.clock.now())

        return await self._lookup.addresses(host, port, phase=phase, looking=looking, most=most)

    def reached(self, ip: str) -> None:
        """For protocols that open their own sockets: the far address of a connection that was opened."""
        if self._reached is not None:
            self._reached(ip)

    def new_request_id(self) -> str:
        return f"{self._trace_id[-16:]}-{self._new_span()}"

    async def request(
        self,
        method: str,
        url: str,
        *,
        purpose: str,
        phase: Phase,
        json: Any = None,
        body: bytes | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        credential: Credential | None = None,
        ok: Collection[int] | None = None,
        limit: int = MIB,
        stages: StageTimer | None = None,
        stage: Stage | None = None,
        redirects: bool = True,
        timeout: float = TIMEOUT_SECONDS,
        request_id: str | None = None,
    ) -> Answer:
        """One call and its whole answer, redirects followed, within `timeout` seconds altogether.

        RESOLVE, CONNECT and TLS are entered in `stages` as they happen, then `stage` when the request is written. Raises
        Failure: http_NNN for a status not in `ok` (None: 2xx; 401 and 403 are of phase AUTH), and everything a network
        does. `phase` must be one of an exchange."""
        async with self.stream(
            method, url, purpose=purpose, phase=phase, json=json, body=body, content_type=content_type, headers=headers,
            credential=credential, ok=ok, limit=limit, stages=stages, stage=stage, redirects=redirects, timeout=timeout,
            request_id=request_id,
        ) as answer:  # fmt: skip
            content = await answer.read()
            return Answer(
                status=answer.status, headers=answer.headers, body=content, url=answer.url, request_id=answer.request_id,
                edge=answer.edge, cache=answer.cache, began=answer.began, took=self.clock.now() - answer.began, phase=phase,
            )  # fmt: skip

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        purpose: str,
        phase: Phase,
        json: Any = None,
        body: bytes | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        credential: Credential | None = None,
        ok: Collection[int] | None = None,
        limit: int = MIB,
        stages: StageTimer | None = None,
        stage: Stage | None = None,
        redirects: bool = True,
        timeout: float = TIMEOUT_SECONDS,
        request_id: str | None = None,
    ) -> AsyncIterator[Streaming]:
        """As `request`, with the body still to come. Leaving early closes the connection. Its RequestDone is recorded at
        the end of the body, or at leaving."""
        deadline = asyncio.get_running_loop().time() + timeout
        began = self.clock.now()
        if json is not None:
            body, content_type = jsonlib.dumps(json, allow_nan=False).encode(), content_type or "application/json"
        hop = Hop(
            method=method.upper(), url=parse(url, phase), headers=dict(headers or {}), body=body, content_type=content_type,
            credential=credential,
        )  # fmt: skip
        call = self._call(hop, purpose, phase, stages, stage, deadline, request_id, json)
        response, exchange, final = await call.walk(hop, ok, redirects)
        try:
            yield Streaming(response, final, exchange, clock=self.clock, phase=phase, limit=limit, deadline=deadline, began=began)
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()
            self._on_request(exchange.done(self.clock.now()))

    @asynccontextmanager
    async def websocket(
        self,
        url: str,
        *,
        purpose: str,
        phase: Phase,
        credential: Credential | None = None,
        headers: Mapping[str, str] | None = None,
        stages: StageTimer | None = None,
        stage: Stage | None = None,
        max_message: int = 64 * 1024,
        timeout: float = TIMEOUT_SECONDS,
        request_id: str | None = None,
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket (RFC 6455), its handshake within `timeout` seconds; larger messages than `max_message` bytes close it
        with 1009. Pings are sent and answered. Raises Failure as `request` does; redirects are refused. RequestDone covers
        the handshake."""
        deadline = asyncio.get_running_loop().time() + timeout
        hop = Hop(method="GET", url=parse(url, phase), headers=dict(headers or {}), credential=credential)
        call = self._call(hop, purpose, phase, stages, stage, deadline, request_id)
        socket = await call.shake_hands(hop, max_message)
        try:
            yield socket
        finally:
            await goodbye(socket)

    def _call(
        self, hop: Hop, purpose: str, phase: Phase, stages: StageTimer | None, stage: Stage | None, deadline: float,
        request_id: str | None, sent: Any = None,
    ) -> Call:  # fmt: skip
        token = hop.credential.token if hop.credential else ""
        return Call(
            session=self._pool.session, clock=self.clock, on_request=self._on_request, defaults=self._headers,
            trace_id=self._trace_id, new_span=self._new_span, parent_span=self._parent_span, service=self._service,
            purpose=purpose, phase=phase, request_id=request_id or self.new_request_id(), stages=stages, stage=stage,
            redactor=Redactor(token, *_strings(sent)), deadline=deadline, reached=self._reached, lookup=self._lookup,
        )  # fmt: skip

    async def close(self) -> None:
        """Close the connections this client owns; of the constructed one, those of all made from it."""
        if self._owns:
            for pool in list(self._pools) if self._pool is self._pools[0] else [self._pool]:
                await pool.close()
                if pool is not self._pools[0]:
                    self._pools.remove(pool)
