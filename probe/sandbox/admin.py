"""The platform's own switchboard, on its own port behind its own token: faults, state, spans, restart."""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from probe.model.clock import NS
from probe.sandbox.context import PLATFORM, Platform
from probe.sandbox.faults import NEVER, TABLE, BadFault, Fault
from probe.sandbox.regions import move
from probe.sandbox.web import Refused, fields, refused_answer, serves

STRIKES = ("down", "region_moved", "tokens_revoked")


@web.middleware
async def guard(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Everything but /healthz wants the admin token."""
    expected = f"Bearer {request.app[PLATFORM].config.admin_token}"
    if request.path != "/healthz" and not hmac.compare_digest(
        request.headers.get("Authorization", "").encode(), expected.encode()
    ):
        return refused_answer(Refused(401, "not_admin", {"WWW-Authenticate": "Bearer"}))
    return await handler(request)


@serves("admin")
async def healthz(request: web.Request) -> web.Response:
    return web.json_response({"ok": True})


@serves("admin")
async def plant(request: web.Request) -> web.Response:
    """POST /admin/faults {"fault": name, …parameters} → 201 {id}; with ?check, 200 where it could be planted."""
    platform = request.app[PLATFORM]
    data = await fields(request, fault=str)
    try:
        if "check" in request.query:
            platform.faults.made(data.pop("fault"), data)
            return web.json_response({})
        fault = platform.faults.plant(data.pop("fault"), data)
    except BadFault as error:
        return web.json_response({"error": "bad_fault", "detail": str(error)}, status=400)
    if fault.name == "killed" and fault["on"] is None:
        platform.faults.heal(fault.id)
        platform.spawn(kill(platform, fault.starts, fault["down"]), "killed")
    elif fault.name in STRIKES and fault.starts < NEVER:
        platform.spawn(strike(platform, fault), fault.name)
    return web.json_response({"id": fault.id}, status=201)


async def kill(platform: Platform, starts: int, down: float) -> None:
    """End the server process at `starts` (Unix ns)."""
    await asyncio.sleep(max(0.05, (starts - platform.clock.wall().unix_ns) / NS))  # not before the answer is out
    platform.restart(down)


async def strike(platform: Platform, fault: Fault) -> None:
    """What some faults end when they begin: a planted row can only refuse what comes afterwards."""
    await asyncio.sleep(max(0.0, (fault.starts - platform.clock.wall().unix_ns) / NS))
    if fault.name == "tokens_revoked":
        await platform.end_sessions()
    elif fault.name == "region_moved":
        await move(platform, fault["region"])
    elif fault["service"] == "chat":
        for room in platform.rooms.values():
            for listener in list(room.sockets):
                listener.drop()


@serves("admin")
async def list_faults(request: web.Request) -> web.Response:
    """GET /admin/faults → what is planted, and the table of what could be."""
    table = {name: {"about": row.about, "params": sorted(row.params)} for name, row in TABLE.items()}
    planted = [fault.plain() for fault in request.app[PLATFORM].faults.planted()]
    return web.json_response({"planted": planted, "table": table})


@serves("admin")
async def heal(request: web.Request) -> web.Response:
    """DELETE /admin/faults[/id], or ?by= for those of one who planted → {"healed": n}."""
    healed = request.app[PLATFORM].faults.heal(request.match_info.get("id"), request.query.get("by"))
    return web.json_response({"healed": healed})


@serves("admin")
async def state(request: web.Request) -> web.Response:
    """GET /admin/state: what is open now; all of it is gone when a probe has cleaned up after itself."""
    platform = request.app[PLATFORM]
    rooms = list(platform.rooms.values())
    sessions: list[dict[str, Any]] = []
    for room in rooms:
        for session in room.live.sessions():
            row = {"id": session.id, "room": room.id, "tag": room.tag, "role": session.role, "protocol": session.protocol}
            sessions.append(row | {"state": session.state})
    return web.json_response(
        {
            "server_pid": os.getpid(),
            "supervisor_pid": os.getppid(),
            "rooms": [
                room.plain() | {"owner": room.owner, "sockets": len(room.sockets), "segments": room.live.segments}
                for room in rooms
            ],
            "sessions": sessions,
            "counts": {"rooms": len(rooms), "sessions": len(sessions), "sockets": platform.sockets()},
            "faults": [fault.plain() for fault in platform.faults.planted()],
        }
    )


@serves("admin")
async def restart(request: web.Request) -> web.Response:
    """POST /admin/restart {"down": seconds} → 202; the server process then ends hard, and is back after that time."""
    data = await fields(request)
    down = data.get("down", 1.0)
    if isinstance(down, bool) or not isinstance(down, int | float) or not 0 <= down <= 60:
        raise Refused(400, "bad_down")
    response = web.json_response({"down": down}, status=202)
    await response.prepare(request)
    await response.write_eof()  # the answer is out before the end
    request.app[PLATFORM].restart(float(down))
    return response


@serves("admin")
async def expire_tokens(request: web.Request) -> web.Response:
    """POST /admin/expire-tokens {"sessions": true}: no token is good any more; sessions opened by them end, unless false."""
    platform = request.app[PLATFORM]
    data = await fields(request)
    platform.tokens.expire_all()
    if data.get("sessions", True) is True:
        await platform.end_sessions()
    return web.Response(status=204)


@serves("admin")
async def spans(request: web.Request) -> web.Response:
    """GET /admin/spans?trace_id= → {"spans": […]}: what has ended lately."""
    return web.json_response({"spans": request.app[PLATFORM].telemetry.recent(request.query.get("trace_id"))})


ROUTES = [
    web.get("/healthz", healthz),
    web.post("/admin/faults", plant),
    web.get("/admin/faults", list_faults),
    web.delete("/admin/faults", heal),
    web.delete("/admin/faults/{id}", heal),
    web.get("/admin/state", state),
    web.post("/admin/restart", restart),
    web.post("/admin/expire-tokens", expire_tokens),
    web.get("/admin/spans", spans),
]
