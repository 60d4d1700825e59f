"""Rooms: made, listed and ended by their owner. An unlisted room is found by its id or its owner's tag only."""

from __future__ import annotations

import secrets

from aiohttp import web

from probe.model.clock import NS
from probe.sandbox.context import MAX_ROOMS, PLATFORM, Platform, Room
from probe.sandbox.web import Refused, caller, fields, room_of, serves


@serves("room")
async def create(request: web.Request) -> web.Response:
    """POST /rooms {unlisted, synthetic, tag} → 201 {id, tag}."""
    platform = request.app[PLATFORM]
    user = caller(request)
    data = await fields(request)
    tag = data.get("tag", "")
    flags = [data.get(name, False) for name in ("unlisted", "synthetic")]
    if not isinstance(tag, str) or len(tag) > 128 or not all(isinstance(flag, bool) for flag in flags):
        raise Refused(400, "bad_room")
    if len(platform.rooms) >= MAX_ROOMS:
        raise Refused(429, "too_many_rooms")
    unlisted, synthetic = flags
    row = {"id": secrets.token_urlsafe(12), "owner": user, "tag": tag, "unlisted": unlisted, "synthetic": synthetic}
    created = platform.clock.wall().unix_ns // NS
    platform.store.run(
        "insert into rooms (id, owner, tag, unlisted, synthetic, created) values (?, ?, ?, ?, ?, ?)", *row.values(), created
    )
    platform.open_room(row)
    return web.json_response({"id": row["id"], "tag": tag}, status=201, headers={"Location": f"/rooms/{row['id']}"})


@serves("room")
async def list_rooms(request: web.Request) -> web.Response:
    """GET /rooms → the listed ones; GET /rooms?tag= → the caller's own of that tag, unlisted ones too."""
    user = caller(request)
    tag = request.query.get("tag")
    rooms = request.app[PLATFORM].rooms.values()
    found = [r.plain() for r in rooms if (not r.unlisted if tag is None else r.tag == tag and r.owner == user)]
    return web.json_response({"rooms": found, "count": len(found)})


@serves("room")
async def show(request: web.Request) -> web.Response:
    """GET /rooms/{room}."""
    caller(request)
    return web.json_response(room_of(request).plain())


@serves("room")
async def end(request: web.Request) -> web.Response:
    """DELETE /rooms/{room} → 204; its sessions, sockets and segments end with it."""
    room = own_room(request)
    await _end(request.app[PLATFORM], room)
    return web.Response(status=204)


@serves("room")
async def end_tagged(request: web.Request) -> web.Response:
    """DELETE /rooms?tag= → {"deleted": n}: the caller's own of that tag."""
    platform = request.app[PLATFORM]
    user = caller(request)
    tag = request.query.get("tag")
    if not tag:
        raise Refused(400, "bad_tag")
    found = [r for r in platform.rooms.values() if r.tag == tag and r.owner == user]
    for room in found:
        await _end(platform, room)
    return web.json_response({"deleted": len(found)})


def own_room(request: web.Request) -> Room:
    """The room in the path, if the caller owns it. Raises Refused(401, 403, 404)."""
    user = caller(request)
    room = room_of(request)
    if room.owner != user:
        raise Refused(403, "not_yours")
    return room


async def _end(platform: Platform, room: Room) -> None:
    platform.rooms.pop(room.id, None)
    platform.store.run("delete from rooms where id = ?", room.id)
    for socket in list(room.sockets):
        socket.drop()
    await room.live.end()


ROUTES = [
    web.post("/rooms", create),
    web.get("/rooms", list_rooms),
    web.delete("/rooms", end_tagged),
    web.get("/rooms/{room}", show),
    web.delete("/rooms/{room}", end),
]
