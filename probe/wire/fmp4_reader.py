"""Fragmented MP4, read: what nearly every HLS and DASH server sends, in one pass and without a library (ISO/IEC 14496-12, -15).

H.264 and AAC-LC whose fragments say everything: tfdt, sizes in trun, data counted from the moof. To open FFmpeg on each second
of media costs seven times as much. Whatever is otherwise is None here and left to FFmpeg: other codecs, edit lists of more than
one edit, samples in the moov, encryption, a segment cut short. Keyframes and times are those that FFmpeg gives; parameter sets
go before an IDR that comes without.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

from probe.wire.fmp4_bounds import MOST
from probe.wire.packet import EncodedPacket
from probe.wire.ts_sound import AAC_RATES

_BOXES = 4000  # of one level, and of a segment
_NALS = 20_000  # of a segment
_HEAD = struct.Struct(">I4s")
_LENGTH = struct.Struct(">I")
_START = b"\0\0\0\1"
_NOT_SYNC = 0x0101_0000  # not a sync sample, or one that depends on others
_IDR, _SPS, _PPS = 5, 7, 8
_NO_SBR = b"\x56\xe5\x00"  # what FFmpeg's muxers append to an AudioSpecificConfig to say so
_LC, _MPEG4_AUDIO = 2, 0x40
_ENTRY = {b"vide": (b"avc1", b"avc3"), b"soun": (b"mp4a",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One of an init section. `sets`: its parameter sets as Annex B; `config`: its AudioSpecificConfig. `duration`,
    `size` and `flags` are what a fragment means that does not say; `shift` is how far its edit list moves times back."""

    kind: str  # video | audio
    timescale: int
    sets: bytes = b""
    config: bytes = b""
    width: int = 0
    height: int = 0
    rate: int = 0
    channels: int = 0
    duration: int = 0
    size: int = 0
    flags: int = 0
    shift: int = 0


Tracks = dict[int, Track]


class _Odd(ValueError):
    """Not what is read here."""


def tracks(init: bytes) -> Tracks | None:
    """By track id; None where FFmpeg is to read."""
    try:
        return _tracks(init)
    except (_Odd, struct.error, IndexError):
        return None


def read(known: Tracks, segment: bytes) -> list[EncodedPacket] | None:
    """Packets of one segment or part in decoding order, its whole samples and no others; None where FFmpeg is to read."""
    try:
        found = _Reader(known, segment).packets()
    except (_Odd, struct.error, IndexError):
        return None
    found.sort(key=itemgetter(0))
    return [packet for _, packet in found] or None


class _Reader:
    def __init__(self, known: Tracks, segment: bytes) -> None:
        self._tracks, self._data = known, segment
        self._samples = self._nals = self._seen = 0

    def packets(self) -> list[tuple[float, EncodedPacket]]:
        """(decoding time in seconds, packet)."""
        out: list[tuple[float, EncodedPacket]] = []
        for kind, start, body, end in self._boxes(0, len(self._data)):
            if kind == b"moov":
                raise _Odd
            if kind == b"moof":
                trafs = [box for box in self._boxes(body, end) if box[0] == b"traf"]
                for number, (_, _, inner, inner_end) in enumerate(trafs):
                    self._traf(start, inner, inner_end, number == 0, out)
        return out

    def _boxes(self, at: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
        for box in _boxes(self._data, at, end):
            self._seen += 1
            if self._seen > _BOXES:
                raise _Odd
            yield box

    def _traf(self, moof: int, body: int, end: int, first: bool, out: list[tuple[float, EncodedPacket]]) -> None:
        data = self._data
        inner = self._boxes(body, end)
        kind, _, body, _ = next(inner, (b"", 0, 0, 0))
        if kind != b"tfhd":
            raise _Odd
        flags, number = struct.unpack_from(">II", data, body)
        track = self._tracks.get(number)
        # A base of its own counts from the file's beginning, and an empty duration has no samples.
        if track is None or flags & 0x01_0001 or not (flags & 0x02_0000 or first):
            raise _Odd
        at, values = body + 8, [1, track.duration, track.size, track.flags]
        for n, bit in enumerate((2, 8, 0x10, 0x20)):
            if flags & bit:
                (values[n],) = _LENGTH.unpack_from(data, at)
                at += 4
        if values[0] != 1:  # another sample description
            raise _Odd
        time: int | None = None
        where: int | None = None
        for kind, _, body, stop in inner:
            if kind == b"tfdt":
                (time,) = struct.unpack_from(">Q" if data[body] == 1 else ">I", data, body + 4)
                time -= track.shift
            elif kind == b"trun":
                if time is None:
                    raise _Odd
                time, where = self._trun(track, body, stop, moof, where, time, values, out)

    def _trun(
        self, track: Track, body: int, end: int, moof: int, where: int | None, time: int, values: list[int],
        out: list[tuple[float, EncodedPacket]],
    ) -> tuple[int, int]:  # fmt: skip
        """Where the next one's time and data begin."""
        flags, count = struct.unpack_from(">II", self._data, body)
        at = body + 8
        if flags & 1:
            where = moof + struct.unpack_from(">i", self._data, at)[0]
            at += 4
        _, duration, size, usual = values
        first = usual
        if flags & 4:
            (first,) = _LENGTH.unpack_from(self._data, at)
            at += 4
        self._samples += count
        width = (flags >> 8 & 15).bit_count()
        if where is None or where < 0 or self._samples > MOST or at + 4 * width * count > end:
            raise _Odd
        if not count:
            return time, where
        rows = struct.iter_unpack(f">{width}I", self._data[at : at + 4 * width * count]) if width else ()
        columns = iter(list(zip(*rows, strict=True)))
        durations = next(columns) if flags & 0x100 else (duration,) * count
        sizes = next(columns) if flags & 0x200 else (size,) * count
        marks = next(columns) if flags & 0x400 else (first,) + (usual,) * (count - 1)
        later = next(columns) if flags & 0x800 else (0,) * count
        put = self._picture if track.kind == "video" else self._sound
        for duration, size, mark, shift in zip(durations, sizes, marks, later, strict=True):
            stop = where + size
            if not size or stop > len(self._data):
                raise _Odd
            pts = time + (shift if shift < 1 << 31 else shift - (1 << 32))
            out.append((time / track.timescale, put(track, self._data[where:stop], pts / track.timescale, duration, mark)))
            time += duration
            where = stop
        return time, where

    def _picture(self, track: Track, sample: bytes, pts: float, duration: int, mark: int) -> EncodedPacket:
        data, idr = self._annexb(sample, track.sets)
        return EncodedPacket(
            kind="video", codec="h264", extradata=b"", data=data, pts=pts, duration=duration / track.timescale or None,
            keyframe=idr or not mark & _NOT_SYNC, size=len(sample), width=track.width, height=track.height,
        )  # fmt: skip

    def _sound(self, track: Track, sample: bytes, pts: float, duration: int, mark: int) -> EncodedPacket:
        return EncodedPacket(
            kind="audio", codec="aac", extradata=track.config, data=sample, pts=pts, duration=duration / track.timescale or None,
            keyframe=True, size=len(sample), rate=track.rate, channels=track.channels,
        )  # fmt: skip

    def _annexb(self, sample: bytes, sets: bytes) -> tuple[bytes, bool]:
        """The sample with start codes where lengths were, and whether it is an IDR."""
        data, at, end = bytearray(sample), 0, len(sample)
        idr: int | None = None
        described = False
        while at < end:
            (length,) = _LENGTH.unpack_from(sample, at)
            following = at + 4 + length
            self._nals += 1
            if not length or following > end or self._nals > _NALS:
                raise _Odd
            data[at : at + 4] = _START
            kind = sample[at + 4] & 31
            if kind == _IDR and idr is None:
                idr = at
            elif kind in (_SPS, _PPS) and idr is None:
                described = True
            at = following
        if idr is not None and not described:
            data[idr:idr] = sets
        return bytes(data), idr is not None


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """(type, where it begins, where its body begins, where it ends)."""
    for _ in range(_BOXES):
        if at == end:
            return
        size, kind = _HEAD.unpack_from(data, at)
        body = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, body)
            body += 8
        if not body <= at + size <= end:
            raise _Odd
        yield kind, at, body, at + size
        at += size
    raise _Odd


def _children(data: bytes, body: int, end: int) -> dict[bytes, tuple[int, int]]:
    """The first of each type: where its body begins and ends."""
    found: dict[bytes, tuple[int, int]] = {}
    for kind, _, inner, stop in _boxes(data, body, end):
        found.setdefault(kind, (inner, stop))
    return found


def _child(data: bytes, within: tuple[int, int], *path: bytes) -> tuple[int, int]:
    for kind in path:
        found = _children(data, *within).get(kind)
        if found is None:
            raise _Odd
        within = found
    return within


def _tracks(init: bytes) -> Tracks:
    top = _children(init, 0, len(init))
    if b"moov" not in top or b"moof" in top or b"mdat" in top:
        raise _Odd
    head, _ = _child(init, top[b"moov"], b"mvhd")
    (film,) = _LENGTH.unpack_from(init, head + (20 if init[head] == 1 else 12))
    usual: dict[int, tuple[int, int, int]] = {}
    for kind, _, body, _ in _boxes(init, *_child(init, top[b"moov"], b"mvex")):
        if kind == b"trex":
            number, _, *values = struct.unpack_from(">5I", init, body + 4)
            usual[number] = (values[0], values[1], values[2])
    found: Tracks = {}
    for kind, _, body, end in _boxes(init, *top[b"moov"]):
        if kind == b"trak":
            number, track = _track(init, (body, end), usual, film)
            if number in found or any(other.kind == track.kind for other in found.values()):
                raise _Odd
            found[number] = track
    if not found:
        raise _Odd
    return found


def _track(init: bytes, trak: tuple[int, int], usual: dict[int, tuple[int, int, int]], film: int) -> tuple[int, Track]:
    """`film`: ticks of a second that the whole counts in."""
    head, _ = _child(init, trak, b"tkhd")
    (number,) = _LENGTH.unpack_from(init, head + (20 if init[head] == 1 else 12))
    mdia = _child(init, trak, b"mdia")
    media, _ = _child(init, mdia, b"mdhd")
    (timescale,) = _LENGTH.unpack_from(init, media + (20 if init[media] == 1 else 12))
    handler, _ = _child(init, mdia, b"hdlr")
    stbl = _child(init, mdia, b"minf", b"stbl")
    sizes = _children(init, *stbl).get(b"stsz")
    if not timescale or number not in usual or (sizes is not None and _LENGTH.unpack_from(init, sizes[0] + 8)[0]):
        raise _Odd
    stsd, end = _child(init, stbl, b"stsd")
    kind, _, entry, stop = next(_boxes(init, stsd + 8, end), (b"", 0, 0, 0))
    what = init[handler + 8 : handler + 12]
    if _LENGTH.unpack_from(init, stsd + 4)[0] != 1 or kind not in _ENTRY.get(what, ()):
        raise _Odd
    duration, size, flags = usual[number]
    shift = _shift(init, trak, timescale, film)
    if what == b"vide":
        width, height = struct.unpack_from(">2H", init, entry + 24)
        sets = _sets(init, *_child(init, (entry + 78, stop), b"avcC"))
        return number, Track(
            kind="video", timescale=timescale, sets=sets, width=width, height=height, duration=duration, size=size, flags=flags,
            shift=shift,
        )  # fmt: skip
    if init[entry + 8] or init[entry + 9]:  # QuickTime's other versions of the entry
        raise _Odd
    config, rate, channels = _aac(init, *_child(init, (entry + 28, stop), b"esds"))
    return number, Track(
        kind="audio", timescale=timescale, config=config, rate=rate, channels=channels, duration=duration, size=size, flags=flags,
        shift=shift,
    )  # fmt: skip


def _shift(init: bytes, trak: tuple[int, int], timescale: int, film: int) -> int:
    """By how much an edit list moves times back (§8.6.6): where play begins in the media, less the emptiness before it. As FFmpeg
    takes it: one edit, and at most one of emptiness before it."""
    edts = _children(init, *trak).get(b"edts")
    if edts is None:
        return 0
    body, end = _child(init, edts, b"elst")
    form = struct.Struct(">QqI" if init[body] == 1 else ">IiI")
    (count,) = _LENGTH.unpack_from(init, body + 4)
    if not 1 <= count <= 2 or body + 8 + count * form.size > end:
        raise _Odd
    *before, (_, begin, rate) = (form.unpack_from(init, body + 8 + n * form.size) for n in range(count))
    if begin < 0 or rate != 0x10000 or not film or any(gap[1:] != (-1, 0x10000) for gap in before):
        raise _Odd
    return int(begin - sum((lasting * timescale + film // 2) // film for lasting, _, _ in before))


def _sets(init: bytes, at: int, end: int) -> bytes:
    """The parameter sets of an avcC, as Annex B."""
    if init[at] != 1 or init[at + 4] & 3 != 3:  # lengths of four bytes
        raise _Odd
    out = []
    at += 5
    for mask in (31, 255):
        count = init[at] & mask
        at += 1
        for _ in range(count):
            (length,) = struct.unpack_from(">H", init, at)
            out.append(_START + init[at + 2 : at + 2 + length])
            at += 2 + length
            if at > end:
                raise _Odd
    return b"".join(out)


def _aac(init: bytes, at: int, end: int) -> tuple[bytes, int, int]:
    """(AudioSpecificConfig, rate, channels) of an esds (ISO 14496-1 §7.2.6, 14496-3 §1.6.2)."""
    tag, at, end = _described(init, at + 4, end)
    if tag != 3 or init[at + 2] & 0xE0:
        raise _Odd
    tag, at, end = _described(init, at + 3, end)
    if tag != 4 or init[at] != _MPEG4_AUDIO:
        raise _Odd
    tag, at, end = _described(init, at + 13, end)
    config = init[at:end]
    if tag != 5 or len(config) < 2 or config[2:] not in (b"", _NO_SBR) or config[0] >> 3 != _LC:
        raise _Odd
    index, channels = (config[0] & 7) << 1 | config[1] >> 7, config[1] >> 3 & 15
    if index >= len(AAC_RATES) or not 1 <= channels <= 7:
        raise _Odd
    return config, AAC_RATES[index], 8 if channels == 7 else channels


def _described(init: bytes, at: int, end: int) -> tuple[int, int, int]:
    """(tag, where its body begins, where it ends) of a descriptor."""
    tag, at, length = init[at], at + 1, 0
    for _ in range(4):
        byte = init[at]
        at += 1
        length = length << 7 | byte & 127
        if byte < 128:
            break
    if at + length > end:
        raise _Odd
    return tag, at, at + length
