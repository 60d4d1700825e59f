"""Fragmented MP4, written: an init section and media segments as HLS and MSE want them (ISO 14496-12, CMAF 23000-19).

One video track (avc1, parameter sets in avcC) and at most one audio track (Opus with dOps, or mp4a with esds); one moof
with a traf per track, then one mdat. Written here and not by a library's muxer because a live segmenter needs the tfdt
of every track to be the stream's own time, whichever segment a reader begins with, and real configuration boxes from
encoded units alone. Opus pre-skip is 0: times are where the sound belongs, so there is nothing to skip. Not attempted:
B frames, encryption, edit lists, reading.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

VIDEO_TIMESCALE = 90_000

_START_CODE = re.compile(rb"\x00\x00\x01")
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_SYNC, _NOT_SYNC = 0x02000000, 0x01010000


def split_annexb(data: bytes) -> list[bytes]:
    """NAL units of an Annex B access unit, without start codes and padding (H.264 B.1)."""
    marks = [m.start() for m in _START_CODE.finditer(data)]
    ends = [*marks[1:], len(data)]
    units = (data[start + 3 : end].rstrip(b"\x00") for start, end in zip(marks, ends, strict=True))
    return [unit for unit in units if unit]


@dataclass(frozen=True, slots=True)
class VideoTrack:
    sps: bytes
    pps: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """`codec`: opus, or aac with its AudioSpecificConfig."""

    codec: str
    rate: int
    channels: int
    config: bytes = b""


@dataclass(frozen=True, slots=True)
class Sample:
    data: bytes
    duration: int
    keyframe: bool


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive samples of one track; `start` is the decode time of the first in the track's timescale."""

    track: int
    start: int
    samples: Sequence[Sample]


def to_lengths(units: Sequence[bytes]) -> bytes:
    """NAL units as an MP4 sample: each with its length in four bytes before it (14496-15)."""
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in units)


def init_section(video: VideoTrack, audio: AudioTrack | None) -> bytes:
    """ftyp and moov. Video is track 1, audio track 2."""
    traks = [_trak(1, VIDEO_TIMESCALE, b"vide", _box(b"vmhd", struct.pack(">I4H", 1, 0, 0, 0, 0)), _avc1(video), video)]
    if audio is not None:
        entry = _opus(audio) if audio.codec == "opus" else _mp4a(audio)
        traks.append(_trak(2, audio.rate, b"soun", _box(b"smhd", bytes(8)), entry, None))
    trex = [_full(b"trex", 0, 0, struct.pack(">5I", number + 1, 1, 0, 0, 0)) for number in range(len(traks))]
    head = struct.pack(">4IIH10x", 0, 0, 1000, 0, 0x10000, 0x0100) + _MATRIX + bytes(24) + struct.pack(">I", len(traks) + 1)
    moov = _box(b"moov", _full(b"mvhd", 0, 0, head), *traks, _box(b"mvex", *trex))
    return _box(b"ftyp", b"iso6\x00\x00\x00\x01iso6cmfcmp41") + moov


def media_segment(number: int, runs: Sequence[Run], first: bool = True) -> bytes:
    """styp, moof and mdat; runs without samples are left out. Not `first`: a later chunk of a segment, without styp."""
    runs = [run for run in runs if run.samples]
    size = len(_moof(number, runs, [0] * len(runs)))  # offsets do not change its size
    offsets, at = [], size + 8
    for run in runs:
        offsets.append(at)
        at += sum(len(sample.data) for sample in run.samples)
    data = b"".join(sample.data for run in runs for sample in run.samples)
    styp = _box(b"styp", b"msdh\x00\x00\x00\x00msdhcmfs") if first else b""
    return styp + _moof(number, runs, offsets) + _box(b"mdat", data)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def _full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


def _moof(number: int, runs: Sequence[Run], offsets: Sequence[int]) -> bytes:
    trafs = [_traf(run, offset) for run, offset in zip(runs, offsets, strict=True)]
    return _box(b"moof", _full(b"mfhd", 0, 0, struct.pack(">I", number)), *trafs)


def _traf(run: Run, offset: int) -> bytes:
    table = b"".join(
        struct.pack(">3I", sample.duration, len(sample.data), _SYNC if sample.keyframe else _NOT_SYNC) for sample in run.samples
    )
    return _box(
        b"traf",
        _full(b"tfhd", 0, 0x020000, struct.pack(">I", run.track)),  # default-base-is-moof
        _full(b"tfdt", 1, 0, struct.pack(">Q", run.start)),
        _full(b"trun", 0, 0x000701, struct.pack(">Ii", len(run.samples), offset), table),  # offset; duration, size, flags
    )


def _trak(number: int, timescale: int, handler: bytes, header: bytes, entry: bytes, video: VideoTrack | None) -> bytes:
    width, height = (video.width, video.height) if video else (0, 0)
    volume = 0 if video else 0x0100
    tkhd = struct.pack(">5I8x4H", 0, 0, number, 0, 0, 0, 0, volume, 0) + _MATRIX + struct.pack(">2I", width << 16, height << 16)
    tables = [_full(kind, 0, 0, bytes(8 if kind == b"stsz" else 4)) for kind in (b"stts", b"stsc", b"stsz", b"stco")]
    stbl = _box(b"stbl", _full(b"stsd", 0, 0, struct.pack(">I", 1), entry), *tables)
    dref = _full(b"dref", 0, 0, struct.pack(">I", 1), _full(b"url ", 0, 1))
    minf = _box(b"minf", header, _box(b"dinf", dref), stbl)
    mdhd = _full(b"mdhd", 0, 0, struct.pack(">4IHH", 0, 0, timescale, 0, 0x55C4, 0))  # language: und
    hdlr = _full(b"hdlr", 0, 0, struct.pack(">I4s12x", 0, handler), b"stream-probe\x00")
    return _box(b"trak", _full(b"tkhd", 0, 3, tkhd), _box(b"mdia", mdhd, hdlr, minf))


def _avc1(video: VideoTrack) -> bytes:
    avcc = b"\x01" + video.sps[1:4] + b"\xff\xe1" + struct.pack(">H", len(video.sps)) + video.sps
    avcc += b"\x01" + struct.pack(">H", len(video.pps)) + video.pps
    head = struct.pack(">6xH16xHHIIIH32sHh", 1, video.width, video.height, 0x480000, 0x480000, 0, 1, b"", 24, -1)
    return _box(b"avc1", head, _box(b"avcC", avcc))


def _sound_entry(audio: AudioTrack) -> bytes:
    return struct.pack(">6xH8xHHIHH", 1, audio.channels, 16, 0, audio.rate, 0)


def _opus(audio: AudioTrack) -> bytes:
    dops = struct.pack(">BBHIhB", 0, audio.channels, 0, audio.rate, 0, 0)
    return _box(b"Opus", _sound_entry(audio), _box(b"dOps", dops))


def _mp4a(audio: AudioTrack) -> bytes:
    def described(tag: int, body: bytes) -> bytes:
        return bytes((tag, len(body))) + body

    decoder = described(4, struct.pack(">BB3xII", 0x40, 0x15, 0, 0) + described(5, audio.config))
    es = described(3, struct.pack(">HB", 2, 0) + decoder + described(6, b"\x02"))
    return _box(b"mp4a", _sound_entry(audio), _full(b"esds", 0, 0, es))
