"""RTMP's chunk stream: messages cut into chunks, interleaved, with headers that leave out what has not changed (Adobe RTMP
specification 1.0, section 5.3).

Where real implementations differ from the text or each other: an extended timestamp is repeated in a type 3 chunk by most
and left out by some, so there it is taken only where it equals the message's own; a type 3 that begins a message adds the
last delta, which after a type 0 is that message's timestamp (section 5.3.1.2.4). We never write what is disputed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from probe.wire.amf import Broken

MAX_MESSAGE = 8 << 20
MAX_PENDING = 16 << 20  # of all messages under way
MAX_STREAMS = 64  # chunk streams that one peer may open
DEFAULT_CHUNK = 128
_EXTENDED = 0xFFFFFF
_SET_CHUNK_SIZE, _ABORT = 1, 2
_HEADS = (11, 7, 3, 0)


@dataclass(frozen=True, slots=True)
class Message:
    """`kind` is the message type id, `timestamp` in ms modulo 2^32, `stream` the message stream id."""

    kind: int
    timestamp: int
    stream: int
    payload: bytes


@dataclass(slots=True)
class _Stream:
    """One chunk stream as last heard. `extended`: the four bytes of its last extended timestamp."""

    timestamp: int = 0
    delta: int = 0
    length: int = 0
    kind: int = 0
    stream: int = 0
    extended: bytes = b""
    parts: bytearray | None = None  # of a message under way


class ChunkReader:
    """One direction of a connection, after the handshake. Chunk size and abort are obeyed here, and passed on."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._streams: dict[int, _Stream] = {}
        self._size = DEFAULT_CHUNK
        self._pending = 0

    def feed(self, data: bytes) -> Iterator[Message]:
        """Messages completed by `data`; go through them to the end before the next call. Raises Broken."""
        self._buffer += data
        at = 0
        try:
            while True:
                after, message = self._chunk(at)
                if after == at:
                    return
                at = after
                if message is not None:
                    self._obey(message)
                    yield message
        finally:
            del self._buffer[:at]

    def _chunk(self, at: int) -> tuple[int, Message | None]:
        """Where the chunk at `at` ends, `at` itself while it is not all there, and the message it completed."""
        buffer, start = self._buffer, at
        have = len(buffer)
        if have - at < 1:
            return start, None
        form, number = buffer[at] >> 6, buffer[at] & 63
        at += 1
        if number < 2:
            more = number + 1
            if have - at < more:
                return start, None
            number = 64 + int.from_bytes(buffer[at : at + more], "little")
            at += more
        head = _HEADS[form]
        if have - at < head:
            return start, None
        stream = self._streams.get(number)
        if stream is None:
            if form == 3:
                raise Broken(f"chunk stream {number} begins without a header")
            if len(self._streams) >= MAX_STREAMS:
                raise Broken(f"more than {MAX_STREAMS} chunk streams", "too_large")
            stream = _Stream()
        fields = bytes(buffer[at : at + head])
        at += head
        field, extended = int.from_bytes(fields[:3], "big"), b""
        if form < 3:
            if field == _EXTENDED:
                if have - at < 4:
                    return start, None
                extended = bytes(buffer[at : at + 4])
                at += 4
                field = int.from_bytes(extended, "big")
        elif stream.extended:
            if have - at < 4:
                return start, None
            if buffer[at : at + 4] == stream.extended:
                at += 4
        length = int.from_bytes(fields[3:6], "big") if form < 2 else stream.length
        if length > MAX_MESSAGE:
            raise Broken(f"an RTMP message of {length} bytes", "too_large")
        under_way = stream.parts if form == 3 else None  # a header within a message begins it anew
        take = min(self._size, length - len(under_way or b""))
        if have - at < take:
            return start, None
        self._streams[number] = stream
        if under_way is None:
            self._pending -= len(stream.parts or b"")
            self._begin(stream, form, field, fields, extended)
        parts = stream.parts
        assert parts is not None
        parts += buffer[at : at + take]
        self._pending += take
        if self._pending > MAX_PENDING:
            raise Broken("too many RTMP messages under way", "too_large")
        at += take
        if len(parts) < stream.length:
            return at, None
        self._pending -= len(parts)
        stream.parts = None
        return at, Message(stream.kind, stream.timestamp, stream.stream, bytes(parts))

    def _begin(self, stream: _Stream, form: int, field: int, fields: bytes, extended: bytes) -> None:
        if form < 3:
            stream.extended = extended
            stream.delta = field
        if form == 0:
            stream.timestamp = field
            stream.stream = int.from_bytes(fields[7:11], "little")
        else:
            stream.timestamp = (stream.timestamp + stream.delta) & 0xFFFFFFFF
        if form < 2:
            stream.length = int.from_bytes(fields[3:6], "big")
            stream.kind = fields[6]
        stream.parts = bytearray()

    def _obey(self, message: Message) -> None:
        if message.kind == _SET_CHUNK_SIZE and len(message.payload) >= 4:
            size = int.from_bytes(message.payload[:4], "big") & 0x7FFFFFFF
            if size == 0:
                raise Broken("an RTMP chunk size of 0")
            self._size = min(size, MAX_MESSAGE)
        elif message.kind == _ABORT and len(message.payload) >= 4:
            stream = self._streams.get(int.from_bytes(message.payload[:4], "big"))
            if stream is not None and stream.parts is not None:
                self._pending -= len(stream.parts)
                stream.parts = None


class ChunkWriter:
    """The other direction: each message at once, in type 0 or 1 and then type 3 chunks. `size` counts from the next message
    on; tell the peer before."""

    def __init__(self) -> None:
        self.size = DEFAULT_CHUNK
        self._last: dict[int, tuple[int, int]] = {}  # chunk stream → (timestamp, message stream)

    def write(self, number: int, message: Message) -> bytes:
        """The chunks of `message` on chunk stream `number` (2 … 63)."""
        last, payload = self._last.get(number), message.payload
        delta = message.timestamp - last[0] if last is not None and last[1] == message.stream else -1
        form, field = (1, delta) if 0 <= delta < _EXTENDED else (0, message.timestamp)
        self._last[number] = (message.timestamp, message.stream)
        extended = struct.pack(">I", field) if field >= _EXTENDED else b""
        out = bytearray([form << 6 | number])
        out += min(field, _EXTENDED).to_bytes(3, "big") + len(payload).to_bytes(3, "big") + bytes([message.kind])
        if form == 0:
            out += struct.pack("<I", message.stream)
        out += extended
        out += payload[: self.size]
        following = bytes([0xC0 | number]) + extended
        for at in range(self.size, len(payload), self.size):
            out += following
            out += payload[at : at + self.size]
        return bytes(out)
