"""HLS for viewers: the master playlist, which sends each viewer to the next edge, and the origin that edges fetch from.

The master wants a token as every viewer does. What edges serve is found by the room's id alone, as CDNs do it with names
nobody can guess: a token never leaves its own origin.
"""

from __future__ import annotations

from aiohttp import web

from probe.sandbox.context import PLATFORM
from probe.sandbox.faults import EDGES
from probe.sandbox.segments import PLAYLIST, Window
from probe.sandbox.web import Refused, caller, room_of, serves


def _window(request: web.Request) -> Window:
    window = room_of(request).live.window
    if window is None or not window.ready:
        raise Refused(404, "no_stream")
    return window


@serves("hls")
async def master(request: web.Request) -> web.Response:
    """GET /rooms/{room}/hls/index.m3u8; 404 until there is a segment."""
    platform = request.app[PLATFORM]
    caller(request)
    window = _window(request)
    edge = EDGES[platform.next_viewer % len(EDGES)]
    platform.next_viewer += 1
    text = window.master(f"{platform.config.url(edge)}/hls/{request.match_info['room']}/media.m3u8")
    return web.Response(text=text, content_type=PLAYLIST, headers={"Cache-Control": "no-store"})


@serves("origin")
async def origin(request: web.Request) -> web.Response:
    """GET /origin/{room}/{name}: media.m3u8, an initialization section or a segment."""
    window = _window(request)
    name = request.match_info["name"]
    if name == "media.m3u8":
        return web.Response(text=window.playlist(), content_type=PLAYLIST)
    body = window.file(name)
    if body is None:
        raise Refused(404, "no_file")
    return web.Response(body=body, content_type="video/mp4")


ROUTES = [web.get("/rooms/{room}/hls/index.m3u8", master), web.get("/origin/{room}/{name}", origin)]
