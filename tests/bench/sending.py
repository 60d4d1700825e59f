"""One publisher, and what its whole process spends on it: programme, splicing, packets, encryption, sockets.

python -m tests.bench.sending JSON — {"protocol", "url", "key", "token", "programme", "bitrate", "audio", "warm", "seconds"}. Says
`on air` when media is acknowledged, measures `seconds` after `warm` and prints the CPU-seconds of a stream's second as JSON;
then it goes on until its standard input ends. `protocol` whip-aiortc: aiortc's own peer and encoder, with the programme's
pictures painted one by one.
"""

from __future__ import annotations

import asyncio
import fractions
import json
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import av
import uvloop
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription, VideoStreamTrack

from probe.drivers.base import Spec
from probe.drivers.table import table
from probe.media.picture import Painter
from probe.media.prepare import FPS, prepared
from probe.media.sizes import SIZES
from probe.model.frames import FrameCode
from probe.model.observation import Role
from probe.net.credential import Credential, origin_of
from tests.bench.watching import PUBLISH, RUN, TRACE
from tests.drivers.hls_session import FakeIO, sessions
from tests.tools import wait_until


class Painted(VideoStreamTrack):
    """The programme's pictures with a live code, thirty a second."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self._painter = Painter(width, height)
        self._began = time.monotonic()
        self.sent = 0

    async def recv(self) -> av.VideoFrame:
        await asyncio.sleep(max(0.0, self._began + self.sent / FPS - time.monotonic()))
        stamp = time.time_ns() // 1_000_000
        code = FrameCode(run=RUN, trace=TRACE, publish=PUBLISH, sequence=self.sent, stamp_ms=stamp)
        frame = self._painter.paint(self.sent, code, black=False)
        frame.pts, frame.time_base = self.sent * 3000, fractions.Fraction(1, 90_000)
        self.sent += 1
        return frame


@asynccontextmanager
async def aiortc(order: dict[str, Any]) -> AsyncIterator[None]:
    """Sends H.264 as aiortc does."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    track = Painted(*SIZES[order["programme"]])
    sender = peer.addTransceiver(track, direction="sendonly")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    sender.setCodecPreferences([c for c in codecs if c.mimeType == "video/H264"])
    await peer.setLocalDescription(await peer.createOffer())
    headers = {"Authorization": f"Bearer {order['token']}", "Content-Type": "application/sdp"}
    async with aiohttp.ClientSession() as http:
        async with http.post(order["url"], data=peer.localDescription.sdp, headers=headers) as answer:
            answer.raise_for_status()
            await peer.setRemoteDescription(RTCSessionDescription(await answer.text(), "answer"))
        try:
            await wait_until(lambda: track.sent >= FPS, 15, "a second of pictures")
            yield
        finally:
            await peer.close()


@asynccontextmanager
async def ours(order: dict[str, Any]) -> AsyncIterator[None]:
    """Sends as a run does."""
    credential = Credential(order["token"], frozenset({origin_of(order["url"])})) if order["token"] else None
    spec = Spec(
        role=Role.PUBLISHER, protocol=order["protocol"], url=order["url"], key=order["key"], credential=credential,
        run_number=RUN, trace_low=TRACE, publish=PUBLISH, programme=order["programme"], bitrate=order["bitrate"],
        audio=order["audio"],
    )  # fmt: skip
    assert (await prepared(spec.programme, spec.bitrate)).spliced
    async with AsyncExitStack() as stack:
        io: FakeIO = (await stack.enter_async_context(sessions()))()
        await stack.enter_async_context(table().sessions[Role.PUBLISHER, spec.protocol].driver.open(spec, io))
        async with asyncio.timeout(15):
            while not getattr(await io.feed.get(), "acknowledged", False):
                pass
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(_read(io))
            try:
                yield
            finally:
                reading.cancel()


async def _read(io: FakeIO) -> None:
    while await io.feed.get() is not None:
        pass


async def send(order: dict[str, Any]) -> None:
    async with (aiortc if order["protocol"] == "whip-aiortc" else ours)(order):
        print("on air", flush=True)
        await asyncio.sleep(order["warm"])
        before, began = _cpu(), time.monotonic()
        await asyncio.sleep(order["seconds"])
        print(json.dumps((_cpu() - before) / (time.monotonic() - began)), flush=True)
        await asyncio.to_thread(sys.stdin.read)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(send(json.loads(sys.argv[1])))
