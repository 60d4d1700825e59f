"""The two edges: each a port of its own with a small cache in front of the origin, and where HLS is broken on purpose.

An answer says who gave it (`X-Edge`), from where (`X-Cache: HIT | MISS`) and how old it is (`Age`, RFC 9111). Playlists
are kept for a fifth of a second, files for half a minute; refusals are not kept.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from probe.model.clock import NS
from probe.sandbox.context import PLATFORM
from probe.sandbox.faults import Faults
from probe.sandbox.segments import PLAYLIST
from probe.sandbox.web import CORS, REQUEST_ID, SPAN, Refused, endless, front, serves

KEPT_FILES = 64
KEPT_NS = {"playlist": NS // 5, "segment": 30 * NS}
LARGEST = 16 * 1024 * 1024
PIECES = 10
HUGE = 500_000  # segments in a playlist of a million lines
PRIVATE = "http://169.254.169.254/latest/"


@dataclass(frozen=True, slots=True)
class _Kept:
    body: bytes
    content_type: str
    stored: int


class Edge:
    """One edge's cache and its way to the origin."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._frozen: dict[str, bytes] = {}  # fault → the playlist it stands still at
        self._origin: aiohttp.ClientSession | None = None

    async def connect(self, app: web.Application) -> AsyncIterator[None]:
        """Hold connections to the origin while the app runs."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as self._origin:
            yield

    @serves("hls")
    async def serve(self, request: web.Request) -> web.StreamResponse:
        """GET /hls/{room}/{name}."""
        faults = request.app[PLATFORM].faults
        name = request.match_info["name"]
        what = "playlist" if name.endswith(".m3u8") else "segment"
        where = {"edge": self.name, "room": request.match_info["room"]}
        if refusal := faults.hit("edge_refuses", **where):
            raise Refused(int(refusal["status"]), "planted", {"X-Edge": self.name, "X-Cache": "MISS"})
        if faults.hit("endless", service="hls", what=what, room=where["room"]):
            return await endless(request, PLAYLIST if what == "playlist" else "video/mp4")
        kept, cached = await self._get(request, what)
        headers = {"X-Edge": self.name, "X-Cache": "HIT" if cached else "MISS"}
        headers["Age"] = str((request.app[PLATFORM].clock.now() - kept.stored) // NS)
        headers["Cache-Control"] = "max-age=0" if what == "playlist" else "max-age=30"
        if what == "playlist":
            return self._playlist(kept.body, headers, faults, where)
        if name.startswith("init"):
            return web.Response(body=kept.body, content_type=kept.content_type, headers=headers)
        return await self._segment(request, kept, headers, faults, where)

    async def _get(self, request: web.Request, what: str) -> tuple[_Kept, bool]:
        clock = request.app[PLATFORM].clock
        path = f"{request.match_info['room']}/{request.match_info['name']}"
        kept = self._kept.get(path)
        if kept is not None and clock.now() - kept.stored < KEPT_NS[what]:
            return kept, True
        assert self._origin is not None
        url = f"{request.app[PLATFORM].config.url('main')}/origin/{path}"
        try:
            async with self._origin.get(url, headers=request[SPAN].headers() | {"X-Request-ID": request[REQUEST_ID]}) as answer:
                if answer.status != 200:
                    raise Refused(answer.status, "origin", {"X-Edge": self.name, "X-Cache": "MISS"})
                body = await answer.content.read(LARGEST)
                while not answer.content.at_eof() and len(body) < LARGEST:
                    body += await answer.content.read(LARGEST - len(body))
                kept = self._kept[path] = _Kept(body, answer.content_type, clock.now())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Refused(502, "origin", {"X-Edge": self.name, "X-Cache": "MISS"}) from error
        self._kept.move_to_end(path)
        while len(self._kept) > KEPT_FILES:
            self._kept.popitem(last=False)
        return kept, False

    def _playlist(self, body: bytes, headers: dict[str, str], faults: Faults, where: dict[str, str]) -> web.Response:
        if fault := faults.hit("playlist_stale", **where):
            key = f"{fault.id} {where['room']}"
            if key not in self._frozen and len(self._frozen) >= KEPT_FILES:
                self._frozen.clear()
            body = self._frozen.setdefault(key, body)
        if faults.hit("playlist_private", **where):
            lines = body.decode().splitlines()
            body = "\n".join(line if line.startswith("#") or not line else PRIVATE + line for line in lines).encode()
        if faults.hit("playlist_huge", **where):
            body = body.replace(b"#EXT-X-ENDLIST", b"") + b"#EXTINF:1.0,\nnothing.m4s\n" * HUGE
        if faults.hit("playlist_html", **where):
            return web.Response(text="<!doctype html><h1>It works!</h1>", content_type="text/html", headers=headers)
        return web.Response(body=body, content_type=PLAYLIST, headers=headers)

    async def _segment(
        self, request: web.Request, kept: _Kept, headers: dict[str, str], faults: Faults, where: dict[str, str]
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


def application(name: str) -> web.Application:
    """The app of one edge."""
    edge = Edge(name)
    app = web.Application(middlewares=[front(name, faulty=True)])
    app.cleanup_ctx.append(edge.connect)
    app.router.add_get("/hls/{room}/{name}", edge.serve)
    return app
