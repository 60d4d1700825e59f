"""Moderation: a flag is acted on by itself, within half a second; what was still open at a restart is taken up again."""

from __future__ import annotations

import asyncio
import secrets

from aiohttp import web

from probe.sandbox.context import PLATFORM, Platform
from probe.sandbox.web import Refused, caller, fields, room_of, serves

LOOK_EVERY = 0.2  # seconds


@serves("moderation")
async def flag_room(request: web.Request) -> web.Response:
    """POST /rooms/{room}/flags {reason, ref} → 202 {flag}."""
    platform = request.app[PLATFORM]
    user = caller(request)
    room = room_of(request)
    data = await fields(request, reason=str, ref=str)
    if platform.store.full("flags"):
        raise Refused(507, "ledger_full")
    state = "ignored" if platform.faults.hit("flag_ignored", room=room.id) else "open"
    flag = secrets.token_hex(8)
    values = (flag, room.id, user, data["reason"], data["ref"], state, platform.clock.wall().unix_ns)
    platform.store.run("insert into flags values (?, ?, ?, ?, ?, ?, ?)", *values)
    return web.json_response({"flag": flag}, status=202)


@serves("moderation")
async def show_flag(request: web.Request) -> web.Response:
    """GET /rooms/{room}/flags/{flag} → {"state": "open" | "acted"}."""
    caller(request)
    room = room_of(request)
    found = request.app[PLATFORM].store.rows(
        "select state from flags where room = ? and id = ?", room.id, request.match_info["flag"]
    )
    if not found:
        raise Refused(404, "no_flag")
    return web.json_response({"state": "acted" if found[0]["state"] == "acted" else "open"})


async def act(platform: Platform) -> None:
    """Take up open flags, for as long as the server runs."""
    while True:
        for flag in platform.store.rows("select id, room from flags where state = 'open'"):
            platform.store.run("update flags set state = 'acted' where id = ?", flag["id"])
            if room := platform.rooms.get(flag["room"]):
                room.broadcast({"type": "moderation", "flag": flag["id"]})
        await asyncio.sleep(LOOK_EVERY)


ROUTES = [web.post("/rooms/{room}/flags", flag_room), web.get("/rooms/{room}/flags/{flag}", show_flag)]
