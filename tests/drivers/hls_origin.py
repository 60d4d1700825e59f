"""A live HLS origin on port 0: a pre-encoded clip whose segments come into being as time passes, and what may break it."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from urllib.parse import urlsplit

import av
from aiohttp import web

from probe.media.encode import VIDEO_CLOCK, H264Encoder
from probe.media.mux import SegmentMuxer
from probe.media.picture import Painter, Synthesizer
from probe.model.frames import FrameCode

FPS = 20
PER_SEGMENT = 10
SEGMENT_SECONDS = PER_SEGMENT / FPS
SEGMENTS = 60
WINDOW = 10
WIDTH, HEIGHT = 320, 180
RUN, TRACE = 7, 9


@dataclass(frozen=True)
class Clip:
    """Sequence n of the code is frame n; segment k holds frames 10 k … 10 k + 9."""

    units: tuple[tuple[bytes, bool], ...]
    init: bytes
    fmp4: tuple[bytes, ...]
    ts: tuple[bytes, ...]


@cache
def clip() -> Clip:
    painter, encoder = Painter(WIDTH, HEIGHT), H264Encoder(WIDTH, HEIGHT, FPS, 200_000)
    muxer = SegmentMuxer(target=SEGMENT_SECONDS)
    units, fmp4, ts = [], [], []
    for n in range(SEGMENTS * PER_SEGMENT):
        code = FrameCode(run=RUN, trace=TRACE, publish=0, sequence=n, stamp_ms=1_700_000_000_000 + n * 50)
        pts = n * VIDEO_CLOCK // FPS
        data, key = encoder.encode(painter.paint(n, code, black=False), pts, keyframe=n % PER_SEGMENT == 0)
        units.append((data, key))
        if segment := muxer.push_video(data, pts, key):
            fmp4.append(segment.data)
    if segment := muxer.flush():
        fmp4.append(segment.data)
    for k in range(SEGMENTS):
        ts.append(_ts(units[k * PER_SEGMENT : (k + 1) * PER_SEGMENT], k * PER_SEGMENT))
    assert muxer.init is not None
    assert len(fmp4) == SEGMENTS
    return Clip(tuple(units), muxer.init, tuple(fmp4), tuple(ts))


def _ts(units: list[tuple[bytes, bool]], first: int) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height = WIDTH, HEIGHT
        for n, (data, key) in enumerate(units, first):
            packet = av.Packet(data)
            packet.stream = stream
            packet.time_base = Fraction(1, VIDEO_CLOCK)
            packet.pts = packet.dts = VIDEO_CLOCK + n * VIDEO_CLOCK // FPS
            packet.is_keyframe = key
            container.mux(packet)
    return out.getvalue()


@cache
def without_keyframe() -> bytes:
    """A segment that begins in the middle of a group of pictures and ends in it."""
    muxer = SegmentMuxer(target=SEGMENT_SECONDS)
    for n, (data, _) in enumerate(clip().units[:3]):
        muxer.push_video(data, n * VIDEO_CLOCK // FPS, n == 0)
    muxer.flush()
    for n, (data, _) in enumerate(clip().units[3:8]):
        muxer.push_video(data, n * VIDEO_CLOCK // FPS, False)
    segment = muxer.flush()
    assert segment is not None
    return segment.data


@cache
def rich_ts(seconds: int = 4) -> bytes:
    """One TS segment as nginx-rtmp makes them: H.264 with B frames, AAC with a chirp at each whole second."""
    painter, synthesizer, out = Painter(WIDTH, HEIGHT), Synthesizer(0), io.BytesIO()
    with av.open(out, "w", format="mpegts") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.options = {"preset": "veryfast", "x264-params": "bframes=3:b-adapt=0:keyint=20:scenecut=0"}
        audio = container.add_stream("aac", rate=48_000, layout="mono")
        for n in range(seconds * FPS):
            code = FrameCode(run=RUN, trace=TRACE, publish=0, sequence=n, stamp_ms=1_700_000_000_000 + n * 50)
            frame = painter.paint(n, code, black=False)
            frame.pts, frame.time_base = n, Fraction(1, FPS)
            container.mux(video.encode(frame))
        for first in range(0, seconds * 48_000, synthesizer.BLOCK):
            sound = av.AudioFrame.from_ndarray(synthesizer.block(first)[None], format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 48_000, first, Fraction(1, 48_000)
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return out.getvalue()


@cache
def sound_alone(seconds: int = 4) -> bytes:
    """One fMP4 of AAC alone, as separate renditions of sound have it, with a chirp at each whole second."""
    synthesizer, out = Synthesizer(0), io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "10000000"}
    with av.open(out, "w", format="mp4", options=options) as container:
        audio = container.add_stream("aac", rate=48_000, layout="mono")
        for first in range(0, seconds * 48_000, synthesizer.BLOCK):
            sound = av.AudioFrame.from_ndarray(synthesizer.block(first)[None], format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 48_000, first, Fraction(1, 48_000)
            container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return out.getvalue()


@cache
def mpeg2() -> bytes:
    """A TS segment whose pictures are not H.264."""
    out = io.BytesIO()
    with av.open(out, "w", format="mpegts") as container:
        video = container.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for n in range(10):
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return out.getvalue()


Broken = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass
class Origin:
    """`listed` segments exist at the start; one more every half second while `moving`. `broken` may answer instead, by
    name of what is asked for (`media`, `master`, `init`, or a segment's number as text, `segment` for all)."""

    listed: int = 12
    ts: bool = False
    moving: bool = True
    endlist_at: int | None = None
    codecs: str = "avc1.42c01e"
    head: str = ""  # lines added to the media playlist
    media_url: str = "media.m3u8"
    prefix: str = ""  # before each segment's name
    discontinuity_at: int | None = None  # from this segment on the clip plays from its beginning again
    broken: dict[str, Broken] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    tokens: list[str | None] = field(default_factory=list)
    url: str = ""
    _began: float = 0.0

    @property
    def last(self) -> int:
        """How many segments exist by now."""
        passed = asyncio.get_running_loop().time() - self._began if self.moving else 0.0
        count = min(SEGMENTS, self.listed + int(passed / SEGMENT_SECONDS))
        return count if self.endlist_at is None else min(count, self.endlist_at)

    def freeze(self) -> None:
        self.listed, self.moving = self.last, False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Origin]:
        clip()
        app = web.Application()
        app.router.add_get("/{name}", self._serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._began = asyncio.get_running_loop().time()
        try:
            yield self
        finally:
            await runner.cleanup()

    @property
    def port(self) -> int:
        return int(urlsplit(self.url).port or 0)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"].split(".")[0]
        self.asked[name] += 1
        self.tokens.append(request.headers.get("Authorization"))
        kinds = [name, "segment"] if name.isdigit() else [name]
        for kind in kinds:
            if kind in self.broken and (answer := await self.broken[kind](request)) is not None:
                return answer
        match name:
            case "master":
                return web.Response(text=self._master())
            case "media":
                return web.Response(text=self._media())
            case "init":
                return web.Response(body=clip().init)
            case _ if name.isdigit() and int(name) < self.last:
                return web.Response(body=self._segment(int(name)))
        raise web.HTTPNotFound

    def _segment(self, number: int) -> bytes:
        if self.discontinuity_at is not None and number >= self.discontinuity_at:
            number -= self.discontinuity_at
        return clip().ts[number] if self.ts else clip().fmp4[number]

    def _master(self) -> str:
        low = f'#EXT-X-STREAM-INF:BANDWIDTH=1000,CODECS="{self.codecs}"\n{self.media_url}?low'
        high = f'#EXT-X-STREAM-INF:BANDWIDTH=200000,RESOLUTION={WIDTH}x{HEIGHT},CODECS="{self.codecs}"\n{self.media_url}'
        return f"#EXTM3U\n{low}\n{high}\n"

    def _media(self) -> str:
        last = self.last
        first = max(0, last - WINDOW)
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:6",
            "#EXT-X-TARGETDURATION:1",
            f"#EXT-X-MEDIA-SEQUENCE:{first}",
            *self.head.splitlines(),
        ]
        if not self.ts:
            lines.append('#EXT-X-MAP:URI="init.mp4"')
        for n in range(first, last):
            if n == self.discontinuity_at:
                lines.append("#EXT-X-DISCONTINUITY")
            lines += [f"#EXTINF:{SEGMENT_SECONDS},", f"{self.prefix}{n}.{'ts' if self.ts else 'm4s'}"]
        if last in (self.endlist_at, SEGMENTS):
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"


def status(code: int, times: int | None = None) -> Broken:
    """Answer `code`; only the first `times` if given."""
    left = [times]

    async def answer(request: web.Request) -> web.StreamResponse | None:
        if left[0] is not None:
            if left[0] == 0:
                return None
            left[0] -= 1
        return web.Response(status=code)

    return answer


def body(data: bytes) -> Broken:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=data)

    return answer


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"#EXTM3U\n" * 8192)


def cut_off(data: bytes, times: int) -> Broken:
    """Half of `data` and then the connection is gone, the first `times`."""
    left = [times]

    async def answer(request: web.Request) -> web.StreamResponse | None:
        if left[0] == 0:
            return None
        left[0] -= 1
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
        assert request.transport is not None
        request.transport.close()
        return response

    return answer
