"""What both ends of an RTMP connection do, without IO (Adobe RTMP specification 1.0): handshake, chunks, control messages,
acknowledgements, commands.

    for event in peer.feed(data): …     # bytes came; go through all events
    sock.write(peer.take())             # bytes to send, whenever something was fed or asked

The handshake is the simple one of section 5.2; the digest of Flash players, which no live server insists on, and RTMPE are
not attempted. Commands are AMF0; in an AMF3 envelope they are read where its content is AMF0, as everybody sends it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from probe.errors import Failure
from probe.model.outcome import REASONS
from probe.model.stage import Phase
from probe.model.text import beginning
from probe.wire import amf
from probe.wire.amf import Broken, Value
from probe.wire.flv_tags import AUDIO, SCRIPT, VIDEO, Tag
from probe.wire.rtmp_chunks import ChunkReader, ChunkWriter, Message

VERSION = 3
SIGNATURE = 1536  # of C1, S1, C2 and S2
CHUNK = 4096
SET_CHUNK_SIZE, ACKNOWLEDGEMENT, USER_CONTROL, WINDOW, PEER_BANDWIDTH = 1, 3, 4, 5, 6
DATA3, COMMAND3, DATA, COMMAND, AGGREGATE = 15, 17, 18, 20, 22
STREAM_BEGIN, STREAM_EOF, BUFFER_LENGTH, PING, PONG = 0, 1, 3, 6, 7
_CONTROL_STREAM, _COMMAND_STREAM = 2, 3
_MEDIA_STREAMS = {AUDIO: 4, SCRIPT: 5, VIDEO: 6}
_MAX_AGGREGATED = 1000


@dataclass(frozen=True, slots=True)
class Shaken:
    """The handshake is done."""


@dataclass(frozen=True, slots=True)
class Media:
    """A tag of the stream: sound, picture or metadata."""

    tag: Tag


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The peer has received so many bytes of ours, as far as can be believed (never more than were sent)."""

    received: int


@dataclass(frozen=True, slots=True)
class Command:
    """A command as it came: its name, transaction id, object and what follows."""

    name: str
    transaction: float
    arguments: tuple[Value, ...]

    def info(self) -> dict[str, Value]:
        """The last argument that is an object: where status and properties are."""
        return next((a for a in reversed(self.arguments) if isinstance(a, dict)), {})

    def text(self, at: int) -> str:
        """The argument at `at`, command object included, where it is text; empty otherwise."""
        value = self.arguments[at] if len(self.arguments) > at else None
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class UserControl:
    kind: int
    value: int


Heard = Shaken | Media | Acknowledged | Command | UserControl


class Peer:
    """`phase` is where a failure belongs; the client moves it as it gets on, whoever reads the media from then on.

    `random` is 1528 bytes for the handshake."""

    def __init__(self, random: bytes, phase: Phase) -> None:
        self.phase = phase
        self.sent = 0  # bytes handed out, handshake included
        self.received = 0
        self._random = random[: SIGNATURE - 8].ljust(SIGNATURE - 8, b"\0")
        self._out = bytearray()
        self._greeting = bytearray()  # of the other side, until it is whole
        self._greeted = 0  # parts of it that were read: 0, 1 or 2
        self._shaken = False
        self._reader, self._writer = ChunkReader(), ChunkWriter()
        self._window = 0  # what the other side wants acknowledged
        self._told = 0
        self._acknowledged = 0

    def take(self) -> bytes:
        """What is to be sent now."""
        out = bytes(self._out)
        self._out.clear()
        self.sent += len(out)
        return out

    def send(self, tag: Tag, stream: int) -> None:
        """A tag as a message of the media stream `stream`."""
        self._send(_MEDIA_STREAMS[tag.kind], tag.kind, tag.payload, stream, tag.timestamp & 0xFFFFFFFF)

    def set_window(self, size: int) -> None:
        """Ask to be told each time that so many bytes of ours have arrived."""
        self._control(WINDOW, struct.pack(">I", size))

    def _hear(self, data: bytes) -> Iterator[Heard]:
        """What `data` says; control messages are answered. Raises Failure."""
        self.received += len(data)
        try:
            if not self._shaken:
                self._greeting += data
                if not self._shake():
                    return
                self._shaken = True
                data = bytes(self._greeting)
                self._greeting.clear()
                yield Shaken()
            for message in self._reader.feed(data):
                yield from self._read(message)
            self._acknowledge()
        except Broken as broken:
            reason = broken.reason if broken.reason in REASONS[self.phase] else "malformed"
            raise Failure(self.phase, reason, str(broken)) from broken

    def _shake(self) -> bool:
        """Read what is there of the greeting and answer it; True when it is whole. What follows it stays in `_greeting`."""
        greeting = self._greeting
        if self._greeted == 0 and greeting:
            if greeting[0] != VERSION:
                known = greeting[0] in (6, 8)
                reason = "unsupported" if known else "malformed"
                raise Failure(Phase.HANDSHAKE, reason, "RTMPE" if known else f"not RTMP: begins {beginning(greeting)}")
            if len(greeting) > SIGNATURE:
                self._greet(bytes(greeting[1 : 1 + SIGNATURE]))
                del greeting[: 1 + SIGNATURE]
                self._greeted = 1
        if self._greeted == 1 and len(greeting) >= SIGNATURE:  # that it echoes ours nobody keeps to
            del greeting[:SIGNATURE]
            self._greeted = 2
        return self._greeted == 2

    def _greet(self, theirs: bytes) -> None:
        """The other side's first signature came: its echo is the answer, after our own hello where that is still to be said."""
        self._out += theirs

    def _hello(self) -> None:
        """C0 and C1, or S0 and S1."""
        self._out += bytes([VERSION]) + bytes(8) + self._random

    def _read(self, message: Message) -> Iterator[Heard]:
        payload = message.payload
        match message.kind:
            case 8 | 9 | 18:
                yield Media(Tag(message.kind, message.timestamp, payload))
            case 20:
                yield _command(payload)
            case 17:
                yield _command(payload[1:])
            case 15:
                yield Media(Tag(SCRIPT, message.timestamp, payload[1:]))
            case 22:
                for tag in _aggregated(message):
                    yield Media(tag)
            case 3 if len(payload) >= 4:
                yield from self._told_of(int.from_bytes(payload[:4], "big"))
            case 4 if len(payload) >= 6:
                kind, value = struct.unpack(">HI", payload[:6])
                if kind == PING:
                    self._control(USER_CONTROL, struct.pack(">HI", PONG, value))
                else:
                    yield UserControl(kind, value)
            case 5 if len(payload) >= 4:
                self._window = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
            case _:
                pass

    def _told_of(self, number: int) -> Iterator[Acknowledged]:
        """An acknowledgement. Its 32 bits wrap; one that claims more than was sent is not believed."""
        step = (number - self._acknowledged) & 0xFFFFFFFF
        if 0 < step < 1 << 31 and self._acknowledged + step <= self.sent:
            self._acknowledged += step
            yield Acknowledged(self._acknowledged)

    def _acknowledge(self) -> None:
        """Section 5.4.3: at least once in each half window, so that no server waits."""
        if self._window and self.received - self._told >= max(1, self._window // 2):
            self._told = self.received
            self._control(ACKNOWLEDGEMENT, struct.pack(">I", self.received & 0xFFFFFFFF))

    def _command(self, *values: Value, stream: int = 0) -> None:
        self._send(_COMMAND_STREAM, COMMAND, amf.encode(*values), stream)

    def _control(self, kind: int, payload: bytes) -> None:
        self._send(_CONTROL_STREAM, kind, payload)

    def _set_chunk_size(self) -> None:
        self._control(SET_CHUNK_SIZE, struct.pack(">I", CHUNK))
        self._writer.size = CHUNK

    def _send(self, number: int, kind: int, payload: bytes, stream: int = 0, timestamp: int = 0) -> None:
        self._out += self._writer.write(number, Message(kind, timestamp, stream, payload))


def _command(payload: bytes) -> Command:
    values = amf.decode(payload)
    if not values or not isinstance(values[0], str):
        raise Broken("an RTMP command without a name")
    number = values[1] if len(values) > 1 and isinstance(values[1], float) else 0.0
    return Command(values[0], number, tuple(values[2:]))


def _aggregated(message: Message) -> Iterator[Tag]:
    """Section 7.1.6: FLV tags in a row, whose times count from the message's own."""
    data, at, base = message.payload, 0, None
    for _ in range(_MAX_AGGREGATED):
        if len(data) - at < 11:
            return
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        stamp = int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24
        base = stamp if base is None else base
        payload = data[at + 11 : at + 11 + size]
        if len(payload) < size:
            raise Broken("an aggregate message that ends too early")
        if data[at] in _MEDIA_STREAMS:
            yield Tag(data[at], (message.timestamp + stamp - base) & 0xFFFFFFFF, payload)
        at += size + 15
