"""One file of a spool: records one after another, each with its own check, each forgotten by one byte.

A record is `magic, state, id, length, crc32(id, length, payload), payload`. Whoever is done with one sets its state byte in
place: no second file that could disagree, and no space needed on a full disk. A record counts when all of it is there; after a
kill -9 the last may be torn, after a power cut any may be, so reading goes on at the next record whose check holds.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from array import array
from bisect import bisect_left
from itertools import islice
from pathlib import Path
from typing import NamedTuple

_MAGIC = b"SPL1"
_HEADER = struct.Struct(">4sBQII")
_HELD, _DONE = 0, 1
_STATE = 4  # the state byte's place in a record
OVERHEAD = _HEADER.size


class Place(NamedTuple):
    """Where a record begins in its file, in bytes, and how long its payload is."""

    identity: int
    offset: int
    length: int


class Segment:
    """A file of records and the index of those still held. Not thread-safe: its spool locks."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.size = 0
        self.held = 0
        self.full = False  # takes no more
        self._ids = array("Q")
        self._offsets = array("Q")
        self._lengths = array("I")
        self._alive = bytearray()
        self._head = 0

    @classmethod
    def created(cls, path: Path) -> Segment:
        """An empty one. OSError where there cannot be one."""
        return cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    @classmethod
    def opened(cls, path: Path) -> tuple[Segment, int]:
        """An old one, and how many stretches of it were no whole records. OSError where it cannot be read."""
        full = False
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            full = True  # what it holds can still be sent
        segment = cls(path, fd)
        try:
            with open(fd, "rb", closefd=False) as file:
                lost = segment._index(file.read())
        except BaseException:
            segment.close()
            raise
        segment.full = full or lost > 0
        return segment, lost

    def append(self, identity: int, payload: bytes) -> None:
        """Add a record. OSError where the disk refuses; then the file is as it was."""
        record = _HEADER.pack(_MAGIC, _HELD, identity, len(payload), _check(identity, payload)) + payload
        written = 0
        try:
            while written < len(record):
                written += os.pwrite(self.fd, record[written:], self.size + written)
        except OSError:
            try:
                os.ftruncate(self.fd, self.size)
            except OSError:
                self.full = True  # half a record stands at its end
            raise
        self._add(identity, self.size, len(payload), held=True)
        self.size += len(record)

    def newest(self) -> int:
        """The id of its last record; -1 where it has none."""
        return self._ids[-1] if self._ids else -1

    def oldest(self, count: int) -> list[Place]:
        """Where the first `count` records still held stand."""
        while self._head < len(self._alive) and not self._alive[self._head]:
            self._head += 1
        held = (at for at in range(self._head, len(self._alive)) if self._alive[at])
        return [Place(self._ids[at], self._offsets[at], self._lengths[at]) for at in islice(held, count)]

    def forget(self, identity: int) -> bool:
        """Whether it was held; it is not any more, on disk too where the disk lets us (else it is met again after a restart)."""
        at = bisect_left(self._ids, identity)
        if at == len(self._ids) or self._ids[at] != identity or not self._alive[at]:
            return False
        self._alive[at] = False
        self.held -= 1
        if self.held:  # a file without any is removed whole
            try:
                os.pwrite(self.fd, bytes([_DONE]), self._offsets[at] + _STATE)
            except OSError:
                pass
        return True

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def remove(self) -> None:
        """Close it and give its space back, by emptying it where its directory keeps the name."""
        try:
            self.path.unlink()
        except OSError:
            try:
                os.ftruncate(self.fd, 0)
            except OSError:
                pass
        self.close()

    def _add(self, identity: int, offset: int, length: int, *, held: bool) -> None:
        self._ids.append(identity)
        self._offsets.append(offset)
        self._lengths.append(length)
        self._alive.append(held)
        self.held += held

    def _index(self, data: bytes) -> int:
        """Takes in every whole record of `data`; returns how many stretches between them were none."""
        lost, at = 0, 0
        while 0 <= at < len(data):
            record = _record(data, at)
            if record is not None and record[0] > self.newest():
                identity, state, length = record
                self._add(identity, at, length, held=state == _HELD)
                at += OVERHEAD + length
            else:
                lost += 1
                at = data.find(_MAGIC, at + 1)
                while at >= 0 and _record(data, at) is None:
                    at = data.find(_MAGIC, at + 1)
        self.size = len(data)
        return lost


def read(fd: int, place: Place) -> bytes | None:
    """The payload at `place` of an open file; None where it is not what was written. OSError where the disk does not give it."""
    size = OVERHEAD + place.length
    data = b""
    while len(data) < size and (more := os.pread(fd, size - len(data), place.offset + len(data))):
        data += more
    record = _record(data, 0)
    return data[OVERHEAD:] if record is not None and record[0] == place.identity else None


def _record(data: bytes, at: int) -> tuple[int, int, int] | None:
    """(id, state, length of the payload) of the whole record at `at`; None where none is."""
    if len(data) - at < OVERHEAD:
        return None
    magic, state, identity, length, check = _HEADER.unpack_from(data, at)
    begin = at + OVERHEAD
    if magic != _MAGIC or len(data) - begin < length:
        return None
    return (identity, state, length) if check == _check(identity, data[begin : begin + length]) else None


def _check(identity: int, payload: bytes) -> int:
    return zlib.crc32(payload, identity & 0xFFFFFFFF) ^ (identity >> 32)
