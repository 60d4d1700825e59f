"""Live DASH origins on port 0: FFmpeg's own muxer behind a server of growing files, and a small packager whose faults are ours.

FFmpeg writes `chunk-….m4s.tmp` and renames it when it is whole. A low-latency origin serves such a file while it grows, as
chunked transfer; an ordinary one serves it only once it is there.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, cast

from aiohttp import web

from probe.clock import SystemClock
from probe.media.clip import LivePipe
from probe.media.programme import Programme
from probe.media.source import ProgrammeIds
from tests.tools import requires, spawn

IDS = ProgrammeIds(run=7, trace=9)
_GROWTH = 0.01


class Folder:
    """Serves `folder`; `requests` counts by name, `headers` are the last request's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: Counter[str] = Counter()
        self.headers: dict[str, dict[str, str]] = {}
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self.requests[name] += 1
        self.headers[name] = dict(request.headers)
        whole, growing = self.folder / name, self.folder / f"{name}.tmp"
        if whole.exists():
            return web.Response(body=whole.read_bytes())
        if name.endswith(".mpd") or not growing.exists():
            raise web.HTTPNotFound
        response = web.StreamResponse()
        await response.prepare(request)
        with growing.open("rb") as source:  # the open file stays itself through the rename
            while True:
                done = not growing.exists()
                if data := source.read(1 << 16):
                    await response.write(data)
                elif done:
                    break
                else:
                    await asyncio.sleep(_GROWTH)
        await response.write_eof()
        return response


@asynccontextmanager
async def serving(origin: Folder) -> AsyncIterator[Folder]:
    app = web.Application()
    app.router.add_get("/{name}", origin.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        origin.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield origin
    finally:
        await runner.cleanup()


@asynccontextmanager
async def ffmpeg(folder: Path, *options: str, audio: bool = True) -> AsyncIterator[Folder]:
    """A live programme of ours through FFmpeg's DASH muxer, its video copied and its sound made AAC."""
    command = [
        requires("ffmpeg"), "-hide_banner", "-loglevel", "warning", "-probesize", "20000", "-f", "mp4", "-i", "pipe:0",
        "-c:v", "copy", *(["-c:a", "aac"] if audio else []), "-f", "dash", "-seg_duration", "1", "-window_size", "5",
        "-extra_window_size", "5", *options, str(folder / "live.mpd"),
    ]  # fmt: skip
    with spawn(command, folder / "ffmpeg.log", pipe=True) as child:
        programme = Programme("360p30", clock=SystemClock(), ids=IDS, bitrate=300_000, audio=audio)
        pipe = LivePipe(programme, cast("IO[bytes]", child.stdin))
        starter = threading.Thread(target=pipe.__enter__)
        starter.start()
        try:
            async with serving(Folder(folder)) as origin:
                yield origin
        finally:
            await asyncio.to_thread(starter.join)
            await asyncio.to_thread(pipe.__exit__, None, None, None)
