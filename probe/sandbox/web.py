"""What every request goes through, on every port: its id and span, planted faults, errors as JSON, CORS.

CORS is wide open because a browser page on another origin must be able to watch; tokens travel in headers, never in
cookies, so an open origin gives nobody else's rights away.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

from aiohttp import web
from yarl import URL

from probe.sandbox.context import PLATFORM, Platform, Room
from probe.sandbox.faults import REGIONS, Fault
from probe.sandbox.telemetry import Span, log, log_exception
from probe.sandbox.tokens import BadToken

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
F = TypeVar("F", bound=Callable[..., Any])
REQUEST_ID = web.RequestKey("request_id", str)
SPAN = web.RequestKey("span", Span)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "authorization, content-type, traceparent, tracestate, x-request-id",
    "Access-Control-Expose-Headers": "location, x-request-id, x-edge, x-cache, age",
    "Access-Control-Max-Age": "600",
}
ENDLESS = 10 * 1024**3
CANARY = "canary"  # whose token opens nothing
CANARY_PATH = "/auth/canary"


class Refused(Exception):
    """An answer that is no success: status, a word for machines, headers."""

    def __init__(self, status: int, error: str, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.error = error
        self.headers = headers or {}
        super().__init__(f"{status} {error}")


def serves(service: str) -> Callable[[F], F]:
    """Names the service a handler belongs to: for spans, logs and faults."""

    def mark(handler: F) -> F:
        handler.service = service  # type: ignore[attr-defined]
        return handler

    return mark


def refused_answer(refused: Refused) -> web.Response:
    return web.json_response({"error": refused.error}, status=refused.status, headers=refused.headers)


def front(default_service: str, faulty: bool) -> Any:
    """The middleware of one port. `faulty`: planted service faults act on it."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        platform = request.app[PLATFORM]
        named = request.headers.get("X-Request-ID", "")
        request_id = request[REQUEST_ID] = named if _REQUEST_ID.fullmatch(named) else secrets.token_hex(8)
        service = getattr(request.match_info.handler, "service", default_service)
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "unknown"
        span = platform.telemetry.span(service, f"{request.method} {route}", headers=request.headers, server=True)
        span.set(http__request__method=request.method, http__route=route, request_id=request_id)
        request[SPAN] = span
        status = 499  # the caller left
        try:
            try:
                if faulty and (_cut_off(platform, request, default_service) or platform.faults.hit("down", service=service)):
                    return _closed(request)
                spoiled = await _service_faults(platform, request, service) if faulty and request.method != "OPTIONS" else None
                response = spoiled or (web.Response(status=204) if request.method == "OPTIONS" else await handler(request))
            except Refused as refused:
                response = refused_answer(refused)
            except web.HTTPException as error:
                response = refused_answer(Refused(error.status, error.reason.lower().replace(" ", "_")))
            except Exception:
                log_exception("a handler broke", service=service, request_id=request_id, trace_id=span.trace_id)
                response = refused_answer(Refused(500, "internal"))
            if not response.prepared:
                response.headers.update(CORS | {"X-Request-ID": request_id})
            status = response.status
            return response
        finally:
            span.set(http__response__status_code=status)
            span.end(error=status >= 500)
            said = f"{request.method} {route} {status}"
            log(said, service=service, request_id=request_id, trace_id=span.trace_id, status=status)

    return middleware


def _cut_off(platform: Platform, request: web.Request, port: str) -> Fault | None:
    """The fault that lets nobody from there reach us here, if one does."""
    faults = platform.faults
    region = next((name for name, edge in REGIONS.items() if edge == port), "")
    if region and (fault := faults.hit("edge_down", edge=port) or faults.hit("region_isolated", region=region)):
        platform.fallen[port] = platform.clock.wall().unix_ns
        return fault
    return faults.hit("region_isolated", region=request.query.get("region", ""))


def _closed(request: web.Request) -> web.Response:
    """No answer: the connection is closed, and what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


async def _service_faults(platform: Platform, request: web.Request, service: str) -> web.StreamResponse | None:
    """What a planted fault answers in the service's place, if it does."""
    faults = platform.faults
    where = {"service": service, "room": request.match_info.get("room", "")}
    if killed := faults.hit("killed", on=service, room=where["room"]):
        platform.restart(killed["down"])
        await hang(platform)
    if fault := faults.hit("delay", **where):
        await asyncio.sleep(fault["seconds"])
    if faults.hit("hang", **where):
        await hang(platform)
    if (fault := faults.acting("redirect", **where)) and (location := _elsewhere(fault, platform, request)):
        faults.hit("redirect", **where)
        return web.Response(status=307, headers={"Location": location})
    if fault := faults.hit("refuse", **where):
        return _refusal(fault)
    if (fault := faults.acting("not_back", **where)) and fault.starts < platform.began:
        return _refusal(fault)
    if service not in ("hls", "ll-hls") and faults.hit("endless", **where):
        return await endless(request, "application/json")
    return None


def _elsewhere(fault: Fault, platform: Platform, request: web.Request) -> str | None:
    """Where a redirect sends to; None for who is there already."""
    origin = URL(fault["to"] or platform.config.url("main").replace(platform.config.host, "localhost")).origin()
    return None if request.url.origin() == origin else str(origin.with_path(request.path).with_query(request.query_string))


def _refusal(fault: Fault) -> web.Response:
    status = int(fault["status"])
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'} if status == 401 else {}
    if fault["body"] == "html":
        page = f"<!doctype html><html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
        return web.Response(status=status, text=page, content_type="text/html", headers=headers)
    return web.json_response({"error": "planted"}, status=status, headers=headers)


async def hang(platform: Platform) -> NoReturn:
    """Answer nothing until the caller leaves or the server ends."""
    await platform.stopping.wait()
    raise Refused(503, "stopping")


async def endless(request: web.Request, content_type: str) -> web.StreamResponse:
    """10 GB of spaces, as fast as they are taken."""
    response = web.StreamResponse(headers={"Content-Type": content_type, "Content-Length": str(ENDLESS), **CORS})
    await response.prepare(request)
    block = b" " * 65536
    for _ in range(ENDLESS // len(block)):
        await response.write(block)
    return response


def caller(request: web.Request, query: bool = False) -> str:
    """Whose bearer token came with it; `query`: `?access_token=` will do. Raises Refused(401), RFC 6750 section 3."""
    platform = request.app[PLATFORM]
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = request.query.get("access_token", "") if query else ""
    if not token:
        raise Refused(401, "no_token", {"WWW-Authenticate": "Bearer"})
    try:
        user = platform.user_of(token)
    except BadToken as error:
        challenge = f'Bearer error="invalid_token", error_description="{error.reason}"'
        raise Refused(401, f"token_{error.reason}", {"WWW-Authenticate": challenge}) from None
    if user == CANARY and request.path != CANARY_PATH:
        raise Refused(403, "canary")
    return user


def room_of(request: web.Request) -> Room:
    """The room in the path. Raises Refused(404)."""
    room = request.app[PLATFORM].rooms.get(request.match_info["room"])
    if room is None:
        raise Refused(404, "no_room")
    return room


def rejoins(request: web.Request, room: Room) -> None:
    """Whoever wants to watch passes here. Raises Refused(403) where it is planted that nobody may come back."""
    if room.live.put_out and request.app[PLATFORM].faults.hit("rejoin_refused", room=room.id):
        raise Refused(403, "not_again")


async def fields(request: web.Request, **kinds: type) -> dict[str, Any]:
    """The JSON object sent, holding at least `kinds`; strings of at most 256 characters. Raises Refused(400)."""
    try:
        data = await request.json() if request.can_read_body else {}
    except ValueError:
        raise Refused(400, "not_json") from None
    if not isinstance(data, dict):
        raise Refused(400, "not_an_object")
    for name, kind in kinds.items():
        value = data.get(name)
        if type(value) is not kind or (isinstance(value, str) and not 0 < len(value) <= 256):
            raise Refused(400, f"bad_{name}")
    return data
