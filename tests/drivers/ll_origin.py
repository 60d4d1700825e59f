"""A live low-latency HLS origin on port 0, after RFC 8216bis: parts that come into being as time passes, and what may break it.

Ten pictures a segment, two a part, twenty a second; every segment begins with a keyframe. Picture n carries the number n.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache

from aiohttp import web

from probe.media.encode import VIDEO_CLOCK
from probe.wire.fmp4 import Run, Sample, media_segment, split_annexb, to_lengths
from tests.drivers.hls_origin import FPS, HEIGHT, WIDTH, Broken, clip

PER_PART, PER_SEGMENT = 2, 10
PARTS = PER_SEGMENT // PER_PART
PART_SECONDS = PER_PART / FPS
SEGMENT_SECONDS = PER_SEGMENT / FPS
WINDOW = 12  # segments
PARTED = 7  # of them, the newest, by parts: three target durations, as the draft asks


@cache
def part(number: int, step: int = 1, shift: int = 0) -> bytes:
    """Part `number` of the clip, its times moved by `shift` seconds. `step` 2: every picture but the first of a segment
    left out where its number is odd, as a rendition of half the frame rate would (all its pictures are then keyframes')."""
    first = number * PER_PART
    ticks = VIDEO_CLOCK // FPS
    samples = []
    for n in range(first, first + PER_PART, step):
        data, key = clip().units[n]
        samples.append(Sample(to_lengths([nal for nal in split_annexb(data) if nal[0] & 31 != 9]), ticks * step, key))
    return media_segment(number + 1, [Run(1, first * ticks + shift * VIDEO_CLOCK, samples)])


@cache
def segment(number: int) -> bytes:
    return b"".join(part(n) for n in range(number * PARTS, (number + 1) * PARTS))


@dataclass
class LowLatencyOrigin:
    """`listed` parts exist at the start. `broken` may answer instead, by name of what is asked for (`media`, `master`, `init`,
    `part`, `segment`, or `p31`, `s6` for one)."""

    listed: int = 43  # eight segments and three parts
    moving: bool = True
    block: bool = True
    skip: bool = True
    hints: bool = True
    parts: bool = True
    hold_back: float = 0.3
    dated: bool = True
    variants: int = 1
    audio: str = ""  # lines of the master
    codecs: str = "avc1.42c01e"
    gaps: frozenset[int] = frozenset()
    jump_at: int | None = None  # from this part on segments are numbered 1000 higher
    shift: Callable[[int], int] = lambda number: 0  # seconds a part's times are moved by
    discontinuity_at: int | None = None  # segment
    rate: Callable[[str], int | None] = lambda name: None  # bytes a second at which a rendition's media is sent
    pad: dict[str, int] = field(default_factory=dict)  # rendition → bytes each part is made longer by
    edit: Callable[[str], str] = lambda text: text
    broken: dict[str, Broken] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    queries: list[dict[str, str]] = field(default_factory=list)
    headers: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    held: int = 0  # requests for parts that came before the part
    url: str = ""
    _began: float = 0.0

    @property
    def last(self) -> int:
        """How many parts exist by now."""
        passed = asyncio.get_running_loop().time() - self._began if self.moving else 0.0
        return self.listed + int(passed / PART_SECONDS)

    def freeze(self) -> None:
        self.listed, self.moving = self.last, False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[LowLatencyOrigin]:
        clip()
        for n in range(self.listed + 80):
            part(n)
        app = web.Application()
        app.router.add_get("/{way}/{name}", self._serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/a/master.m3u8"
        self._began = asyncio.get_running_loop().time()
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        way, name = request.match_info["way"], request.match_info["name"].split(".")[0]
        self.asked[name] += 1
        self.headers.append((name, dict(request.headers)))
        kind = {"p": "part", "s": "segment"}.get(name[0], name) if name[1:].isdigit() else name
        for each in (name, kind):
            if each in self.broken and (answer := await self.broken[each](request)) is not None:
                return answer
        match kind:
            case "master":
                return web.Response(text=self._master())
            case "media":
                return await self._media(request, way)
            case "init":
                return web.Response(body=clip().init)
            case "part":
                return await self._part(request, way, int(name[1:]))
            case "segment" if int(name[1:]) < self.last // PARTS:
                return await self._sent(request, way, segment(int(name[1:])))
        raise web.HTTPNotFound

    async def _part(self, request: web.Request, way: str, number: int) -> web.StreamResponse:
        if number > self.last:
            raise web.HTTPNotFound
        if number == self.last:
            self.held += 1
        await self._until(number + 1)
        pad = self.pad.get(way, 0)
        free = (pad + 8).to_bytes(4, "big") + b"free" + bytes(pad) if pad else b""
        return await self._sent(request, way, part(number, shift=self.shift(number)) + free)

    async def _sent(self, request: web.Request, way: str, data: bytes) -> web.StreamResponse:
        rate = self.rate(way)
        if rate is None:
            return web.Response(body=data)
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        for at in range(0, len(data), rate // 20):
            await asyncio.sleep(0.05)
            await response.write(data[at : at + rate // 20])
        return response

    async def _until(self, count: int) -> None:
        while self.last < count:  # noqa: ASYNC110 (it moves as time passes, and no event says so)
            await asyncio.sleep(0.01 if self.moving else 3600)

    def _master(self) -> str:
        lines = [f"#EXTM3U\n{self.audio}"]
        sound = ',AUDIO="a"' if self.audio else ""
        for n, way in zip(range(self.variants), "ab", strict=False):
            size = f"{WIDTH // (n + 1)}x{HEIGHT // (n + 1)}"
            lines.append(f'#EXT-X-STREAM-INF:BANDWIDTH={800_000 >> 2 * n},RESOLUTION={size},CODECS="{self.codecs}"{sound}')
            lines.append(f"/{way}/media.m3u8")
        return "\n".join(lines) + "\n"

    async def _media(self, request: web.Request, way: str) -> web.Response:
        self.queries.append(dict(request.query))
        if self.block and "_HLS_msn" in request.query:
            sequence, number = int(request.query["_HLS_msn"]) - self._jumped(self.last), int(request.query.get("_HLS_part", 0))
            if self.jump_at is None and sequence > self.last // PARTS + 2:
                raise web.HTTPBadRequest
            await self._until(sequence * PARTS + number + 1)
        return web.Response(text=self.edit(self.list(way, skip="_HLS_skip" in request.query)))

    def _jumped(self, last: int) -> int:
        return 1000 if self.jump_at is not None and last >= self.jump_at else 0

    def list(self, way: str = "a", *, skip: bool = False) -> str:
        last = self.last
        whole = last // PARTS
        first = max(0, whole - WINDOW)
        offset = self._jumped(last)
        lines = ["#EXTM3U", "#EXT-X-VERSION:9", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first + offset}"]
        control = [f"PART-HOLD-BACK={self.hold_back}"] if self.parts else []
        control += ["CAN-BLOCK-RELOAD=YES"] if self.block else []
        control += ["CAN-SKIP-UNTIL=6.0"] if self.skip else []
        lines += [f"#EXT-X-SERVER-CONTROL:{','.join(control)}"] if control else []
        lines += [f"#EXT-X-PART-INF:PART-TARGET={PART_SECONDS}"] if self.parts else []
        skipped = max(0, whole - first - 4) if skip and self.skip else 0
        lines += [f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"] if skipped else ['#EXT-X-MAP:URI="init.mp4"']
        for n in range(first + skipped, whole + 1):
            lines += ["#EXT-X-DISCONTINUITY"] if n == self.discontinuity_at and n * PARTS < last else []
            if self.dated and n * PARTS < last:
                age = (last - n * PARTS) * PART_SECONDS
                lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{_date(age)}")
            if self.parts and n > whole - PARTED:
                lines += [self._line(k) for k in range(n * PARTS, min(last, (n + 1) * PARTS))]
            if n < whole:
                lines += [f"#EXTINF:{SEGMENT_SECONDS},", f"s{n}.m4s"]
        if self.parts and self.hints:
            lines.append(f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p{last}.m4s"')
        if self.variants > 1:
            other = "b" if way == "a" else "a"
            newest = last - 1
            report = f"LAST-MSN={newest // PARTS + offset},LAST-PART={newest % PARTS}"
            lines.append(f'#EXT-X-RENDITION-REPORT:URI="/{other}/media.m3u8",{report}')
        return "\n".join(lines) + "\n"

    def _line(self, number: int) -> str:
        more = ",INDEPENDENT=YES" if number % PARTS == 0 else ""
        more += ",GAP=YES" if number in self.gaps else ""
        return f'#EXT-X-PART:DURATION={PART_SECONDS},URI="p{number}.m4s"{more}'


def _date(age: float) -> str:
    return datetime.fromtimestamp(datetime.now(UTC).timestamp() - age, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
