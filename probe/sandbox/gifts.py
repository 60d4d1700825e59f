"""Gifts: bought with coins, booked once per reference, shown to the room."""

from __future__ import annotations

import secrets

from aiohttp import web

from probe.sandbox.context import PLATFORM
from probe.sandbox.web import REQUEST_ID, Refused, caller, fields, room_of, serves

COSTS = {"rose": 1, "cake": 10, "rocket": 100}


@serves("gift")
async def give(request: web.Request) -> web.Response:
    """POST /rooms/{room}/gifts {kind, ref} → 201 {gift}; 402 where the coins do not suffice."""
    platform = request.app[PLATFORM]
    store = platform.store
    user = caller(request)
    room = room_of(request)
    data = await fields(request, kind=str, ref=str)
    cost = COSTS.get(data["kind"])
    if cost is None:
        raise Refused(400, "bad_kind")
    known = store.rows("select id from gifts where user = ? and room = ? and ref = ?", user, room.id, data["ref"])
    if known:
        return web.json_response({"gift": known[0]["id"]}, status=201)
    if store.balance(user) < cost:
        raise Refused(402, "too_few_coins")
    if store.full("gifts"):
        raise Refused(507, "ledger_full")
    gift = secrets.token_hex(8)
    if not platform.faults.hit("gift_lost", room=room.id):
        twice = platform.faults.hit("gift_twice", room=room.id)
        for booking in [gift, secrets.token_hex(8)] if twice else [gift]:
            values = (booking, room.id, user, data["kind"], data["ref"], cost, platform.clock.wall().unix_ns)
            store.run("insert into gifts values (?, ?, ?, ?, ?, ?, ?)", *values)
    if not platform.faults.hit("gift_unseen", room=room.id):
        room.broadcast({"type": "gift", "gift": gift, "kind": data["kind"], "request_id": request[REQUEST_ID], "from": user})
    return web.json_response({"gift": gift}, status=201)


@serves("gift")
async def list_gifts(request: web.Request) -> web.Response:
    """GET /rooms/{room}/gifts?ref= → {"gifts": […], "count": n}."""
    caller(request)
    room = room_of(request)
    ref = request.query.get("ref")
    found = request.app[PLATFORM].store.rows(
        'select id as gift, kind, ref, cost, user as "from" from gifts where room = ? and (? is null or ref = ?) order by at',
        *(room.id, ref, ref),
    )
    return web.json_response({"gifts": found, "count": len(found)})


ROUTES = [web.post("/rooms/{room}/gifts", give), web.get("/rooms/{room}/gifts", list_gifts)]
