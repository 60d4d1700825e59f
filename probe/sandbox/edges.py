"""The two edges: each a port of its own with a small cache in front of the origin, and where HLS is broken on purpose.

An answer says who gave it (`X-Edge`), from where (`X-Cache: HIT | MISS`; who waited for another's request has a HIT) and how
old it is (`Age`, RFC 9111). Playlists are kept for a fifth of a second, low-latency ones for half a part; one that was
asked for by its number (`_HLS_msn`) has an address of its own and never changes: it is kept as files are, half a minute.
Of a query only those directives count, so that nothing else makes two things of one. Refusals are not kept.
"""

from __future__ import annotations

import asyncio
import os
import re

from aiohttp import web

from probe.model.clock import NS
from probe.sandbox.cache import KEPT, Cache, Kept, seconds_old
from probe.sandbox.context import PLATFORM, Platform
from probe.sandbox.faults import REGIONS, Faults
from probe.sandbox.playlists import PLAYLIST
from probe.sandbox.regions import other_edge
from probe.sandbox.web import CORS, REQUEST_ID, SPAN, Refused, endless, front, hang, serves

FILES_NS = 30 * NS
PLAYLIST_NS = {"hls": NS // 5, "ll-hls": NS // 10}
DIRECTIVES = ("_HLS_msn", "_HLS_part", "_HLS_skip")
PIECES = 10
HUGE = 500_000  # segments in a playlist of a million lines
PRIVATE = "http://169.254.169.254/latest/"
Where = dict[str, str]


class Edge:
    """One edge."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cache = Cache()
        self._frozen: dict[str, bytes] = {}  # fault → the playlist it stands still at
        self._had: dict[str, bytes] = {}  # what it will stand still at once it has been down

    @serves("hls")
    async def hls(self, request: web.Request) -> web.StreamResponse:
        """GET /hls/{room}/{name}."""
        return await self._serve(request, "hls", "hls")

    @serves("ll-hls")
    async def low_latency(self, request: web.Request) -> web.StreamResponse:
        """GET /ll/{room}/{name}."""
        return await self._serve(request, "ll", "ll-hls")

    async def _serve(self, request: web.Request, folder: str, way: str) -> web.StreamResponse:
        platform = request.app[PLATFORM]
        faults = platform.faults
        room, name = request.match_info["room"], request.match_info["name"]
        what = "playlist" if name.endswith(".m3u8") else "part" if "part-" in name else "segment"
        where = {"edge": self.name, "room": room, "of": way}
        miss = {"X-Edge": self.name, "X-Cache": "MISS"}
        if refusal := faults.hit("edge_refuses", **where):
            raise Refused(int(refusal["status"]), "planted", miss)
        if faults.hit("region_moved", region=next(region for region, edge in REGIONS.items() if edge == self.name)):
            elsewhere = platform.config.url(other_edge(self.name))
            return web.Response(status=307, headers=miss | {"Location": f"{elsewhere}{request.rel_url}"})
        if faults.hit("endless", service=way, what=what, room=room):
            return await endless(request, PLAYLIST if what == "playlist" else "video/mp4")
        if what == "part":
            if faults.hit("part_missing", **where):
                raise Refused(404, "planted", miss)
            if faults.hit("part_hangs", **where):
                await hang(platform)
        if name.startswith("small") and faults.hit("rendition_missing", **where):
            raise Refused(404, "planted", miss)
        directives = "&".join(f"{d}={request.query[d]}" for d in DIRECTIVES if d in request.query) if way == "ll-hls" else ""
        if not re.fullmatch(r"[\w=&]{0,100}", directives):
            raise Refused(400, "bad_directive", miss)
        path = f"{folder}/{room}/{name}" + (f"?{directives}" if directives else "")
        lasting = what != "playlist" or "_HLS_msn" in directives
        headers = request[SPAN].headers() | {"X-Request-ID": request[REQUEST_ID]}
        try:
            kept, cached = await self.cache.get(platform, path, FILES_NS if lasting else PLAYLIST_NS[way], headers)
        except Refused as refused:
            raise Refused(refused.status, refused.error, miss) from None
        headers = {"X-Edge": self.name, "X-Cache": "HIT" if cached else "MISS"}
        headers["Age"] = str(seconds_old(kept, platform.clock.now()))
        headers["Cache-Control"] = "max-age=30" if lasting else "max-age=0"
        if what == "playlist":
            return self._playlist(self._or_had(kept.body, platform, where, name), headers, faults, where, name)
        if "init" in name:
            return web.Response(body=kept.body, content_type=kept.content_type, headers=headers)
        return await self._segment(request, kept, headers, faults, where)

    def _or_had(self, body: bytes, platform: Platform, where: Where, name: str) -> bytes:
        """The playlist, or where it is planted so the one that was served last before this edge was down."""
        fault = platform.faults.acting("stale_after_down", **where)
        if fault is None:
            return body
        key = f"{where['room']} {where['of']} {name}"
        if platform.fallen.get(self.name, 0) >= fault.starts:
            return self._had.get(key, body)
        if len(self._had) >= KEPT:
            self._had.clear()
        self._had[key] = body
        return body

    def _playlist(self, body: bytes, headers: dict[str, str], faults: Faults, where: Where, name: str) -> web.Response:
        if fault := faults.hit("playlist_stale", **where):
            key = f"{fault.id} {where['room']} {where['of']} {name}"
            if key not in self._frozen and len(self._frozen) >= KEPT:
                self._frozen.clear()
            body = self._frozen.setdefault(key, body)
        if faults.hit("playlist_private", **where):
            lines = body.decode().splitlines()
            lines = [re.sub(r'(PART|HINT)(.*)URI="', rf'\1\2URI="{PRIVATE}', line) for line in lines]
            body = "\n".join(line if line.startswith("#") or not line else PRIVATE + line for line in lines).encode()
        if where["of"] == "ll-hls":
            body = _told_wrong(body, faults, where)
        if faults.hit("playlist_huge", **where):
            body = body.replace(b"#EXT-X-ENDLIST", b"") + b"#EXTINF:1.0,\nnothing.m4s\n" * HUGE
        if faults.hit("playlist_html", **where):
            return web.Response(text="<!doctype html><h1>It works!</h1>", content_type="text/html", headers=headers)
        return web.Response(body=body, content_type=PLAYLIST, headers=headers)

    async def _segment(
        self, request: web.Request, kept: Kept, headers: dict[str, str], faults: Faults, where: Where
    ) -> web.StreamResponse:
        body = kept.body
        if faults.hit("segment_missing", **where):
            raise Refused(404, "planted", headers)
        if faults.hit("segment_garbage", **where):
            body = os.urandom(len(body))
        if slow := faults.hit("segment_slow", **where):
            return await self._slowly(request, body, headers, slow["seconds"])
        if truncated := faults.hit("segment_truncated", **where):
            if truncated["cut"]:
                return await self._cut(request, body, headers)
            body = body[: len(body) // 2]
        return web.Response(body=body, content_type=kept.content_type, headers=headers)

    async def _slowly(self, request: web.Request, body: bytes, headers: dict[str, str], seconds: float) -> web.StreamResponse:
        response = await self._begin(request, body, headers)
        size = -(-len(body) // PIECES)
        for at in range(0, len(body), size):
            await response.write(body[at : at + size])
            await asyncio.sleep(seconds / PIECES)
        return response

    async def _cut(self, request: web.Request, body: bytes, headers: dict[str, str]) -> web.StreamResponse:
        response = await self._begin(request, body, headers)
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return response

    @staticmethod
    async def _begin(request: web.Request, body: bytes, headers: dict[str, str]) -> web.StreamResponse:
        headers = headers | CORS | {"Content-Type": "video/mp4", "Content-Length": str(len(body))}
        response = web.StreamResponse(headers=headers | {"X-Request-ID": request[REQUEST_ID]})
        await response.prepare(request)
        return response


def _told_wrong(body: bytes, faults: Faults, where: Where) -> bytes:
    """A low-latency playlist as planted faults would have it."""
    if b"#EXT-X-SKIP:" in body and faults.hit("delta_lies", **where):
        body = re.sub(rb"(SKIPPED-SEGMENTS=)(\d+)", lambda m: m[1] + str(int(m[2]) + 3).encode(), body)
    if faults.hit("hint_never_comes", **where):
        body = re.sub(rb'(#EXT-X-PRELOAD-HINT:TYPE=PART,URI=")', rb"\1never-", body)
    return body


@serves("edge")
async def healthz(request: web.Request) -> web.Response:
    """GET /healthz."""
    return web.json_response({"ok": True})


def application(name: str) -> web.Application:
    """The app of one edge."""
    edge = Edge(name)
    app = web.Application(middlewares=[front(name, faulty=True)])
    app.cleanup_ctx.append(edge.cache.connect)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/hls/{room}/{name}", edge.hls)
    app.router.add_get("/ll/{room}/{name}", edge.low_latency)
    return app
