"""Sound out of PES packets, one frame each: AAC in ADTS (ISO 13818-7), MPEG audio (11172-3), Opus (its TS mapping, ETSI draft).

A PES holds several frames, and a frame may go on in the next PES. A time stamp belongs to the first frame that begins in its
PES; the others follow by their own length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from probe.wire.packet import EncodedPacket

AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350)
_MPEG_RATES = (44_100, 48_000, 32_000)
_BITRATES = {  # kbit/s by (MPEG-1, layer)
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SPEAKERS = {7: 8}
_MOST_CARRIED = 16 << 10
_MOST_OPUS = 64  # packets in a PES


class _Frame(NamedTuple):
    codec: str
    size: int  # header and all
    skip: int  # header to leave out
    samples: int
    rate: int
    channels: int
    extradata: bytes = b""


class Splitter:
    """Frames of one stream that names their lengths in their headers."""

    def __init__(self, header: Callable[[bytes, int], _Frame | None], most: int) -> None:
        self._header, self._most = header, most  # `most`: bytes a header needs
        self._carried = b""
        self._pts: float | None = None

    def feed(self, payload: bytes, pts: float | None) -> tuple[list[EncodedPacket], int]:
        """Frames completed by one PES's payload, and how often something else stood where a frame should begin."""
        carried, data = len(self._carried), self._carried + payload
        frames: list[EncodedPacket] = []
        at = broken = 0
        astray = False
        if not carried and pts is not None:
            self._pts, pts = pts, None
        while len(data) - at >= self._most:
            if pts is not None and at >= carried:
                self._pts, pts = pts, None
            frame = self._header(data, at)
            if frame is None:
                broken += not astray
                astray = True
                at += 1
                continue
            if at + frame.size > len(data):
                break
            astray = False
            frames.append(self._packet(frame, data[at + frame.skip : at + frame.size]))
            at += frame.size
        if pts is not None and at >= carried:
            self._pts = pts
        self._carried = data[at:][-_MOST_CARRIED:]
        return frames, broken

    def _packet(self, frame: _Frame, data: bytes) -> EncodedPacket:
        duration = frame.samples / frame.rate
        pts, self._pts = self._pts, None if self._pts is None else self._pts + duration
        return EncodedPacket(
            kind="audio", codec=frame.codec, extradata=frame.extradata, data=data, pts=pts, duration=duration, keyframe=True,
            size=frame.size, rate=frame.rate, channels=frame.channels,
        )  # fmt: skip


def splitter_for(codec: str) -> Splitter | None:
    """For aac (ADTS) and mp3 (which may turn out to be mp2); None for what is not split by headers."""
    if codec == "aac":
        return Splitter(_adts, 7)
    if codec == "mp3":
        return Splitter(_mpeg, 4)
    return None


def _adts(data: bytes, at: int) -> _Frame | None:
    if data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0:
        return None
    skip = 7 if data[at + 1] & 1 else 9
    index = data[at + 2] >> 2 & 15
    channels = (data[at + 2] & 1) << 2 | data[at + 3] >> 6
    size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    if index >= len(AAC_RATES) or size <= skip or data[at + 6] & 3:  # several blocks in a frame: nobody writes them
        return None
    config = ((data[at + 2] >> 6) + 1 << 11 | index << 7 | channels << 3).to_bytes(2, "big")
    return _Frame("aac", size, skip, 1024, AAC_RATES[index], _SPEAKERS.get(channels, channels), config)


def _mpeg(data: bytes, at: int) -> _Frame | None:
    if data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[at + 1] >> 3 & 3, 4 - (data[at + 1] >> 1 & 3)
    bitrate, index = data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or layer not in (2, 3) or bitrate in (0, 15) or index == 3:
        return None
    first = version == 3
    rate = _MPEG_RATES[index] // {3: 1, 2: 2, 0: 4}[version]
    samples = 1152 if first or layer == 2 else 576
    size = samples // 8 * _BITRATES[first, layer][bitrate - 1] * 1000 // rate + (data[at + 2] >> 1 & 1)
    return _Frame(f"mp{layer}", size, 0, samples, rate, 1 if data[at + 3] >> 6 == 3 else 2)


def opus_frames(payload: bytes, pts: float | None, channels: int) -> tuple[list[EncodedPacket], int]:
    """Packets of one PES, each behind a control header; and 1 where the rest made no sense."""
    frames: list[EncodedPacket] = []
    at = 0
    while at < len(payload):
        if len(frames) >= _MOST_OPUS or at + 2 > len(payload) or payload[at] != 0x7F or payload[at + 1] & 0xE0 != 0xE0:
            return frames, 1
        flags = payload[at + 1]
        at += 2
        size = 0
        while at < len(payload):
            size += payload[at]
            at += 1
            if payload[at - 1] != 255:
                break
        at += 2 * bool(flags & 0x10) + 2 * bool(flags & 8)
        if flags & 4:
            at += 1 + (payload[at] if at < len(payload) else 0)
        data = payload[at : at + size]
        at += size
        if not data or len(data) < size:
            return frames, 1
        duration = _opus_duration(data)
        frames.append(
            EncodedPacket(
                kind="audio", codec="opus", extradata=b"", data=data, pts=pts, duration=duration, keyframe=True, size=size,
                rate=48_000, channels=channels or 2,
            )
        )  # fmt: skip
        pts = None if pts is None else pts + duration
    return frames, 0


def _opus_duration(data: bytes) -> float:
    """Seconds (RFC 6716 section 3.1)."""
    config, code = data[0] >> 3, data[0] & 3
    if config < 12:
        each = (10, 20, 40, 60)[config & 3]
    elif config < 16:
        each = (10, 20)[config & 1]
    else:
        each = (2.5, 5, 10, 20)[config & 3]  # type: ignore[assignment]
    count = (1, 2, 2)[code] if code < 3 else (data[1] & 63 if len(data) > 1 else 1)
    return each * count / 1000
