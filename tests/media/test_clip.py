"""Clips and pipes: the programme where a file is wanted."""

from __future__ import annotations

import io
import os
import threading
from typing import Any

import av
import pytest

from probe.clock import SystemClock
from probe.media.clip import LivePipe, clip
from probe.media.inspect import Inspector
from probe.media.programme import Programme, ProgrammeIds

IDS = ProgrammeIds(run=7, trace=8, publish=1)


def seen(data: bytes):
    clock = SystemClock()
    inspector = Inspector(clock)
    pictures: list[Any] = []
    chirps: list[Any] = []
    with av.open(io.BytesIO(data), "r") as container:
        for packet in container.demux():
            for frame in packet.decode():
                assert isinstance(frame, av.VideoFrame | av.AudioFrame) and frame.time is not None
                at = frame.time
                if isinstance(frame, av.VideoFrame):
                    pictures.append(inspector.picture(frame, arrived=0, size=0, keyframe=False, media_time=at))
                else:
                    chirps += inspector.sound(frame, shown=round(at * 1e9), media_time=at)
    return pictures, chirps


@pytest.mark.parametrize("name", ["360p30", "portrait30"])
def test_a_clip_is_stamped_from_the_time_it_is_given(name):
    pictures, chirps = seen(clip(name, 2.5, IDS, unix_ms=1_795_244_028_600))
    assert [picture.code.sequence for picture in pictures] == list(range(75))
    assert [picture.code.stamp_ms for picture in pictures] == [1_795_244_028_600 + round(n * 1000 / 30) for n in range(75)]
    assert [picture.media_time for picture in pictures] == pytest.approx([n / 30 for n in range(75)], abs=1e-4)
    assert [chirp.media_time for chirp in chirps] == pytest.approx([0.4, 1.4], abs=0.0005)


def test_a_clip_may_be_black_or_silent():
    pictures, chirps = seen(clip("360p30", 1.5, IDS, unix_ms=1_795_244_028_600, black=True, audio=False))
    assert all(picture.black and picture.code for picture in pictures) and chirps == []


@pytest.mark.parametrize("codec", ["opus", "aac"])
def test_a_live_pipe_can_be_read_while_it_runs(codec):
    clock = SystemClock()
    read, write = os.pipe()
    got: list[Any] = []
    with (
        open(write, "wb", buffering=0) as sink,  # what is left for it to write has no reader
        LivePipe(Programme("360p30", clock=clock, ids=IDS, audio_codec=codec), sink) as pipe,
        open(read, "rb") as source,
    ):
        inspector = Inspector(clock)
        with av.open(source, "r", format="mp4", options={"probesize": "20000"}) as container:
            assert container.streams.audio[0].codec_context.name in (codec, "lib" + codec)
            for frame in container.decode(video=0):
                got.append(inspector.picture(frame, arrived=0, size=0, keyframe=False))
                if len(got) == 40:
                    break
        assert pipe.error is None
    assert [picture.code.sequence for picture in got] == list(range(40))
    age = (clock.wall(got[-1].decoded).unix_ns - got[-1].code.stamp_ms * 1_000_000) / 1e9
    assert 0 <= age < 3


def test_a_pipe_whose_reader_left_says_so_and_closes():
    before = set(threading.enumerate())
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb", buffering=0) as sink, LivePipe(Programme("360p30", clock=SystemClock(), ids=IDS), sink) as pipe:
        waiter = threading.Event()
        for _ in range(200):
            if pipe.error is not None:
                break
            waiter.wait(0.02)
    assert isinstance(pipe.error, BrokenPipeError)
    assert set(threading.enumerate()) == before
