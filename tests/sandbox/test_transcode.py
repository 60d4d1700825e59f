"""What is transcoded keeps its place in time, its keyframes and its code; what cannot be decoded harms nothing."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import av
import pytest

from probe.media.inspect import Inspector
from probe.media.programme import ProgrammeIds
from probe.media.source import AudioSource, VideoSource
from probe.media.transcode import AAC_CONFIG, BLOCKS, PictureTranscoder, SoundTranscoder, level_of, scaled
from probe.wire.fmp4 import split_annexb
from tests.sandbox.clients import CLOCK

ORIGIN_NS = 1_795_244_028_000_000_000
RATE = 48_000


def until(predicate: Callable[[], object], deadline: float = 5.0) -> None:
    ends = time.monotonic() + deadline
    while not predicate():
        assert time.monotonic() < ends, "too late"
        time.sleep(0.005)


def sound(codec: str, seconds: int = 4) -> Iterator[tuple[bytes, int]]:
    source = AudioSource(ORIGIN_NS, 1, 64_000, codec)
    for number in range(1, seconds * RATE // BLOCKS[codec]):
        yield source.make(number)


def config_of(codec: str) -> bytes:
    return bytes.fromhex("1188") if codec == "aac" else b""


def transcoded(codec: str, target: str, packets: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    out: list[tuple[bytes, int]] = []
    transcoder = SoundTranscoder(codec, target, lambda data, pts: out.append((data, pts)), config=config_of(codec))
    try:
        for data, pts in packets:
            transcoder.put(data, pts)
            until(lambda: not transcoder._items)
        length = packets[-1][1] - packets[0][1]
        until(lambda: out and out[-1][1] - packets[0][1] > length - 0.1 * RATE)
    finally:
        transcoder.close(1)
    return out


def chirps(codec: str, packets: list[tuple[bytes, int]]) -> list[float]:
    """Seconds of the stream's own time at which chirps are heard."""
    decoder, inspector = av.CodecContext.create("libopus" if codec == "opus" else codec, "r"), Inspector(CLOCK)
    assert isinstance(decoder, av.AudioCodecContext)
    if codec == "aac":
        decoder.extradata = AAC_CONFIG
    else:
        decoder.sample_rate, decoder.layout = RATE, "stereo"
    heard = []
    for data, pts in packets:
        for frame in decoder.decode(av.Packet(data)):
            heard += inspector.sound(frame, shown=0, media_time=pts / RATE)
    return [chirp.media_time for chirp in heard if chirp.media_time is not None]


@pytest.mark.parametrize(("codec", "target"), [("opus", "aac"), ("aac", "opus"), ("aac", "aac")])
def test_chirps_keep_their_place(codec: str, target: str) -> None:
    packets = [(data, pts) for data, pts in sound(codec) if pts >= 0]
    heard = chirps(target, transcoded(codec, target, packets))
    assert len(heard) >= 2
    assert all(abs((at + 0.5) % 1 - 0.5) < 0.003 for at in heard), heard


def test_what_is_lost_on_the_way_in_moves_nothing() -> None:
    packets = [(data, pts) for data, pts in sound("opus", 6) if pts >= 0]
    holes = [packet for n, packet in enumerate(packets) if n % 50 not in (20, 21, 22) and not 120 <= n < 130]
    out = transcoded("opus", "aac", holes)
    assert all(later - earlier == 1024 for (_, earlier), (_, later) in itertools.pairwise(out))
    assert all(abs((at + 0.5) % 1 - 0.5) < 0.003 for at in chirps("aac", out))


def test_a_jump_of_an_hour_begins_anew() -> None:
    packets = [(data, pts) for data, pts in sound("opus", 3) if pts >= 0]
    moved = [(data, pts + 3600 * RATE) for data, pts in packets]
    out = transcoded("opus", "aac", packets + moved)
    steps = [later - earlier for (_, earlier), (_, later) in itertools.pairwise(out)]
    assert len([step for step in steps if step != 1024]) == 1
    back = transcoded("opus", "aac", moved + packets[:-1] + [(packets[-1][0], packets[-1][1])])
    assert back[-1][1] < 4 * RATE


def test_the_stated_configuration_is_the_encoder_s() -> None:
    transcoder = SoundTranscoder("opus", "aac", lambda data, pts: None)
    transcoder.close(1)
    assert transcoder._encoder.extradata == AAC_CONFIG


@pytest.mark.parametrize("codec", ["opus", "aac"])
def test_noise_is_refused_packet_by_packet(codec: str) -> None:
    out: list[bytes] = []
    good = [packet for packet in sound(codec, 1) if packet[1] >= 0]
    transcoder = SoundTranscoder(codec, "aac" if codec == "opus" else "opus", lambda data, pts: out.append(data),
                                 config=config_of(codec))  # fmt: skip
    try:
        for number, (data, pts) in enumerate(good):
            transcoder.put(b"\xff" * 40 if number % 3 == 0 else data, pts)
        until(lambda: len(out) > 10)
    finally:
        transcoder.close(1)


def pictures(count: int = 70, name: str = "360p30") -> list[tuple[bytes, int, bool]]:
    source = VideoSource(name, ProgrammeIds(1, 2, 3), 400_000)
    made = (source.make(n, ORIGIN_NS + n * 33_333_333, keyframe=n == 40) for n in range(count))
    return [(data, n * 3000, keyframe) for n, (data, keyframe) in enumerate(made)]


def test_a_small_rendition_keeps_times_keyframes_and_code() -> None:
    units = pictures()
    out: list[tuple[bytes, int, bool, int]] = []
    transcoder = PictureTranscoder(lambda *made: out.append(made), bitrate=200_000, height=180)
    try:
        for data, pts, keyframe in units:
            transcoder.put(data, pts, keyframe, pts * 7)
            until(lambda: len(transcoder._items) < 5)
        until(lambda: len(out) == len(units))
    finally:
        transcoder.close(1)
    assert [(pts, keyframe, tag) for _, pts, keyframe, tag in out] == [(pts, keyframe, pts * 7) for _, pts, keyframe in units]
    decoder, inspector = av.CodecContext.create("h264", "r"), Inspector(CLOCK)
    assert isinstance(decoder, av.VideoCodecContext)
    frames = [frame for data, *_ in out for frame in decoder.decode(av.Packet(data))]
    records = [inspector.picture(frame, arrived=0, size=0, keyframe=False) for frame in frames]
    assert {(r.width, r.height) for r in records} == {(320, 180)}
    assert [r.code.sequence for r in records if r.code] == list(range(len(units)))
    assert any(r.intact for r in records) and not any(r.intact is False for r in records)
    sps = split_annexb(out[0][0])[0]
    assert sps[1:4].hex() == f"42c0{level_of(320, 180):02x}"


def test_every_other_picture_and_every_keyframe_go_on_when_asked() -> None:
    units = pictures()
    out: list[tuple[int, bool]] = []
    transcoder = PictureTranscoder(lambda data, pts, keyframe, tag: out.append((pts, keyframe)), bitrate=200_000, height=180)
    transcoder.every = 2
    try:
        for data, pts, keyframe in units:
            transcoder.put(data, pts, keyframe, 0)
            until(lambda: len(transcoder._items) < 5)
        until(lambda: out and out[-1][0] >= units[-2][1])
    finally:
        transcoder.close(1)
    assert 34 <= len(out) <= 37
    assert [pts for pts, keyframe in out if keyframe] == [pts for _, pts, keyframe in units if keyframe]


def test_it_begins_at_a_keyframe_and_survives_noise() -> None:
    units = pictures(35)
    out: list[int] = []
    transcoder = PictureTranscoder(lambda data, pts, keyframe, tag: out.append(pts), bitrate=200_000, height=180)
    try:
        for data, pts, keyframe in [*units[1:20], (b"\x00\x00\x00\x01e" + b"\xff" * 999, 60000, True), *units[30:]]:
            transcoder.put(data, pts, keyframe, 0)
            until(lambda: len(transcoder._items) < 5)
        until(lambda: out and out[-1] == units[-1][1])
    finally:
        transcoder.close(1)
    assert transcoder.dropped == 19


def test_closed_transcoders_leave_no_thread() -> None:
    before = threading.active_count()
    made = [SoundTranscoder("opus", "aac", lambda data, pts: None), PictureTranscoder(lambda *a: None, bitrate=1, height=180)]
    for transcoder in made:
        transcoder.close(2)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((640, 360), (320, 180)),
        ((1920, 1080), (320, 180)),
        ((360, 640), (180, 320)),
        ((160, 90), (160, 90)),
        ((854, 480), (320, 180)),
    ],
)
def test_sizes_are_even_and_no_larger(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert scaled(*size, 180) == small
    assert scaled(*size, None) == size
