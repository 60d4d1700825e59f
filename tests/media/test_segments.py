"""Segments: what goes into the muxer comes out of the demuxer, times and all; garbage is named, never obeyed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np
import pytest

from probe.errors import Failure
from probe.media.demux import Demuxer
from probe.media.mux import Segment, SegmentMuxer
from probe.media.picture import Painter
from probe.media.source import AudioSource, ProgrammeIds, VideoSource
from probe.wire.fmp4 import AudioTrack, split_annexb
from probe.wire.packet import EncodedPacket
from tests.media.clips import code_of
from tests.tools import requires

ORIGIN_NS = 1_795_244_028_000_000_000
Unit = tuple[str, bytes, int, bool]


def live(count: int, name: str = "360p30", offset: int = 0) -> list[Unit]:
    """Units of a programme as (kind, data, pts, keyframe); `offset` in seconds."""
    video = VideoSource(name, ProgrammeIds(1, 2, 3), 300_000)
    sound = AudioSource(ORIGIN_NS, 1, 32_000)
    out: list[Unit] = []
    number = 1
    for slot in range(count):
        data, keyframe = video.make(slot, ORIGIN_NS, keyframe=False)
        out.append(("video", data, slot * 3000 + offset * 90_000, keyframe))
        while number * 960 < (slot + 1) * 1600:
            packet, pts = sound.make(number)
            out.append(("audio", packet, pts + offset * 48_000, True))
            number += 1
    return out


def muxed(units: list[Unit], audio: AudioTrack | None = None, **options) -> tuple[SegmentMuxer, list[Segment]]:
    muxer = SegmentMuxer(audio=audio or AudioTrack("opus", 48_000, 1), **options)
    segments = []
    for kind, data, pts, keyframe in units:
        if kind == "audio":
            muxer.push_audio(data, pts)
        elif (done := muxer.push_video(data, pts, keyframe)) is not None:
            segments.append(done)
    last = muxer.flush()
    return muxer, segments + ([last] if last else [])


def demuxed(muxer: SegmentMuxer, segments: list[Segment]) -> list[EncodedPacket]:
    demuxer = Demuxer()
    return [packet for segment in segments for packet in demuxer.feed(muxer.init, segment.data)]


@pytest.mark.parametrize("offset", [0, 30 * 3600], ids=["from_0", "after_30_hours"])
def test_what_was_muxed_is_demuxed_unit_by_unit_and_in_time(offset):
    units = live(100, offset=offset)
    muxer, segments = muxed(units)
    packets = demuxed(muxer, segments)
    for kind, rate in (("video", 90_000), ("audio", 48_000)):
        sent = [unit for unit in units if unit[0] == kind]
        got = [packet for packet in packets if packet.kind == kind]
        assert [packet.pts for packet in got] == pytest.approx([pts / rate for _, _, pts, _ in sent], abs=1e-6)
        assert [packet.keyframe for packet in got] == [keyframe for *_, keyframe in sent]
        assert [split_annexb(p.data) if kind == "video" else p.data for p in got] == [
            split_annexb(data) if kind == "video" else data for _, data, _, _ in sent
        ]
    video = next(packet for packet in packets if packet.kind == "video")
    audio = next(packet for packet in packets if packet.kind == "audio")
    assert (video.codec, video.width, video.height, video.extradata) == ("h264", 640, 360, b"")
    assert (audio.codec, audio.rate, audio.channels, audio.extradata[:8]) == ("opus", 48_000, 1, b"OpusHead")


def test_segments_are_cut_at_keyframes_and_follow_without_gap():
    _, segments = muxed(live(100))
    assert [segment.number for segment in segments] == [1, 2, 3, 4]
    assert all(segment.independent for segment in segments)
    assert [segment.start for segment in segments] == pytest.approx([0, 1, 2, 3])
    assert [segment.duration for segment in segments] == pytest.approx([1, 1, 1, 1 / 3])


def test_segments_grow_to_their_target():
    _, segments = muxed(live(130), target=2.0)
    assert [segment.duration for segment in segments] == pytest.approx([2, 2, 1 / 3])


def test_keyframes_on_request_do_not_cut_short_segments():
    units = [
        (kind, data, pts, True if kind == "video" and pts % 30_000 == 0 else keyframe) for kind, data, pts, keyframe in live(60)
    ]
    _, segments = muxed(units)
    assert [segment.duration for segment in segments] == pytest.approx([1, 1])


def test_a_stream_without_keyframes_is_cut_all_the_same_and_says_so():
    head, *rest = [unit for unit in live(40) if unit[0] == "video"]
    units = [head] + [("video", rest[n % 20][1], (n + 1) * 3000, False) for n in range(620)]
    _, segments = muxed(units)
    assert [segment.independent for segment in segments] == [True, False, False]
    assert max(segment.duration for segment in segments) < 10.1


def test_a_flood_is_cut_by_its_bytes():
    head, *_ = live(1)
    big = b"\x00\x00\x01\x41" + b"\xff" * 1_000_000
    _, segments = muxed([head] + [("video", big, n * 3000, False) for n in range(1, 30)])
    assert len(segments) >= 3 and max(len(segment.data) for segment in segments) < 11_000_000


def test_units_out_of_place_are_dropped_and_counted():
    muxer = SegmentMuxer(audio=AudioTrack("opus", 48_000, 1))
    (_, data, _, _), *more = [unit for unit in live(3) if unit[0] == "video"]
    assert muxer.push_video(more[0][1], 0, False) is None and muxer.dropped == 1  # before the first keyframe
    assert muxer.push_video(b"\x00\x00\x01\x65\x88", 0, True) is None and muxer.dropped == 2  # no parameter sets
    muxer.push_audio(b"early", 0)
    assert muxer.dropped == 3 and muxer.init is None and muxer.flush() is None
    muxer.push_video(data, 3000, True)
    muxer.push_video(more[0][1], 3000, False)  # the same instant again
    muxer.push_audio(b"a", 100)
    muxer.push_audio(b"b", 100)
    muxer.push_audio(b"c", -5)
    assert muxer.dropped == 6
    silent = SegmentMuxer()
    silent.push_audio(b"nobody asked", 0)
    assert silent.dropped == 1


def test_without_sound_there_is_one_track():
    muxer = SegmentMuxer()
    for kind, data, pts, keyframe in live(10):
        if kind == "video":
            muxer.push_video(data, pts, keyframe)
    segment = muxer.flush()
    assert segment is not None
    assert {packet.kind for packet in Demuxer().feed(muxer.init, segment.data)} == {"video"}


def test_any_segment_can_be_read_first_and_init_is_remembered():
    muxer, segments = muxed(live(100))
    demuxer = Demuxer()
    assert demuxer.feed(muxer.init, segments[2].data)[0].pts == pytest.approx(2.0)
    assert demuxer.feed(None, segments[3].data)[0].pts == pytest.approx(3.0)


@pytest.mark.parametrize("name", ["360p30", "portrait30"])
def test_ffprobe_reads_it_without_a_warning(name, tmp_path):
    ffprobe = requires("ffprobe", package="ffmpeg")
    muxer, segments = muxed(live(65, name))
    path = tmp_path / "x.mp4"
    path.write_bytes((muxer.init or b"") + b"".join(segment.data for segment in segments))
    done = subprocess.run(
        [ffprobe, "-v", "warning", "-count_frames", "-show_streams", "-of", "json", path],
        capture_output=True,
        text=True,
        check=True,
    )
    video, audio = json.loads(done.stdout)["streams"]
    assert done.stderr == ""
    assert (video["codec_name"], video["profile"], video["nb_read_frames"]) == ("h264", "Constrained Baseline", "65")
    assert (video["width"], video["height"]) == ((360, 640) if name == "portrait30" else (640, 360))
    assert (audio["codec_name"], audio["sample_rate"], audio["channels"]) == ("opus", "48000", 1)


def foreign(form: str, options: dict[str, str], start: float = 0.0, count: int = 60, preset: str = "medium") -> bytes:
    """What FFmpeg's own muxers make: B frames, AAC."""
    buffer, painter = io.BytesIO(), Painter(640, 360)
    with av.open(buffer, "w", format=form, options=options) as out:
        video = out.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt, video.options = 640, 360, "yuv420p", {"preset": preset, "g": "30"}
        audio = out.add_stream("aac", rate=48_000, layout="stereo")
        for number in range(count):
            frame = painter.paint(number, code_of(number), black=False)
            frame.pts, frame.time_base = number + round(start * 30), Fraction(1, 30)
            sound = av.AudioFrame.from_ndarray(np.zeros((2, 1600), np.float32), format="fltp", layout="stereo")
            sound.sample_rate, sound.pts, sound.time_base = 48_000, number * 1600 + round(start * 48_000), Fraction(1, 48_000)
            out.mux(video.encode(frame))
            out.mux(audio.encode(sound))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))
    return buffer.getvalue()


def times_of(packets: Iterable[EncodedPacket]) -> list[float]:
    return sorted(packet.pts for packet in packets if packet.pts is not None)


FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


@pytest.mark.parametrize(("form", "options"), [("mpegts", {}), ("mp4", FRAGMENTED)])
def test_foreign_segments_are_read_and_decode(form, options):
    packets = Demuxer().feed(b"", foreign(form, options))
    video = [packet for packet in packets if packet.kind == "video"]
    audio = [packet for packet in packets if packet.kind == "audio"]
    assert len(video) == 60 and {packet.codec for packet in audio} == {"aac"}
    assert (audio[0].rate, audio[0].channels) == (48_000, 2)
    assert [packet.keyframe for packet in video].count(True) == 2
    times = times_of(video)
    assert np.diff(times) == pytest.approx(1 / 30, abs=1e-4)
    decoder = av.CodecContext.create("h264", "r")
    frames = [f for packet in video for f in decoder.decode(av.Packet(packet.data))] + decoder.decode(None)
    assert len(frames) == 60
    sound = av.CodecContext.create("aac", "r")
    if audio[0].extradata:
        sound.extradata = audio[0].extradata
    assert len([f for packet in audio for f in sound.decode(av.Packet(packet.data))]) > 80


def test_transport_stream_times_go_on_where_33_bits_end():
    wrap = (1 << 33) / 90_000
    demuxer = Demuxer()
    first = demuxer.feed(None, foreign("mpegts", {"muxdelay": "0"}, start=wrap - 3.0, preset="ultrafast"))
    second = demuxer.feed(None, foreign("mpegts", {"muxdelay": "0"}, start=wrap - 1.0, preset="ultrafast"))
    for kind in ("video", "audio"):
        times = times_of(packet for packet in (*first, *second) if packet.kind == kind)
        assert times[-1] - times[0] == pytest.approx(4.0, abs=0.1)
        assert np.diff(times).max() < 0.05


GARBAGE = {
    "nothing": b"",
    "text": b"<html>not found</html>" * 100,
    "noise": os.urandom(40_000),
    "sync_bytes": b"\x47" * 40_000,
    "noise_in_packets": b"".join(b"\x47" + os.urandom(187) for _ in range(300)),
    "box_of_noise": b"\x00\x00\x00\x20ftypisom" + os.urandom(5000),
    "huge_box": b"\xff\xff\xff\xf0moof" + os.urandom(5000),
    "endless_nesting": (b"\x00\x00\x03\xe8moov" * 120)[:1000],
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_malformed_or_empty(kind):
    with pytest.raises(Failure) as caught:
        Demuxer().feed(None, GARBAGE[kind])
    assert (caught.value.phase, caught.value.reason) in {("segment", "malformed"), ("segment", "empty")}
    assert "\n" not in str(caught.value)


def test_damage_anywhere_ends_in_packets_or_a_failure():
    muxer, segments = muxed(live(35))
    data = segments[0].data
    rng = np.random.default_rng(2)
    for _ in range(60):
        broken = bytearray(data)
        at = int(rng.integers(0, min(len(data), 2500)))
        broken[at : at + 8] = os.urandom(8)
        try:
            came = {str(len(Demuxer().feed(muxer.init, bytes(broken[: int(rng.integers(1000, len(data)))]))) > 0)}
        except Failure as failure:
            came = {failure.reason}
        assert came <= {"True", "malformed", "empty"}


def test_a_segment_without_its_init_is_a_failure():
    _, segments = muxed(live(35))
    with pytest.raises(Failure):
        Demuxer().feed(None, segments[0].data)


def test_nothing_a_segment_names_is_opened(tmp_path):
    """A playlist, or a list of files, handed over as a segment: FFmpeg must not be allowed to guess what it is."""
    secret = tmp_path / "secret.ts"
    secret.write_bytes(foreign("mpegts", {}, count=10, preset="ultrafast"))
    for text in (f"#EXTM3U\n#EXTINF:1,\n{secret}\n", f"ffconcat version 1.0\nfile {secret}\n"):
        with pytest.raises(Failure):
            Demuxer().feed(None, text.encode())


async def test_the_loop_goes_on_while_a_segment_is_read():
    muxer, segments = muxed(live(35))
    async with asyncio.timeout(5):
        packets = await Demuxer().feed_async(muxer.init, segments[0].data)
    assert len(packets) > 30


def test_aac_is_described_by_its_own_configuration():
    data = foreign("mp4", FRAGMENTED, preset="ultrafast")
    source = Demuxer().feed(b"", data)
    config = next(packet.extradata for packet in source if packet.kind == "audio")
    audio = AudioTrack("aac", 48_000, 2, config[:2])
    sound = [packet for packet in source if packet.kind == "audio"]
    units = live(60)
    muxer, segments = muxed(
        [unit for unit in units if unit[0] == "video"][:1]
        + [("audio", packet.data, 1024 * n, True) for n, packet in enumerate(sound)]
        + [unit for unit in units if unit[0] == "video"][1:],
        audio,
    )
    got = [packet for packet in demuxed(muxer, segments) if packet.kind == "audio"]
    assert [packet.data for packet in got] == [packet.data for packet in sound]
    assert (got[0].codec, got[0].rate, got[0].channels) == ("aac", 48_000, 2)
    assert got[0].extradata[:2] == config[:2]
