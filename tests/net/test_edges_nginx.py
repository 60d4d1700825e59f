"""Before a real cache we are the viewer a plain player is: the same hits on the same URLs, under the same keys."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from probe.clock import SystemClock
from probe.model.observation import RequestDone
from probe.model.stage import Phase
from probe.net.client import AddressPolicy, Client
from probe.wire.cmcd import Cmcd, Format, Kind
from tests.tools import free_port, requires, spawn

_CONFIGURATION = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_cache_path {folder}/cache keys_zone=live:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {origin};
            proxy_cache live;
            add_header X-Edge edge-a always;
            add_header X-Cache $upstream_cache_status always;
        }}
    }}
}}
"""
PATHS = [
    "/live.mpd",
    "/init.mp4",
    "/1.m4s",
    "/2.m4s",
    "/live.mpd",
    "/2.m4s",
    "/3.m4s?token=a",
    "/3.m4s?token=b",
    "/1.m4s",
    "/none",
]


@dataclass
class Edge:
    url: str
    folder: Path

    def keys(self) -> set[str]:
        """What the cache files of nginx say they are kept under, the origin's port taken out."""
        lines = [file.read_bytes().split(b"KEY: ", 1)[1].split(b"\n", 1)[0] for file in self.folder.glob("cache/*")]
        return {"/" + line.decode().split("/", 3)[3] for line in lines}


@asynccontextmanager
async def edge(folder: Path) -> AsyncIterator[Edge]:
    async def origin(request: web.Request) -> web.StreamResponse:
        if request.path == "/none":
            raise web.HTTPNotFound
        kept = "no-store" if request.path.endswith(".mpd") else "max-age=60"
        return web.Response(body=b"media" * 100, headers={"Cache-Control": kept})

    app = web.Application()
    app.router.add_get("/{name}", origin)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    command, port = requires("nginx"), free_port()
    folder.mkdir()
    configuration = folder / "nginx.conf"
    upstream = f"http://127.0.0.1:{runner.addresses[0][1]}"
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(_CONFIGURATION.format(user=user, folder=folder, port=port, origin=upstream))
    try:
        with spawn([command, "-e", "stderr", "-p", folder, "-c", configuration], folder / "nginx.log") as child:
            await child.says("start worker process")
            yield Edge(f"http://127.0.0.1:{port}", folder)
    finally:
        await runner.cleanup()


async def plain(one: Edge) -> list[str]:
    async with aiohttp.ClientSession() as session:
        seen = []
        for path in PATHS:
            async with session.get(one.url + path) as answer:
                seen.append(answer.headers["X-Cache"].lower())
        return seen


async def ours(one: Edge) -> list[str]:
    seen: list[RequestDone] = []
    client = Client(
        clock=SystemClock(), trace_id="0" * 31 + "1", new_span=lambda: "0" * 15 + "1", on_request=seen.append,
        allow=AddressPolicy.of("127.0.0.1"),
    )  # fmt: skip
    player = Cmcd("a-session-of-ours", Format.DASH)
    for n, path in enumerate(PATHS):
        headers = player.headers(Kind.VIDEO, bitrate=800_000, duration=2, buffered=n, startup=n == 0)
        await client.request("GET", one.url + path, purpose="segment", phase=Phase.SEGMENT, headers=headers, ok={200, 404})
    await client.close()
    assert {request.edge for request in seen} == {"edge-a"}
    return [request.cache for request in seen]


async def test_the_hits_we_see_are_those_a_plain_player_sees(tmp_path: Path) -> None:
    async with edge(tmp_path / "a") as for_them, edge(tmp_path / "b") as for_us:
        theirs, mine = await plain(for_them), await ours(for_us)
        assert mine == theirs == ["miss", "miss", "miss", "miss", "miss", "hit", "miss", "miss", "hit", "miss"]
        assert for_us.keys() == for_them.keys() == {"/init.mp4", "/1.m4s", "/2.m4s", "/3.m4s?token=a", "/3.m4s?token=b"}


async def test_what_a_plain_player_made_the_edge_keep_we_hit(tmp_path: Path) -> None:
    async with edge(tmp_path / "a") as one:
        await plain(one)
        kept = one.keys()
        assert await ours(one) == await plain(one)
        assert one.keys() == kept


@pytest.mark.parametrize("query", ["CMCD=sid%3D%221%22", "CMCD=sid%3D%222%22"])
async def test_as_a_query_it_would_have_been_another_object(tmp_path: Path, query: str) -> None:
    async with edge(tmp_path / "a") as one, aiohttp.ClientSession() as session:
        await plain(one)
        async with session.get(f"{one.url}/1.m4s?{query}") as answer:
            assert answer.headers["X-Cache"] == "MISS"
