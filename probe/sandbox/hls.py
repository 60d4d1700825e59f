"""HLS and low-latency HLS for viewers: the master playlists, which send each viewer to the next edge, and the origin that
edges fetch from.

The master wants a token as every viewer does. What edges serve is found by the room's id alone, as CDNs do it with names
nobody can guess: a token never leaves its own origin. A blocking request (RFC 8216bis 6.2.5.2) is held here, for three
target durations at most, then 503; one that is too far ahead is 400. So is a request for a part that is hinted at held.
"""

from __future__ import annotations

from aiohttp import web

from probe.sandbox.context import PLATFORM
from probe.sandbox.playlists import PLAYLIST, master
from probe.sandbox.regions import edge_for, region_of
from probe.sandbox.rendition import variant
from probe.sandbox.segments import Window
from probe.sandbox.web import Refused, caller, rejoins, room_of, serves

FOLDERS = {"hls": "hls", "ll-hls": "ll"}  # way → folder in addresses
WAYS = {folder: way for way, folder in FOLDERS.items()}
SMALL_WITHIN = 4.0  # seconds from the first request for the small rendition to its first segment
NUMBERS = 12  # digits of a directive


def _window(request: web.Request, way: str) -> Window:
    window = room_of(request).live.windows.get(way)
    if window is None or not window.ready:
        raise Refused(404, "no_stream")
    return window


def _master(request: web.Request, way: str) -> web.Response:
    platform = request.app[PLATFORM]
    caller(request)
    window = _window(request, way)
    rejoins(request, room_of(request))
    edge = edge_for(platform, way, region_of(request))
    folder = f"{platform.config.url(edge)}/{FOLDERS[way]}/{request.match_info['room']}"
    source = window.variant(f"{folder}/media.m3u8")
    small = variant(source, f"{folder}/small.m3u8")
    text = master([source] + ([small] if small else []))
    return web.Response(text=text, content_type=PLAYLIST, headers={"Cache-Control": "no-store"})


@serves("hls")
async def hls_master(request: web.Request) -> web.Response:
    """GET /rooms/{room}/hls/index.m3u8; 404 until there is a segment."""
    return _master(request, "hls")


@serves("ll-hls")
async def ll_master(request: web.Request) -> web.Response:
    """GET /rooms/{room}/ll/index.m3u8; 404 until there is a segment."""
    return _master(request, "ll-hls")


@serves("origin")
async def origin(request: web.Request) -> web.Response:
    """GET /origin/{folder}/{room}/{name}: media.m3u8 or small.m3u8, an initialization section, a segment or a part."""
    way = WAYS.get(request.match_info["folder"], "")
    name = request.match_info["name"]
    window = _window(request, way)
    if name.startswith("small"):
        window = await _small(request, way, wake=name.endswith(".m3u8"))
    if name in ("media.m3u8", "small.m3u8"):
        return await _playlist(request, window, way, name)
    body = window.file(name)
    if body is None and name == window.hint:
        await window.until(lambda: name != window.hint, window.patience)
        body = window.file(name)
    if body is None:
        raise Refused(404, "no_file")
    return web.Response(body=body, content_type="video/mp4")


async def _small(request: web.Request, way: str, wake: bool) -> Window:
    live = room_of(request).live
    window = live.small(way) if wake else live.small_running(way)
    if window is None or (not window.ready and not await window.until(lambda: window.ready, SMALL_WITHIN)):
        raise Refused(404, "no_stream")
    return window


async def _playlist(request: web.Request, window: Window, way: str, name: str) -> web.Response:
    if way == "hls":
        return web.Response(text=window.playlist(), content_type=PLAYLIST)
    msn, part = (_directive(request, f"_HLS_{what}") for what in ("msn", "part"))
    if part is not None and msn is None:
        raise Refused(400, "part_without_msn")
    if msn is not None:
        if window.too_far(msn, part):
            raise Refused(400, "too_far_ahead")
        if not await window.until(lambda: window.has(msn, part), window.patience):
            raise Refused(503, "nothing_came")
    other_name = "media.m3u8" if name == "small.m3u8" else "small.m3u8"
    live = room_of(request).live
    other = live.windows.get(way) if name == "small.m3u8" else live.small_running(way)
    report = other.report(other_name) if other is not None else None
    text = window.playlist(skip=request.query.get("_HLS_skip") in ("YES", "v2"), reports=(report,) if report else ())
    return web.Response(text=text, content_type=PLAYLIST)


def _directive(request: web.Request, name: str) -> int | None:
    value = request.query.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= NUMBERS):
        raise Refused(400, "bad_directive")
    return int(value)


ROUTES = [
    web.get("/rooms/{room}/hls/index.m3u8", hls_master),
    web.get("/rooms/{room}/ll/index.m3u8", ll_master),
    web.get("/origin/{folder}/{room}/{name}", origin),
]
