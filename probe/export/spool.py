"""A bounded queue on disk: what waits for somebody who is away.

Telemetry waits here for its collector, records for their database. `put` writes before it returns, so what it took survives the
process; a power cut may take the last second, since files are synced by a thread of their own, at most once a second: a sync
may last as long as the disk likes, and a measurement must not wait for it. Where the disk refuses, a few MiB wait in memory and
are written once it takes them. At the limit the oldest go first, a file at a time. Nothing leaves uncounted:

    put + recovered = done + dropped (by why) + held

Whoever takes items out says so with `done` only once they are safe elsewhere; so an item may be delivered twice (a kill between
the two), never zero times unless it is counted as dropped. A hung disk (a network mount that is gone) hangs `put`: the queue
belongs on a local one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from probe.errors import ProbeError
from probe.export.spool_segment import OVERHEAD, Place, Segment, read

_log = logging.getLogger(__name__)
_MEMORY = 4 << 20
_SEGMENT = 4 << 20
_SEGMENTS = 16
_SYNC_SECONDS = 1.0
LOST = ("full", "disk", "too_large", "torn", "damaged")
_SUFFIX = ".spool"
_NAME = re.compile(r"[0-9a-f]{16}\.spool")


class SpoolInUse(ProbeError):
    """Another process (or another object of this one) has this spool."""


class Item(NamedTuple):
    """`id` grows with every item of a spool, and stays the same over restarts."""

    id: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Counts:
    """Since this object was made; always put + recovered = done + the sum of dropped + held.

    Dropped by why: full (the limit; the oldest), disk (it refused, and memory is full or ends), too_large, torn (half a record
    met at the start), damaged (a record that has changed on disk), and whatever `drop` was told."""

    put: int
    recovered: int
    done: int
    dropped: Mapping[str, int]
    held: int


class Spool:
    """Payloads in order in `directory`/`name`, at most `limit` bytes of disk. Thread-safe. Opening reads all that is there, so
    make it in a thread. Raises SpoolInUse; a directory that cannot be used is no error, but everything waits in memory then."""

    def __init__(self, directory: Path, limit: int, *, name: str) -> None:
        self.name = name
        self._home = directory / name
        self._limit = limit
        self._roll = min(_SEGMENT, max(limit // _SEGMENTS, 4096))
        self._room = min(_MEMORY, limit)
        self._lock = threading.RLock()
        self._segments: deque[Segment] = deque()
        self._memory: deque[Item] = deque()
        self._in_memory = 0
        self._next = 1
        self._put = self._recovered = self._done = 0
        self._dropped: Counter[str] = Counter()
        self._closed = False
        self._unsynced: set[Segment] = set()
        self._dirty, self._stop = threading.Event(), threading.Event()
        self._problem = ""
        self._locked = -1
        try:
            self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            self._trouble(error)
        self._take()
        try:
            self._recover()
        except BaseException:
            self._let_go()
            raise
        self._syncer = threading.Thread(target=self._sync_now_and_then, name=f"spool-{name}", daemon=True)
        self._syncer.start()

    def put(self, payload: bytes) -> bool:
        """Add one; returns whether it was taken. Never raises, never waits for a sync."""
        with self._lock:
            self._put += 1
            if self._closed or OVERHEAD + len(payload) > self._limit:
                self._drop("disk" if self._closed else "too_large")
                return False
            item = Item(self._next, payload)
            self._next += 1
            self._write_memory()
            if self._memory or not self._write(item):
                return self._remember(item)
            return True

    def missed(self, why: str, count: int = 1) -> None:
        """Items that never got here, for a reason of the caller's: counted as put and dropped."""
        with self._lock:
            self._put += count
            self._drop(why, count)

    def peek(self, count: int, size: int = 1 << 20) -> list[Item]:
        """The oldest items, at most `count` of them and about `size` bytes, at least one where there is one. They stay."""
        found: list[Item] = []
        left = size
        for fd, places in self._places(count, size):
            for place in places:
                if (item := self._read(fd, place)) is not None:
                    found.append(item)
                    left -= len(item.payload)
                else:
                    self.drop([place.identity], "damaged")
            os.close(fd)
        with self._lock:
            for item in self._memory:
                if len(found) >= count or (found and len(item.payload) > left):
                    break
                if not found or item.id > found[-1].id:  # else it was written to disk since
                    found.append(item)
                    left -= len(item.payload)
        return found

    def done(self, ids: Iterable[int]) -> int:
        """These are safe elsewhere. Returns how many were still held: the others had been dropped, and counted so."""
        with self._lock:
            gone = self._forget(ids)
            self._done += gone
            self._write_memory()
            return gone

    def drop(self, ids: Iterable[int], why: str) -> int:
        """These nobody wants; `why` is a word of a closed list of the caller's. Returns how many were still held."""
        with self._lock:
            gone = self._forget(ids)
            self._drop(why, gone)
            return gone

    @property
    def bytes(self) -> int:
        """What it takes of the disk, and of memory where the disk refuses."""
        with self._lock:
            return self._on_disk() + self._in_memory

    @property
    def count(self) -> int:
        """Items held."""
        with self._lock:
            return sum(segment.held for segment in self._segments) + len(self._memory)

    @property
    def dropped(self) -> int:
        """Items lost, whatever the reason."""
        with self._lock:
            return self._dropped.total()

    @property
    def problem(self) -> str:
        """What the disk said when it last refused; empty while it takes everything."""
        return self._problem

    def counts(self) -> Counts:
        """All figures at one instant."""
        with self._lock:
            return Counts(self._put, self._recovered, self._done, dict(self._dropped), self.count)

    def close(self) -> None:
        """Everything that can be on disk is, and synced. What only memory holds is lost now, and counted."""
        self._stop.set()
        self._dirty.set()
        self._syncer.join()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._write_memory()
            self._drop("disk", len(self._memory))
            self._memory.clear()
            self._in_memory = 0
        self._sync()
        self._let_go()

    # -- on disk

    def _take(self) -> None:
        try:
            self._locked = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._let_go()
            raise SpoolInUse(f"{self._home} is in use by another process; give each agent a state directory of its own") from None
        except OSError as error:
            self._trouble(error)

    def _let_go(self) -> None:
        for segment in self._segments:
            segment.close()
        if self._locked >= 0:
            os.close(self._locked)
            self._locked = -1

    def _recover(self) -> None:
        try:
            paths = sorted(path for path in self._home.iterdir() if _NAME.fullmatch(path.name))
        except OSError as error:
            self._trouble(error)
            return
        for path in paths:
            self._next = max(self._next, int(path.stem, 16) + 1)  # its name is taken, whatever is in it
            try:
                segment, torn = Segment.opened(path)
            except OSError as error:
                self._trouble(error)
                continue
            self._recovered += segment.held + torn
            self._drop("torn", torn)
            self._next = max(self._next, segment.newest() + 1)
            if segment.held:
                self._segments.append(segment)
            else:
                segment.remove()
        if self._dropped["torn"]:
            _log.warning("spool %s: %d records were torn by whatever ended the last process", self.name, self._dropped["torn"])

    def _write(self, item: Item) -> bool:
        """Whether the disk took it."""
        need = OVERHEAD + len(item.payload)
        while self._segments and self._on_disk() + need > self._limit:
            self._lose_oldest()
        try:
            segment = self._segments[-1] if self._segments else None
            if segment is None or segment.full or segment.size + need > self._roll:
                segment = Segment.created(self._home / f"{item.id:016x}{_SUFFIX}")
                self._segments.append(segment)
            segment.append(item.id, item.payload)
        except OSError as error:
            self._trouble(error)
            if self._segments and not self._segments[-1].held:
                self._segments.pop().remove()
            return False
        if self._problem:
            _log.info("spool %s: the disk takes data again", self.name)
            self._problem = ""
        self._unsynced.add(segment)
        self._dirty.set()
        return True

    def _lose_oldest(self) -> None:
        segment = self._segments.popleft()
        self._drop("full", segment.held)
        self._unsynced.discard(segment)
        segment.remove()

    def _on_disk(self) -> int:
        return sum(segment.size for segment in self._segments)

    def _places(self, count: int, size: int) -> list[tuple[int, list[Place]]]:
        """Where to read, by file, with a descriptor that is the reader's own: a file may be dropped while it is read."""
        found: list[tuple[int, list[Place]]] = []
        with self._lock:
            for segment in () if self._closed else self._segments:
                places = segment.oldest(count)
                for number, place in enumerate(places):
                    if (found or number) and place.length > size:
                        places, count = places[:number], 0
                        break
                    size -= place.length
                if places and (fd := self._dup(segment.fd)) is not None:
                    found.append((fd, places))
                count -= len(places)
                if count <= 0:
                    break
        return found

    def _read(self, fd: int, place: Place) -> Item | None:
        try:
            payload = read(fd, place)
        except OSError as error:
            self._trouble(error)
            return None
        return None if payload is None else Item(place.identity, payload)

    def _dup(self, fd: int) -> int | None:
        try:
            return os.dup(fd)
        except OSError as error:  # no descriptor is left; the next time there may be one
            self._trouble(error)
            return None

    # -- in memory, while the disk refuses

    def _remember(self, item: Item) -> bool:
        if len(item.payload) > self._room:
            self._drop("disk")
            return False
        self._memory.append(item)
        self._in_memory += len(item.payload)
        while self._in_memory > self._room:
            self._in_memory -= len(self._memory.popleft().payload)
            self._drop("disk")
        return True

    def _write_memory(self) -> None:
        while self._memory and self._write(self._memory[0]):
            self._in_memory -= len(self._memory.popleft().payload)

    # -- counting

    def _forget(self, ids: Iterable[int]) -> int:
        wanted = set(ids)
        gone = 0
        for segment in list(self._segments):
            for identity in [i for i in wanted if i <= segment.newest()]:
                wanted.discard(identity)
                gone += segment.forget(identity)
            if not segment.held:
                self._segments.remove(segment)
                self._unsynced.discard(segment)
                segment.remove()
            if not wanted:
                break
        kept = deque(item for item in self._memory if item.id not in wanted)
        gone += len(self._memory) - len(kept)
        self._memory, self._in_memory = kept, sum(len(item.payload) for item in kept)
        return gone

    def _drop(self, why: str, count: int = 1) -> None:
        if count:
            self._dropped[why] += count

    def _trouble(self, error: OSError) -> None:
        problem = error.strerror or str(error)
        if problem != self._problem:
            _log.warning("spool %s: the disk refuses: %s (%s)", self.name, problem, self._home)
        self._problem = problem

    # -- syncing

    def _sync_now_and_then(self) -> None:
        while not self._stop.is_set():
            self._dirty.wait()
            self._dirty.clear()
            self._sync()
            self._stop.wait(_SYNC_SECONDS)

    def _sync(self) -> None:
        """Outside the lock: it lasts as long as the disk likes."""
        with self._lock:
            unsynced, self._unsynced = self._unsynced, set()
            # The directory too: a new file's name.
            wanted = [*(segment.fd for segment in unsynced), self._locked] if unsynced else []
            fds = [self._dup(fd) for fd in wanted if fd >= 0]
        for fd in fds:
            if fd is None:
                continue
            try:
                os.fsync(fd)
            except OSError as error:
                self._trouble(error)
            finally:
                os.close(fd)
