"""What an MPEG-TS says it holds: sections put together, PAT and PMT read (ISO 13818-1 section 2.4.4).

A table whose CRC is wrong is as if it had not come: they are repeated many times a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_PICTURES = {
    0x01: "mpeg1video", 0x02: "mpeg2video", 0x10: "mpeg4", 0x1B: "h264", 0x24: "hevc", 0x33: "vvc", 0x42: "cavs", 0xD2: "avs2",
    0xD1: "dirac", 0xEA: "vc1",
}  # fmt: skip
_SOUNDS = {
    0x03: "mp3", 0x04: "mp3", 0x0F: "aac", 0x11: "aac_latm", 0x81: "ac3", 0x87: "eac3", 0x82: "dts", 0x83: "truehd",
}  # fmt: skip
_REGISTERED = {
    b"Opus": ("audio", "opus"), b"AC-3": ("audio", "ac3"), b"EAC3": ("audio", "eac3"), b"AV01": ("video", "av1"),
    b"HEVC": ("video", "hevc"), b"VP09": ("video", "vp9"), b"VP08": ("video", "vp8"),
}  # fmt: skip
_MOST_STREAMS = 32


@dataclass(frozen=True, slots=True)
class Stream:
    """`codec` is FFmpeg's name; `channels` where the table says, else 0."""

    pid: int
    kind: str  # video | audio
    codec: str
    channels: int = 0


@dataclass(frozen=True, slots=True)
class Programme:
    """The first picture and the first sound of a PMT."""

    pcr_pid: int
    video: Stream | None
    audio: Stream | None


class Sections:
    """Puts one PID's sections together; `seen` is given each whole one whose CRC holds and that is not the one before."""

    def __init__(self, seen: Callable[[bytes], None]) -> None:
        self._seen = seen
        self._buffer = bytearray()
        self._open = False
        self._last = b""

    def feed(self, payload: bytes, begins: bool) -> None:
        """One transport packet's payload."""
        if begins:
            if not payload:
                return
            pointer = payload[0]
            if self._open:
                self._add(payload[1 : 1 + pointer])
            self._buffer.clear()
            self._open = True
            payload = payload[1 + pointer :]
        if self._open:
            self._add(payload)

    def _add(self, data: bytes) -> None:
        self._buffer += data
        while self._open and len(self._buffer) >= 3:
            if self._buffer[0] == 0xFF:  # stuffing
                self._open = False
                return
            size = 3 + ((self._buffer[1] & 0x0F) << 8 | self._buffer[2])
            if len(self._buffer) < size:
                return
            section = bytes(self._buffer[:size])
            del self._buffer[:size]
            if section != self._last and crc32(section) == 0:
                self._last = section
                self._seen(section)


def programmes(section: bytes) -> int | None:
    """The PID of the first programme's PMT; None where the section names none."""
    if section[0] != 0 or len(section) < 12 or not section[5] & 1:
        return None
    for at in range(8, len(section) - 7, 4):
        if section[at] or section[at + 1]:  # programme 0 is the network's
            return (section[at + 2] & 0x1F) << 8 | section[at + 3]
    return None


def streams(section: bytes) -> Programme | None:
    """What a PMT says; None for another table."""
    if section[0] != 2 or len(section) < 16 or not section[5] & 1:
        return None
    at, end = 12 + ((section[10] & 0x0F) << 8 | section[11]), len(section) - 4
    found: dict[str, Stream] = {}
    for _ in range(_MOST_STREAMS):
        if at + 5 > end:
            break
        kind, pid = section[at], (section[at + 1] & 0x1F) << 8 | section[at + 2]
        length = (section[at + 3] & 0x0F) << 8 | section[at + 4]
        stream = _stream(kind, pid, section[at + 5 : min(end, at + 5 + length)])
        if stream is not None:
            found.setdefault(stream.kind, stream)
        at += 5 + length
    return Programme((section[8] & 0x1F) << 8 | section[9], found.get("video"), found.get("audio"))


def _stream(kind: int, pid: int, descriptors: bytes) -> Stream | None:
    if kind in _PICTURES:
        return Stream(pid, "video", _PICTURES[kind])
    if kind in _SOUNDS:
        return Stream(pid, "audio", _SOUNDS[kind])
    if kind != 0x06:
        return None
    known, channels, at = None, 0, 0
    while at + 2 <= len(descriptors):
        tag, body = descriptors[at], descriptors[at + 2 : at + 2 + descriptors[at + 1]]
        if tag == 0x05:
            known = _REGISTERED.get(body[:4], known)
        elif tag == 0x6A:
            known = known or ("audio", "ac3")
        elif tag == 0x7F and len(body) >= 2 and body[0] == 0x80:  # DVB's extension, as Opus uses it
            channels = body[1] or 2
        at += 2 + descriptors[at + 1]
    return None if known is None else Stream(pid, *known, channels if channels <= 8 else 0)


def crc32(data: bytes) -> int:
    """CRC-32/MPEG-2; 0 over data that ends with its own."""
    value = 0xFFFFFFFF
    for byte in data:
        value = (value << 8 & 0xFFFFFFFF) ^ _CRC[value >> 24 ^ byte]
    return value


def _crc_of(index: int) -> int:
    value = index << 24
    for _ in range(8):
        value = (value << 1 ^ 0x04C11DB7) if value & 0x80000000 else value << 1
    return value & 0xFFFFFFFF


_CRC = [_crc_of(index) for index in range(256)]
