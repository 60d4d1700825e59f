"""The DASH viewer against packagers of others, all fed by one live programme of ours: what went in comes out of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from probe.drivers.base import Spec
from probe.drivers.dash import DashViewer, scout
from probe.model.clock import MS, NS
from probe.model.frames import Chirp, FrameRecord, Reading
from probe.model.observation import Delivery, Role
from tests.drivers.dash_origin import IDS, Folder, packagers
from tests.drivers.hls_session import FakeIO, sessions
from tests.tools import wait_until

LOW = (
    *("-ldash", "1", "-streaming", "1", "-frag_type", "every_frame"),
    *("-write_prft", "1", "-target_latency", "1.5", "-utc_timing_url", "http://127.0.0.1:1/"),
)
WAYS = {
    "timeline": ("-use_timeline", "1"),
    "number": ("-use_timeline", "0"),
    "low-latency": (*LOW, "-use_timeline", "0"),
    "low-latency-timeline": (*LOW, "-use_timeline", "1"),
}
LATEST = {"low-latency": 2.8}  # seconds behind the programme; of the others, segments of 1 s fetched whole, 5


@dataclass
class Seen:
    io: FakeIO
    pictures: list[FrameRecord] = field(default_factory=list)
    sounds: list[Chirp] = field(default_factory=list)

    @property
    def sequence(self) -> list[int]:
        return [p.code.sequence for p in self.pictures if p.code and p.code.run == IDS.run and p.reading is Reading.CODE]

    @property
    def behind(self) -> float:
        wall = self.io.clock.wall
        return median(wall(p.shown).unix_ns / NS - p.code.stamp_ms / 1000 for p in self.pictures if p.code)


@pytest.fixture
async def make_io() -> AsyncIterator[Callable[..., FakeIO]]:
    async with sessions() as make:
        yield make


async def watch(origin: Folder, io: FakeIO) -> Seen:
    await wait_until(lambda: sum("init" not in file.name for file in origin.folder.glob("*.m4[sv]")) >= 4, 20, "segments")
    seen, manifest = Seen(io), next(file.name for file in origin.folder.glob("*.mpd"))
    spec = Spec(role=Role.VIEWER, protocol="dash", url=f"{origin.url}/{manifest}", session="s")
    assert await scout(spec, io)
    async with DashViewer().open(spec, io), asyncio.timeout(20):
        while len(seen.pictures) < 75 or len(seen.sounds) < 2:
            record = await io.feed.get()
            if isinstance(record, FrameRecord):
                seen.pictures.append(record)
            elif isinstance(record, Chirp):
                seen.sounds.append(record)
    return seen


async def test_pictures_and_sound_come_out_as_they_went_in(make_io: Callable[..., FakeIO], tmp_path: Path):
    async with packagers(tmp_path, WAYS) as origins, asyncio.TaskGroup() as group:
        tasks = {way: group.create_task(watch(origin, make_io())) for way, origin in origins.items()}
    for way, task in tasks.items():
        seen, facts = task.result(), task.result().io.facts
        first = seen.sequence[0]
        assert seen.sequence == list(range(first, first + len(seen.pictures))), way
        assert all(p.intact is not False for p in seen.pictures), way
        # Evenly, and never by whole segments of 1 s; four packagers on a busy machine may once be late by half of one.
        stood = [b.shown - a.shown for a, b in pairwise(seen.pictures[1:])]
        assert sum(gap >= 400 * MS for gap in stood) <= 1 and max(stood) < 900 * MS, way
        assert facts["audio"] == "aac" and facts["variant"].startswith("640x360 avc1.42c0"), way
        assert 0 < seen.behind < LATEST.get(way, 5.0), way
        told = [second.live_latency for second in seen.io.of(Delivery) if second.live_latency is not None]
        if way in ("low-latency", "low-latency-timeline"):
            assert facts["low_latency"], way
            assert told[-1] == pytest.approx(seen.behind, abs=0.5), way  # less what the programme took to reach FFmpeg
        else:
            assert told == [], way
