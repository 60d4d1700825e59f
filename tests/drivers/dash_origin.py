"""Live DASH origins on port 0: FFmpeg's muxer and nginx-rtmp behind a server of growing files, and a packager with our faults.

FFmpeg writes `chunk-….m4s.tmp` and renames it when it is whole. A low-latency origin serves such a file while it grows, as
chunked transfer; an ordinary one serves it only once it is there.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

from aiohttp import web

from probe.clock import SystemClock
from probe.media.clip import LivePipe
from probe.media.encode import VIDEO_CLOCK
from probe.media.programme import Programme
from probe.media.source import ProgrammeIds
from probe.wire.fmp4 import Run, Sample, media_segment, split_annexb, to_lengths
from tests.drivers.hls_origin import FPS, PER_SEGMENT, SEGMENT_SECONDS, SEGMENTS, WINDOW, Broken, clip
from tests.peers.nginx import MODULE
from tests.tools import free_port, missing, requires, spawn

IDS = ProgrammeIds(run=7, trace=9)
_GROWTH = 0.01
_TICKS = round(SEGMENT_SECONDS * VIDEO_CLOCK)


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


_NGINX = """\
load_module {module};
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
rtmp {{
    server {{
        listen 127.0.0.1:{rtmp};
        application live {{
            live on;
            dash on;
            dash_path {folder};
            dash_fragment 1s;
            dash_playlist_length 6s;
        }}
    }}
}}
"""


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """nginx-rtmp that writes `room.mpd` into `folder`; the RTMP address it takes."""
    command = requires("nginx")
    if not MODULE.exists():
        missing("nginx has no RTMP module (package libnginx-mod-rtmp)")
    port, configuration = free_port(), folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(_NGINX.format(module=MODULE, user=user, folder=folder, rtmp=port))
    with spawn([command, "-e", "stderr", "-p", folder, "-c", configuration], folder / "nginx.log"):
        yield f"rtmp://127.0.0.1:{port}/live/room"


@asynccontextmanager
async def packagers(folder: Path, ways: Mapping[str, Sequence[str]]) -> AsyncIterator[dict[str, Folder]]:
    """One live programme of ours through FFmpeg's DASH muxer in each of `ways` (options by name), and through nginx-rtmp."""
    feed = ["-map", "0", "-c:v", "copy", "-c:a", "aac"]
    command = [requires("ffmpeg"), "-hide_banner", "-loglevel", "warning", "-probesize", "20000", "-f", "mp4", "-i", "pipe:0"]
    kept = ["-f", "dash", "-seg_duration", "1", "-window_size", "5", "-extra_window_size", "5"]
    for name in (*ways, "nginx-rtmp"):
        (folder / name).mkdir()
    for name, options in ways.items():
        command += [*feed, *kept, *options, str(folder / name / "live.mpd")]
    with nginx(folder / "nginx-rtmp") as address:
        with spawn([*command, *feed, "-f", "flv", address], folder / "ffmpeg.log", pipe=True) as child:
            programme = Programme("360p30", clock=SystemClock(), ids=IDS, bitrate=300_000)
            pipe = LivePipe(programme, cast("BinaryIO", child.stdin))
            await asyncio.to_thread(pipe.__enter__)
            try:
                async with AsyncExitStack() as stack:
                    yield {
                        name: await stack.enter_async_context(serving(Folder(folder / name))) for name in (*ways, "nginx-rtmp")
                    }
            finally:
                await asyncio.to_thread(pipe.__exit__, None, None, None)


@cache
def chunks(number: int) -> tuple[bytes, ...]:
    """Segment `number` of the clip, a chunk for each picture."""
    out = []
    for n in range(number * PER_SEGMENT, (number + 1) * PER_SEGMENT):
        data, key = clip().units[n]
        sample = Sample(to_lengths(split_annexb(data)), VIDEO_CLOCK // FPS, key)
        out.append(media_segment(n + 1, [Run(1, n * VIDEO_CLOCK // FPS, [sample])]))
    return tuple(out)


@dataclass
class Packager:
    """The clip of hls_origin.py, live, by our own manifest. `age`: seconds since its beginning when it starts to run. `broken`
    may answer instead, by name of what is asked for (`live`, `init`, a segment's number as text, `segment` for all)."""

    timeline: bool = False
    chunked: bool = False
    age: float = 6.0
    head: str = ""  # attributes of the MPD
    sets: str = ""  # beside the video
    video: str = ""  # elements within its AdaptationSet
    codecs: str = "avc1.42c01e"
    moving: bool = True
    static: bool = False
    first_ticks: int = 0  # added to the manifest's times from `jump_at` on
    jump_at: int | None = None
    broken: dict[str, Broken] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    url: str = ""
    _began: float = 0.0
    _start: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    _frozen: float | None = None

    @property
    def passed(self) -> float:
        """Seconds of media that exist."""
        now = self._frozen if self._frozen is not None else time.monotonic()
        return self.age + (now - self._began if self.moving else 0.0)

    @property
    def last(self) -> int:
        """How many segments are whole by now."""
        return min(SEGMENTS, int(self.passed / SEGMENT_SECONDS))

    def freeze(self) -> None:
        self._frozen = time.monotonic()

    def restart(self) -> None:
        """The packager begins anew: its first segment is made now."""
        self._began, self.age = time.monotonic(), 0.0
        self._start = datetime.now(UTC)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Packager]:
        clip()
        app = web.Application()
        app.router.add_get("/{name}", self._serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._began = time.monotonic()
        self._start = datetime.now(UTC) - timedelta(seconds=self.age)
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"].split(".")[0]
        self.asked[name] += 1
        self.tokens.append(request.headers.get("Authorization"))
        self.headers.append(dict(request.headers))
        for kind in [name, "segment"] if name.isdigit() else [name]:
            if kind in self.broken and (answer := await self.broken[kind](request)) is not None:
                return answer
        if name == "live":
            return web.Response(text=self.manifest(), content_type="application/dash+xml")
        if name == "init":
            return web.Response(body=clip().init)
        if name.isdigit() and int(name) < self.last:
            return web.Response(body=b"".join(chunks(int(name))) if self.chunked else clip().fmp4[int(name)])
        if self.chunked and name.isdigit() and int(name) == self.last and self.last < SEGMENTS:
            return await self._growing(request, int(name))
        raise web.HTTPNotFound

    async def _growing(self, request: web.Request, number: int) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for n, chunk in enumerate(chunks(number), number * PER_SEGMENT + 1):
            while self.passed < n / FPS and self._frozen is None:  # noqa: ASYNC110 (it grows as time passes)
                await asyncio.sleep(_GROWTH)
            if self.passed < n / FPS:
                break
            await response.write(chunk)
        await response.write_eof()
        return response

    def manifest(self) -> str:
        kind = "static" if self.static else "dynamic"
        started = self._start.isoformat().replace("+00:00", "Z")
        template = (
            f'<SegmentTemplate timescale="{VIDEO_CLOCK}" initialization="init.mp4" media="$Number$.m4s" {{}}</SegmentTemplate>'
        )
        early = f'availabilityTimeOffset="{SEGMENT_SECONDS - 1 / FPS}" availabilityTimeComplete="false"' if self.chunked else ""
        if self.timeline:
            first = max(0, self.last - WINDOW)
            spans = "".join(f'<S t="{self._time(n)}" d="{_TICKS}"/>' for n in range(first, self.last))
            said = template.format(f'startNumber="{first}" {early}><SegmentTimeline>{spans}</SegmentTimeline>')
        else:
            said = template.format(f'startNumber="0" duration="{_TICKS}" {early}>')
        ends = f'mediaPresentationDuration="PT{self.last * SEGMENT_SECONDS}S"' if self.static else ""
        update = 'minimumUpdatePeriod="PT0.5S"' if self.timeline else 'minimumUpdatePeriod="PT1S"'
        return (
            f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="{kind}" availabilityStartTime="{started}" '
            f"{update} {ends} {self.head}>"
            '<Period id="0" start="PT0S">'
            f'<AdaptationSet mimeType="video/mp4">{self.video}{said}'
            f'<Representation id="low" codecs="{self.codecs}" bandwidth="1000" width="160" height="90"/>'
            f'<Representation id="high" codecs="{self.codecs}" bandwidth="200000" width="320" height="180" frameRate="20"/>'
            f"</AdaptationSet>{self.sets}</Period></MPD>"
        )

    def _time(self, number: int) -> int:
        return number * _TICKS + (self.first_ticks if self.jump_at is not None and number >= self.jump_at else 0)
