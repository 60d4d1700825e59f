"""SRT on the wire (draft-sharabayko-srt-01 section 3): headers, handshakes and their extensions, acknowledgements, loss lists.

Sequence numbers count modulo 2^31, time stamps in µs modulo 2^32. Everything read is bounds-checked: `Malformed` and nothing
else comes out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum

HEADER = 16
SEQUENCES = 1 << 31
LARGEST = 1500  # bytes of a datagram
_CONTROL = 0x8000_0000
_HEAD = struct.Struct(">IIII")
_HANDSHAKE = struct.Struct(">IHHIIIiII16s")
_MOST_EXTENSIONS = 16


class Malformed(ValueError):
    """Not SRT, or not whole."""


class Kind(IntEnum):
    HANDSHAKE = 0
    KEEPALIVE = 1
    ACK = 2
    NAK = 3
    CONGESTION = 4
    SHUTDOWN = 5
    ACKACK = 6
    DROPREQ = 7
    PEERERROR = 8
    USER = 0x7FFF


class Extension(IntEnum):
    HSREQ = 1
    HSRSP = 2
    KMREQ = 3
    KMRSP = 4
    SID = 5


@dataclass(slots=True)  # not frozen: made a hundred times a second, in a third of the time
class Data:
    """`number` of the message, 26 bits; `key`: 0 in the clear, 1 even, 2 odd. `whole`: a message in one packet."""

    sequence: int
    number: int
    timestamp: int
    destination: int
    payload: bytes
    key: int = 0
    again: bool = False
    whole: bool = True

    def encode(self) -> bytes:
        second = 0xC000_0000 | self.key << 27 | self.again << 26 | self.number & 0x3FF_FFFF
        return _HEAD.pack(self.sequence, second, self.timestamp & 0xFFFF_FFFF, self.destination) + self.payload


@dataclass(frozen=True, slots=True)
class Control:
    kind: int
    subtype: int
    info: int
    timestamp: int
    destination: int
    body: bytes = b""

    def encode(self) -> bytes:
        first = _CONTROL | self.kind << 16 | self.subtype
        return _HEAD.pack(first, self.info & 0xFFFF_FFFF, self.timestamp & 0xFFFF_FFFF, self.destination) + self.body


def decode(datagram: bytes) -> Data | Control:
    if len(datagram) < HEADER:
        raise Malformed(f"{len(datagram)} bytes are no SRT packet")
    first, second, timestamp, destination = _HEAD.unpack_from(datagram)
    if first & _CONTROL:
        return Control(first >> 16 & 0x7FFF, first & 0xFFFF, second, timestamp, destination, datagram[HEADER:])
    return Data(
        first, second & 0x3FF_FFFF, timestamp, destination, datagram[HEADER:], second >> 27 & 3, bool(second >> 26 & 1),
        second >> 30 == 3,
    )  # fmt: skip


# --- handshakes

INDUCTION, CONCLUSION = 1, -1
MAGIC = 0x4A17
REJECTED = 1000  # handshake types from here on are reasons

# HSREQ's flags
TSBPD_SEND, TSBPD_RECEIVE, CRYPT, TOO_LATE_DROP, PERIODIC_NAK, RESEND_FLAG = 1, 2, 4, 8, 16, 32
STREAM = 64
LIVE = TSBPD_SEND | TSBPD_RECEIVE | CRYPT | TOO_LATE_DROP | PERIODIC_NAK | RESEND_FLAG


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    version: int
    encryption: int
    extension: int
    sequence: int
    mtu: int
    window: int
    type: int
    socket: int
    cookie: int
    peer: bytes = bytes(16)
    extensions: dict[int, bytes] = field(default_factory=dict)

    def encode(self) -> bytes:
        body = _HANDSHAKE.pack(
            self.version, self.encryption, self.extension, self.sequence, self.mtu, self.window, self.type, self.socket,
            self.cookie, self.peer,
        )  # fmt: skip
        for kind, content in self.extensions.items():
            padded = content + bytes(-len(content) % 4)
            body += struct.pack(">HH", kind, len(padded) // 4) + padded
        return body

    def replaced(self, **changes: object) -> Handshake:
        return replace(self, **changes)  # type: ignore[arg-type]


def decode_handshake(body: bytes) -> Handshake:
    if len(body) < _HANDSHAKE.size:
        raise Malformed("a handshake that ends too early")
    version, encryption, extension, sequence, mtu, window, kind, socket, cookie, peer = _HANDSHAKE.unpack_from(body)
    extensions: dict[int, bytes] = {}
    at = _HANDSHAKE.size
    if version == 5 and kind == CONCLUSION:
        while at + 4 <= len(body):
            which, words = struct.unpack_from(">HH", body, at)
            content = body[at + 4 : at + 4 + 4 * words]
            if len(content) < 4 * words or len(extensions) >= _MOST_EXTENSIONS:
                raise Malformed("a handshake extension that ends too early")
            extensions[which] = content
            at += 4 + 4 * words
    return Handshake(
        version=version, encryption=encryption, extension=extension, sequence=sequence & SEQUENCES - 1, mtu=mtu, window=window,
        type=kind, socket=socket, cookie=cookie, peer=peer, extensions=extensions,
    )  # fmt: skip


def encode_hello(version: int, flags: int, receive_ms: int, send_ms: int) -> bytes:
    """HSREQ and HSRSP (section 3.2.1.1): latencies of TSBPD in ms."""
    return struct.pack(">IIHH", version, flags, receive_ms, send_ms)


def decode_hello(content: bytes) -> tuple[int, int, int, int]:
    """(version, flags, receive ms, send ms)."""
    if len(content) < 12:
        raise Malformed("a handshake's SRT extension that ends too early")
    version, flags, receive, send = struct.unpack_from(">IIHH", content)
    return version, flags, receive, send


def encode_stream_id(text: str) -> bytes:
    """UTF-8 in words whose bytes are reversed (section 3.2.1.3)."""
    data = text.encode()
    data += bytes(-len(data) % 4)
    return b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))


def decode_stream_id(content: bytes) -> str:
    data = b"".join(content[at : at + 4][::-1] for at in range(0, len(content), 4))
    return data.rstrip(b"\0").decode(errors="replace")


# --- acknowledgements and loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """`sequence`: everything before it has come. Round trip in µs, room in packets; None where a light one says nothing."""

    sequence: int
    rtt: int | None = None
    rtt_variance: int | None = None
    room: int | None = None
    packets_per_second: int = 0
    bytes_per_second: int = 0

    def encode(self) -> bytes:
        if self.rtt is None:
            return struct.pack(">I", self.sequence)
        return struct.pack(
            ">7I", self.sequence, self.rtt, self.rtt_variance or 0, self.room or 0, self.packets_per_second, 0,
            self.bytes_per_second,
        )  # fmt: skip


def decode_ack(body: bytes) -> Ack:
    if len(body) < 4:
        raise Malformed("an acknowledgement that ends too early")
    sequence = int.from_bytes(body[:4], "big") & SEQUENCES - 1
    if len(body) < 16:
        return Ack(sequence=sequence)
    _, rtt, variance, room = struct.unpack_from(">4I", body)
    return Ack(sequence=sequence, rtt=rtt, rtt_variance=variance, room=room)


def encode_loss(ranges: Iterable[tuple[int, int]]) -> bytes:
    """Sequence numbers lost, first and last of each run (appendix A)."""
    return b"".join(
        struct.pack(">I", first) if first == last else struct.pack(">II", _CONTROL | first, last) for first, last in ranges
    )


def decode_loss(body: bytes) -> Iterator[tuple[int, int]]:
    words = struct.unpack(f">{len(body) // 4}I", body[: len(body) // 4 * 4])
    at = 0
    while at < len(words):
        first = words[at]
        if first & _CONTROL:
            if at + 1 >= len(words) or words[at + 1] & _CONTROL:
                raise Malformed("a range of losses without an end")
            yield first & SEQUENCES - 1, words[at + 1]
            at += 2
        else:
            yield first, first
            at += 1


class Unroll:
    """31 bits → a count that goes on where they wrap: the nearest to the highest so far. `first` is 0."""

    def __init__(self, first: int, modulus: int = SEQUENCES) -> None:
        self._first, self._modulus = first, modulus
        self._last = 0

    def __call__(self, number: int) -> int:
        """Its place, which does not become the reference."""
        half = self._modulus // 2
        return self._last + (number - self._first - self._last + half) % self._modulus - half

    def moved(self, to: int) -> None:
        """`to` is the reference now."""
        self._last = to

    def roll(self, place: int) -> int:
        return (self._first + place) % self._modulus
