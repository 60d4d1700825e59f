"""The DASH viewer against FFmpeg's own muxer: a live programme of ours in, its pictures and sound marks out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from probe.drivers.base import Spec
from probe.drivers.dash import DashViewer, scout
from probe.model.clock import MS, NS
from probe.model.frames import Chirp, FrameRecord, Reading
from probe.model.observation import Delivery, Role
from tests.drivers.dash_origin import IDS, Folder, ffmpeg
from tests.drivers.hls_session import FakeIO, sessions
from tests.tools import wait_until

LOW = (
    *("-ldash", "1", "-streaming", "1", "-frag_type", "every_frame"),
    *("-write_prft", "1", "-target_latency", "1.5", "-utc_timing_url", "http://127.0.0.1:1/"),
)
WAYS = {
    "timeline": (("-use_timeline", "1"), 4.0),
    "number": (("-use_timeline", "0"), 4.0),
    "low-latency": ((*LOW, "-use_timeline", "0"), 2.6),
    "low-latency-timeline": ((*LOW, "-use_timeline", "1"), 4.0),
}


@pytest.fixture
async def io() -> AsyncIterator[FakeIO]:
    async with sessions() as make:
        yield make()


async def segments(origin: Folder, count: int) -> None:
    await wait_until(lambda: len(list(origin.folder.glob("chunk-stream0-*.m4s"))) >= count, 20, f"{count} segments")


@pytest.mark.parametrize(("options", "latest"), list(WAYS.values()), ids=list(WAYS))
async def test_pictures_and_sound_come_out_as_they_went_in(io: FakeIO, tmp_path: Path, options: tuple[str, ...], latest: float):
    pictures: list[FrameRecord] = []
    sounds: list[Chirp] = []
    async with ffmpeg(tmp_path, *options) as origin:
        await segments(origin, 3)
        spec = Spec(role=Role.VIEWER, protocol="dash", url=f"{origin.url}/live.mpd", session="s")
        assert await scout(spec, io)
        async with DashViewer().open(spec, io), asyncio.timeout(20):
            while len(pictures) < 100 or len(sounds) < 2:
                record = await io.feed.get()
                if isinstance(record, FrameRecord):
                    pictures.append(record)
                elif isinstance(record, Chirp):
                    sounds.append(record)
        await io.http.close()
    assert all(p.reading is Reading.CODE and p.code and p.code.run == IDS.run and p.intact is not False for p in pictures)
    got = [p.code.sequence for p in pictures if p.code]
    assert got == list(range(got[0], got[0] + len(got)))
    assert max(b.shown - a.shown for a, b in pairwise(pictures[1:])) < 400 * MS
    assert io.facts["audio"] == "aac" and io.facts["variant"].startswith("640x360 avc1.42c0")
    behind = median(io.clock.wall(p.shown).unix_ns / NS - p.code.stamp_ms / 1000 for p in pictures if p.code)
    assert 0 < behind < latest
    told = [second.live_latency for second in io.of(Delivery) if second.live_latency is not None]
    if options[0] == LOW[0]:
        assert io.facts["low_latency"] and told
        assert told[-1] == pytest.approx(behind, abs=0.5)  # less what the programme took to reach FFmpeg
    else:
        assert told == []
