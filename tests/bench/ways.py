"""One broadcast on every server that stands here: nginx-rtmp takes it, and what it gives out is passed on unchanged.

nginx-rtmp itself serves RTMP and DASH. ffmpeg copies the stream to the sandbox, which serves WHEP, HTTP-FLV, WS-FLV, HLS and
LL-HLS, and into one MPEG-TS, which this process serves over HTTP and srt-live-transmit over SRT, one of them for each caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.faults.platform import Platform
from tests.peers import nginx
from tests.tools import ROOT, Child, free_port, requires, spawn, wait_until

CALLERS = 24  # SRT outlets
_DATAGRAM = 1316


@dataclass(frozen=True, slots=True)
class Way:
    """A protocol and where one viewer after another finds it; `token` for those of the sandbox."""

    protocol: str
    urls: tuple[str, ...]
    token: str = ""


def order(module: str, **what: Any) -> list[str]:
    """A child of the bench."""
    return [sys.executable, "-m", f"tests.bench.{module}", json.dumps(what)]


def post(url: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def login(platform: Platform, account: str) -> str:
    body = {"user": account, "password": platform.ready["accounts"][account]["password"]}
    return str(post(platform.ready["url"] + "/auth/login", body)["token"])


def room(platform: Platform, token: str) -> str:
    return str(post(platform.ready["url"] + "/rooms", {"unlisted": True, "synthetic": True}, token)["id"])


@dataclass
class Transport:
    """One MPEG-TS for all who ask: over HTTP here, and as datagrams to `ports`."""

    ports: tuple[int, ...]
    waiting: set[asyncio.Queue[bytes]] = field(default_factory=set)

    async def spread(self, source: asyncio.StreamReader) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            while data := await source.readexactly(_DATAGRAM):
                for port in self.ports:
                    with contextlib.suppress(OSError):  # nobody is there yet
                        out.sendto(data, ("127.0.0.1", port))
                for queue in self.waiting:
                    if not queue.full():
                        queue.put_nowait(data)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "video/mp2t"})
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue(2048)
        self.waiting.add(queue)
        try:
            while True:
                await response.write(await queue.get())
        except ConnectionError:
            return response
        finally:
            self.waiting.discard(queue)


@contextlib.asynccontextmanager
async def on_air(folder: Path, platform: Platform) -> AsyncIterator[dict[str, Way]]:
    """The ways to the broadcast, once each server has it."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(nginx.running(fragment=2))
        source = stack.enter_context(publishing(folder, protocol="rtmp", url=server.rtmp_url()))
        await source.says("on air", 20)
        broadcaster, viewer = login(platform, "probe"), login(platform, "viewer")
        one = room(platform, broadcaster)
        copying = [requires("ffmpeg"), "-hide_banner", "-loglevel", "warning", "-i", server.rtmp_url(), "-c", "copy"]
        target = f"{platform.ready['rtmp_url']}/{one}?token={broadcaster}"
        stack.enter_context(spawn([*copying, "-f", "flv", target], folder / "to-sandbox.log"))

        ins = [free_port(socket.SOCK_DGRAM) for _ in range(CALLERS)]
        outs = [free_port(socket.SOCK_DGRAM) for _ in range(CALLERS)]
        live = requires("srt-live-transmit", package="srt-tools")
        for n, (into, out) in enumerate(zip(ins, outs, strict=True)):
            urls = f"udp://127.0.0.1:{into}?mode=listener", f"srt://127.0.0.1:{out}?mode=listener&latency=120"
            stack.enter_context(spawn([live, "-loglevel:fatal", *urls], folder / f"srt-{n}.log"))
        http = await stack.enter_async_context(_transport(copying, tuple(ins), folder))

        def live_there() -> bool:
            return any(s["room"] == one and s["role"] == "publisher" for s in platform.admin("GET", "/admin/state")["sessions"])

        await wait_until(live_there, 30, "the sandbox's copy")
        await wait_until(lambda: len(list((server.folder / "dash").rglob("*.m4v"))) > 4, 30, "segments of DASH")
        base = f"{platform.ready['url']}/rooms/{one}"
        yield {
            "whep": Way("whep", (f"{base}/whep",), viewer),
            "rtmp": Way("rtmp", (server.rtmp_url(),)),
            "srt": Way("srt", tuple(f"srt://127.0.0.1:{port}" for port in outs)),
            "http-flv": Way("http-flv", (f"{base}/live.flv",), viewer),
            "ws-flv": Way("ws-flv", (f"ws{base.removeprefix('http')}/live.flv",), viewer),
            "http-ts": Way("http-ts", (http,)),
            "ll-hls": Way("ll-hls", (f"{base}/ll/index.m3u8",), viewer),
            "hls": Way("hls", (f"{base}/hls/index.m3u8",), viewer),
            "dash": Way("dash", (server.dash_url(),)),
        }


@contextlib.contextmanager
def publishing(folder: Path, **what: Any) -> Iterator[Child]:
    """A publisher of ours in a process of its own; see tests/bench/sending.py."""
    what = {"programme": "360p30", "bitrate": 800_000, "key": "", "token": "", "audio": True, "warm": 2.0, "seconds": 1.0, **what}
    name = f"{what['protocol']}-{what['programme']}-{what['audio']}.log"
    with spawn(order("sending", **what), folder / name, cwd=ROOT, pipe=True) as child:
        yield child


@contextlib.asynccontextmanager
async def _transport(copying: list[str], ports: tuple[int, ...], folder: Path) -> AsyncIterator[str]:
    transport = Transport(ports)
    app = web.Application()
    app.router.add_get("/live.ts", transport.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    muxing = [*copying, "-f", "mpegts", "-flush_packets", "1", "pipe:1"]
    nothing, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    with (folder / "ts.log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(*muxing, stdin=nothing, stdout=pipe, stderr=log)
    assert child.stdout is not None
    try:
        async with asyncio.TaskGroup() as group:
            spreading = group.create_task(transport.spread(child.stdout))
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/live.ts"
            spreading.cancel()
    finally:
        child.kill()
        await child.wait()
        await runner.cleanup()
