"""AMF0, the values of RTMP commands and FLV metadata (Adobe AMF0 specification, December 2007).

What a server sends is bounded in depth, in values and in the length of its strings' container, so that no message costs
more than its own bytes. Read to the nearest Python value: an ECMA array and a typed object are dicts, undefined is None, a
date is its milliseconds. References, recordsets and XML objects' structure are of no use here: a reference is refused, XML
is its text. AMF3 is not attempted: nobody speaks it to a client that said objectEncoding 0.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

from probe.errors import ProbeError

Value: TypeAlias = float | bool | str | dict[str, "Value"] | list["Value"] | None

MAX_DEPTH = 16
MAX_VALUES = 4096
_NUMBER, _BOOLEAN, _STRING, _OBJECT, _NULL, _END, _STRICT, _LONG = 0, 1, 2, 3, 5, 9, 10, 12


class Broken(ProbeError):
    """Bytes that are not what they should be. `reason` is malformed or too_large; whoever knows where the session stands
    makes a Failure of it."""

    def __init__(self, detail: str, reason: str = "malformed") -> None:
        self.reason = reason
        super().__init__(detail)


def encode(*values: Value) -> bytes:
    """The values one after another. Keys and strings in UTF-8; whole numbers are numbers."""
    return b"".join(_encode(value) for value in values)


def decode(data: bytes) -> list[Value]:
    """All values of `data`. Raises Broken."""
    reader = _Reader(data)
    values: list[Value] = []
    while reader.at < len(data):
        values.append(reader.value(0))
    return values


def _encode(value: Value | int) -> bytes:
    match value:
        case None:
            return bytes([_NULL])
        case bool():
            return bytes([_BOOLEAN, value])
        case int() | float():
            return struct.pack(">Bd", _NUMBER, value)
        case str():
            text = value.encode()
            if len(text) > 0xFFFF:
                return struct.pack(">BI", _LONG, len(text)) + text
            return struct.pack(">BH", _STRING, len(text)) + text
        case dict():
            return bytes([_OBJECT]) + b"".join(_key(k) + _encode(v) for k, v in value.items()) + bytes([0, 0, _END])
        case list():
            return struct.pack(">BI", _STRICT, len(value)) + b"".join(_encode(v) for v in value)


def _key(name: str) -> bytes:
    text = name.encode()[:0xFFFF]
    return struct.pack(">H", len(text)) + text


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.count = 0

    def value(self, depth: int) -> Value:
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_VALUES:
            raise Broken("AMF0 nested or repeated beyond all bounds", "too_large")
        marker = self._take(1)[0]
        match marker:
            case 0:
                return self._number()
            case 1:
                return self._take(1) != b"\0"
            case 2:
                return self._text(2)
            case 3:
                return self._members(depth)
            case 5 | 6 | 13:  # null, undefined, unsupported
                return None
            case 8:
                self._take(4)  # a count that nobody keeps to
                return self._members(depth)
            case 10:
                (count,) = struct.unpack(">I", self._take(4))
                if count > MAX_VALUES:
                    raise Broken(f"an AMF0 array of {count} values", "too_large")
                return [self.value(depth + 1) for _ in range(count)]
            case 11:
                moment = self._number()
                self._take(2)  # time zone, reserved
                return moment
            case 12 | 15:
                return self._text(4)
            case 16:
                self._text(2)  # the class's name
                return self._members(depth)
            case _:
                raise Broken(f"AMF0 has no type {marker}")

    def _members(self, depth: int) -> dict[str, Value]:
        members: dict[str, Value] = {}
        while True:
            name = self._text(2)
            if not name and self.data[self.at : self.at + 1] == bytes([_END]):
                self.at += 1
                return members
            members[name] = self.value(depth + 1)

    def _number(self) -> float:
        (number,) = struct.unpack(">d", self._take(8))
        return float(number)

    def _text(self, width: int) -> str:
        return self._take(int.from_bytes(self._take(width), "big")).decode("utf-8", "replace")

    def _take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        if len(piece) < count:
            raise Broken("AMF0 that ends too early")
        self.at += count
        return piece
