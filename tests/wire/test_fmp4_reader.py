"""Fragmented MP4 read by us: packet for packet what FFmpeg reads, and nothing at all of what is not plain."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.media.demux import Demuxer
from probe.media.picture import Painter
from probe.wire import fmp4_reader
from probe.wire.fmp4 import AudioTrack, Run, Sample, VideoTrack, init_section, media_segment
from probe.wire.packet import EncodedPacket
from tests.media.clips import code_of
from tests.tools import requires

SPS, PPS = bytes.fromhex("6742c01eda0280bfe5c044000003000400000300f03c58ba80"), bytes.fromhex("68ce3c80")
AAC = AudioTrack("aac", 48_000, 2, bytes.fromhex("1190"))


def nal(kind: int, size: int = 40) -> bytes:
    return struct.pack(">I", size) + bytes([0x60 | kind]) + bytes(range(1, size))


def plain(*, audio: AudioTrack | None = AAC, start: int = 900_000) -> tuple[bytes, bytes]:
    """(init section, segment) of three pictures and four sounds."""
    pictures = [Sample(nal(5), 3000, True), Sample(nal(6, 9) + nal(1), 3000, False), Sample(nal(1, 70), 3000, False)]
    sounds = [Sample(bytes([n]) * (20 + n), 1024, True) for n in range(4)]
    runs = [Run(1, start, pictures)] + ([Run(2, start * 48 // 90, sounds)] if audio else [])
    return init_section(VideoTrack(SPS, PPS, 640, 360), audio), media_segment(1, runs)


def by_ffmpeg(init: bytes, segment: bytes) -> list[EncodedPacket]:
    return Demuxer().feed(b"", init + segment)


def by_us(init: bytes, segment: bytes) -> list[EncodedPacket] | None:
    known = fmp4_reader.tracks(init)
    return None if known is None else fmp4_reader.read(known, segment)


def of(kind: str, packets: list[EncodedPacket]) -> list[EncodedPacket]:
    """Start codes are of three bytes or of four: both are right."""
    each = [replace(p, data=p.data.replace(b"\0\0\0\1", b"\0\0\1")) if kind == "video" else p for p in packets]
    return [packet for packet in each if packet.kind == kind]


def made(folder) -> tuple[bytes, list[bytes]]:
    """(init section, segments) as FFmpeg's HLS muxer writes them: B frames and AAC."""
    source = folder / "source.mp4"
    painter = Painter(640, 360)
    with av.open(str(source), "w") as out:
        video = out.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt, video.options = 640, 360, "yuv420p", {"preset": "medium", "g": "30"}
        audio = out.add_stream("aac", rate=44_100, layout="mono")
        for number in range(90):
            frame = painter.paint(number, code_of(number), black=False)
            frame.pts, frame.time_base = number, Fraction(1, 30)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1470), np.float32), format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 44_100, number * 1470, Fraction(1, 44_100)
            out.mux(video.encode(frame))
            out.mux(audio.encode(sound))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))
    command = [requires("ffmpeg"), "-v", "error", "-i", source, "-c", "copy", "-f", "hls", "-hls_time", "1"]
    subprocess.run([*command, "-hls_segment_type", "fmp4", "-hls_list_size", "0", folder / "list.m3u8"], check=True)
    return (folder / "init.mp4").read_bytes(), [(folder / f"list{n}.m4s").read_bytes() for n in range(3)]


@pytest.mark.parametrize("audio", [AAC, None], ids=["both", "picture_only"])
@pytest.mark.parametrize("start", [0, 900_000, 30 * 3600 * 90_000])
def test_a_plain_segment_is_read_as_ffmpeg_reads_it(audio, start):
    init, segment = plain(audio=audio, start=start)
    ours, theirs = by_us(init, segment), by_ffmpeg(init, segment)
    assert ours is not None and len(ours) == (7 if audio else 3)
    assert of("video", ours) == of("video", theirs)
    assert of("audio", ours) == of("audio", theirs)


def test_parameter_sets_go_before_an_idr_that_comes_without_and_nowhere_else():
    init, segment = plain()
    pictures = of("video", by_us(init, segment) or [])
    assert [packet.data.count(SPS) for packet in pictures] == [1, 0, 0]
    bare = Sample(struct.pack(">I", len(SPS)) + SPS + struct.pack(">I", len(PPS)) + PPS + nal(5), 3000, True)
    (packet,) = by_us(init, media_segment(1, [Run(1, 0, [bare])])) or []
    assert packet.data.count(SPS) == 1


def test_what_ffmpeg_segments_is_read_as_ffmpeg_reads_it(tmp_path):
    init, segments = made(tmp_path)
    for segment in segments:
        ours, theirs = by_us(init, segment), by_ffmpeg(init, segment)
        assert ours is not None and len(of("video", ours)) == 30
        assert of("video", ours) == of("video", theirs)
        assert of("audio", ours) == of("audio", theirs)


@pytest.mark.parametrize(
    ("edits", "ours"),
    [([(0, 0)], True), ([(0, 3000)], True), ([(66, -1), (0, 1024)], True), ([(0, 0), (0, 90_000)], False), ([(66, -1)], False)],
)
def test_an_edit_list_moves_times_as_it_does_with_ffmpeg(edits: list[tuple[int, int]], ours: bool):
    init, segment = plain()
    elst = b"elst" + struct.pack(">II", 0, len(edits)) + b"".join(struct.pack(">IiI", *edit, 0x10000) for edit in edits)
    edts = struct.pack(">I4sI", len(elst) + 12, b"edts", len(elst) + 4) + elst
    at = init.find(b"mdia") - 4
    edited = bytearray(init[:at] + edts + init[at:])
    for box in (b"moov", b"trak"):
        where = edited.find(box) - 4
        (size,) = struct.unpack_from(">I", edited, where)
        struct.pack_into(">I", edited, where, size + len(edts))
    packets = by_us(bytes(edited), segment)
    assert (packets is not None) is ours
    if packets is not None:
        theirs = by_ffmpeg(bytes(edited), segment)
        assert of("video", packets) == of("video", theirs) and of("audio", packets) == of("audio", theirs)


@pytest.mark.parametrize("audio", [AudioTrack("opus", 48_000, 2), AudioTrack("aac", 48_000, 2, bytes.fromhex("2b11"))])
def test_other_codecs_are_left_to_ffmpeg(audio):
    init, segment = plain(audio=audio)
    assert fmp4_reader.tracks(init) is None and by_us(init, segment) is None


def test_a_segment_cut_anywhere_is_left_to_ffmpeg():
    init, segment = plain()
    assert [by_us(init, segment[:size]) for size in range(len(segment))] == [None] * len(segment)
    assert [by_us(init[:size], segment) for size in range(len(init))] == [None] * len(init)


def test_more_samples_than_any_segment_has_are_not_made_room_for():
    init, segment = plain()
    at = segment.find(b"trun") + 8
    for count in (20_001, 1 << 31, (1 << 32) - 1):
        assert by_us(init, segment[:at] + struct.pack(">I", count) + segment[at + 4 :]) is None


def test_boxes_without_end_are_not_walked():
    init, segment = plain()
    assert by_us(init, segment + b"\0\0\0\x08free" * 100) is not None
    assert by_us(init, segment + b"\0\0\0\x08free" * 100_000) is None


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1500), st.binary(min_size=1, max_size=8)), max_size=4), st.booleans())
def test_damage_anywhere_ends_in_packets_or_in_none(damage, of_init):
    init, segment = plain()
    broken = bytearray(init if of_init else segment)
    for at, new in damage:
        at %= len(broken)
        broken[at : at + len(new)] = new
    packets = by_us(bytes(broken), segment) if of_init else by_us(init, bytes(broken))
    assert packets is None or all(packet.data for packet in packets)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_none(noise):
    init, _ = plain()
    assert fmp4_reader.tracks(noise) is None
    known = fmp4_reader.tracks(init)
    assert known is not None
    fmp4_reader.read(known, noise)
