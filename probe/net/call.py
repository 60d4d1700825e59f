"""One call of a caller, as the exchanges it takes: attribution, the deadline, redirects, and refusals turned into reasons."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from probe.errors import Failure
from probe.model.clock import Clock
from probe.model.ids import traceparent
from probe.model.observation import RequestDone
from probe.model.outcome import http_reason
from probe.model.stage import Phase, Stage, StageTimer
from probe.model.text import CUT, quoted
from probe.net import errors, redirects
from probe.net.connector import Opening, opening
from probe.net.exchange import Exchange, recorded
from probe.net.lookup import Lookup
from probe.net.redact import Redactor
from probe.net.redirects import Hop

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_GOODBYE_SECONDS = 1.0
_PING_SECONDS = 10.0
_ERROR_BODY = 8 * 1024
_ERROR_BODY_SECONDS = 1.0
_SHORTEST_TOKEN = 8
_QUOTED = 160  # of it, for people
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_BROKEN = re.compile(r"[\x00-\x20\x7f]")  # no control character in a header: it would begin another

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is the same for every hop. `deadline` is on the loop's clock."""

    session: aiohttp.ClientSession
    clock: Clock
    on_request: Callable[[RequestDone], None]
    defaults: Mapping[str, str]
    trace_id: str
    new_span: Callable[[], str]
    parent_span: str
    service: str
    purpose: str
    phase: Phase
    request_id: str
    redactor: Redactor
    stages: StageTimer | None
    stage: Stage | None
    deadline: float
    reached: Callable[[str], None] | None = None
    lookup: Lookup

    async def walk(self, hop: Hop, ok: Collection[int] | None, follow: bool) -> tuple[aiohttp.ClientResponse, Exchange, URL]:
        """From hop to hop until a wanted answer begins; its exchange is still to be recorded by whoever reads the body."""
        seen = {(hop.method, hop.url)}
        while True:
            exchange = self._exchange(hop)
            response: aiohttp.ClientResponse | None = None
            try:
                response = await self._attempt(hop, exchange, functools.partial(self._send, hop))
                location = response.headers.get("Location")
                if not (follow and response.status in redirects.STATUSES and location is not None):
                    if not _wanted(response.status, ok):
                        raise await self._refused(response, exchange)
                    return response, exchange, hop.url
                # What came along with the headers is read, and the connection kept if that was all.
                exchange.size = len(response.content.read_nowait())
                response.release()
                hop = redirects.follow(hop, response.status, location, self.phase)
                if (hop.method, hop.url) in seen or len(seen) > redirects.MOST:
                    raise Failure(self.phase, "redirect_loop", f"after {len(seen)} redirects")
                seen.add((hop.method, hop.url))
            except BaseException as error:
                if response is not None:
                    response.close()
                self._record(exchange, error)
                raise
            self._record(exchange)

    async def _send(self, hop: Hop, headers: dict[str, str]) -> aiohttp.ClientResponse:
        return await self.session.request(hop.method, hop.url, data=hop.body, headers=headers, allow_redirects=False)

    async def shake_hands(self, hop: Hop, max_message: int) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket open, its handshake recorded."""
        exchange = self._exchange(hop)
        try:
            socket = await self._attempt(hop, exchange, lambda headers: self.session.ws_connect(
                hop.url, headers=headers, max_msg_size=max_message, heartbeat=_PING_SECONDS,
                timeout=aiohttp.ClientWSTimeout(ws_close=_GOODBYE_SECONDS),
            ), websocket=True)  # fmt: skip
        except BaseException as error:
            self._record(exchange, error)
            raise
        self._record(exchange)
        return socket

    async def _attempt(
        self, hop: Hop, exchange: Exchange, send: Callable[[dict[str, str]], Awaitable[T]], websocket: bool = False
    ) -> T:
        """Send until the headers of an answer are there; once more where an idle connection turned out to be closed."""
        headers = self._headers(hop, exchange)
        mark = Opening(self.phase, self.stages, self.stage, websocket=websocket, reached=self.reached)
        token = opening.set(mark)
        try:
            with errors.mapped(self.phase):
                async with asyncio.timeout_at(self.deadline):
                    try:
                        return await send(headers)
                    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                        if mark.fresh or hop.method not in _IDEMPOTENT:
                            raise
                        return await send(headers)
        except Failure as failure:
            if isinstance(failure.__cause__, aiohttp.WSServerHandshakeError):
                raise self._refusal(mark.status, mark.headers, "") from failure
            if isinstance(failure.__cause__, TimeoutError) and mark.step is not self.phase:
                raise Failure(mark.step, "timeout") from failure
            raise
        finally:
            opening.reset(token)
            if mark.status:
                exchange.answered(mark.status, mark.headers)
                if self.redactor.redact(exchange.edge) != exchange.edge:
                    exchange.edge = ""  # a label that quotes a token names no edge

    def _headers(self, hop: Hop, exchange: Exchange) -> dict[str, str]:
        headers = {**self.defaults, **hop.headers}
        if hop.body is not None and hop.content_type is not None:
            headers["Content-Type"] = hop.content_type
        if hop.token is not None:
            headers["Authorization"] = f"Bearer {hop.token}"
        if any(_BROKEN.search(name) or _BROKEN.search(value.replace(" ", "")) for name, value in headers.items()):
            raise Failure(Phase.AUTH if hop.token else self.phase, "malformed", "a header or token holds what no header may")
        return {**headers, "traceparent": traceparent(self.trace_id, exchange.span_id), "X-Request-ID": self.request_id}

    def _exchange(self, hop: Hop) -> Exchange:
        return Exchange(
            service=self.service, purpose=self.purpose, method=hop.method, url=recorded(hop.url, self.redactor),
            request_id=self.request_id, span_id=self.new_span(), parent_span_id=self.parent_span, began=self.clock.now(),
            edge=self.lookup.pin_of(hop.url.raw_host or ""),
        )  # fmt: skip

    def _record(self, exchange: Exchange, error: BaseException | None = None) -> None:
        if isinstance(error, Failure):
            exchange.failure = error.outcome
        self.on_request(exchange.done(self.clock.now()))

    async def _refused(self, response: aiohttp.ClientResponse, exchange: Exchange) -> Failure:
        """The Failure of an unwanted status, with what its body says about it, read within bounds."""
        body = b""
        until = min(self.deadline, asyncio.get_running_loop().time() + _ERROR_BODY_SECONDS)
        with suppress(aiohttp.ClientError, OSError):  # the status is the answer; its body is a courtesy
            async with asyncio.timeout_at(until):
                while len(body) < _ERROR_BODY and (piece := await response.content.read(_ERROR_BODY - len(body))):
                    body += piece
        exchange.size = len(body)
        whole, kind = response.content.at_eof(), response.headers.get("Content-Type", "")
        response.release()
        said = "" if "Content-Encoding" in response.headers else _said(body, whole, kind)
        said = Redactor(*_in_query(response.url)).redact(self.redactor.redact(said))
        return self._refusal(response.status, response.headers, quoted(said, _QUOTED))

    def _refusal(self, status: int, headers: Mapping[str, str], said: str) -> Failure:
        if status in (401, 403):
            challenge = headers.get("WWW-Authenticate", "").lower()
            expired = status == 401 and "invalid_token" in challenge and "expired" in challenge  # RFC 6750 §3.1
            return Failure(Phase.AUTH, "token_expired" if expired else http_reason(status), said)
        if status < 300:
            return Failure(self.phase, "protocol", f"{status} where another success was expected")
        return Failure(self.phase, http_reason(status), said)


def _in_query(url: URL) -> list[str]:
    """What of a query an answer may quote and nobody should read: signatures and tokens are long."""
    return [part for part in (url.raw_query_string, *url.query.values()) if len(part) >= _SHORTEST_TOKEN]


def _wanted(status: int, ok: Collection[int] | None) -> bool:
    return 200 <= status < 300 if ok is None else status in ok


def _said(body: bytes, whole: bool, content_type: str) -> str:
    """One line of what an error body says: a problem's title (RFC 9457), a usual member of JSON, or a line of plain text."""
    kind = content_type.partition(";")[0].strip().lower()
    text = body.decode("utf-8", "replace")
    if not whole:
        text = text.rstrip("\ufffd") + CUT
    if kind.endswith("json"):
        try:
            data: Any = json.loads(text)
        except (ValueError, RecursionError):
            return ""
        members = data if isinstance(data, dict) else {}
        said = next((v for k in ("title", "error", "code", "message", "detail") if isinstance(v := members.get(k), str)), "")
        text = said.encode("utf-8", "replace").decode()  # JSON can say half a character, and nobody can write it down
    elif kind != "text/plain":
        return ""
    return _SPACE.sub(" ", text).strip()
