"""FLV, the file format that HTTP-FLV and WebSocket-FLV send without end (Adobe FLV and F4V specification 10.1, annex E).

A reader that is fed whatever the network gave, and the bytes of a header and of tags for whoever makes FLV. What is inside
a tag, which RTMP shares, is in flv_tags. Previous-tag sizes are not checked: nothing needs them and several servers get
them wrong. Encrypted tags (filter bit) are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from probe.errors import Failure, Unsupported
from probe.model.stage import Phase
from probe.model.text import beginning
from probe.wire.amf import Broken, Value
from probe.wire.flv_tags import Tag, TagReader
from probe.wire.packet import EncodedPacket

MAX_TAG = 8 << 20  # an intra picture of 2160p is a quarter of it
_MAX_HEADER = 1024


def flv_header(*, video: bool = True, audio: bool = True) -> bytes:
    """The file header and the first previous-tag size."""
    return b"FLV\x01" + bytes([video | audio << 2]) + struct.pack(">II", 9, 0)


def flv_tag(tag: Tag) -> bytes:
    """One tag and its size after it."""
    head = struct.pack(">BBHBHBBH", tag.kind, *_split(len(tag.payload)), *_split(tag.timestamp & 0xFFFFFF),
                       tag.timestamp >> 24 & 0xFF, 0, 0)  # fmt: skip
    return head + tag.payload + struct.pack(">I", len(head) + len(tag.payload))


def _split(number: int) -> tuple[int, int]:
    return number >> 16, number & 0xFFFF


class FlvReader:
    """One body from its first byte. `phase` is where a failure belongs: set it as the session goes on.

    `metadata` is what onMetaData said last."""

    def __init__(self, phase: Phase = Phase.FIRST_PACKET) -> None:
        self.phase = phase
        self._tags = TagReader()
        self._buffer = bytearray()
        self._headed = False

    @property
    def metadata(self) -> dict[str, Value]:
        return self._tags.metadata

    def feed(self, data: bytes) -> Iterator[EncodedPacket]:
        """Packets completed by `data`; go through them to the end before the next call. Raises Failure(phase, malformed |
        too_large), Unsupported."""
        self._buffer += data
        try:
            for tag in self._split():
                packet = self._tags.read(tag)
                if packet is not None:
                    yield packet
        except Broken as broken:
            raise Failure(self.phase, broken.reason, str(broken)) from broken

    def _split(self) -> Iterator[Tag]:
        buffer, at = self._buffer, 0
        try:
            if not self._headed:
                if not (at := self._header()):
                    return
                self._headed = True
            while len(buffer) - at >= 11:
                kind = buffer[at]
                size = int.from_bytes(buffer[at + 1 : at + 4], "big")
                if kind & 0xC0 or buffer[at + 8 : at + 11] != b"\0\0\0":
                    raise Broken("not an FLV tag")
                if kind & 0x20:
                    raise Unsupported("encrypted FLV")
                if size > MAX_TAG:
                    raise Broken(f"an FLV tag of {size} bytes", "too_large")
                if len(buffer) - at < size + 15:
                    return
                stamp = int.from_bytes(buffer[at + 4 : at + 7], "big") | buffer[at + 7] << 24
                payload = bytes(buffer[at + 11 : at + 11 + size])
                at += size + 15
                yield Tag(kind, stamp, payload)
        finally:
            del buffer[:at]

    def _header(self) -> int:
        """Its length with the size after it; 0 while it is not all there."""
        buffer = self._buffer
        if buffer[:3] != b"FLV"[: len(buffer)]:
            raise Broken(f"not FLV: begins {beginning(buffer)}")
        if len(buffer) < 9:
            return 0
        offset = int.from_bytes(buffer[5:9], "big")
        if buffer[3] != 1 or not 9 <= offset <= _MAX_HEADER:
            raise Broken("an FLV header of another version")
        return offset + 4 if len(buffer) >= offset + 4 else 0
