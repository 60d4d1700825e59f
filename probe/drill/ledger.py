"""What a drill is about to break, on disk before it is broken, and crossed out once it is seen to be whole again.

One file per drill under `<state>/drills/`, a line per event (lines.py), each written at once and by one process at a time. A
`will` and what ends it are synced to the disk, file and directory, before the call returns; so whatever is found in place
after a power cut has its undo in here. Room for a drill's lines is set aside when the file is made: a disk that is full refuses
the drill, and one that fills up meanwhile does not keep the undo from being noted.

The runner holds a lock on it for as long as it lives (locks.py), by which anybody sees that it does. Calls wait for the disk:
from a loop, make them in a thread.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from probe.clock import BootClock, SystemClock
from probe.drill import lines
from probe.drill.book import Book, Entry, LedgerRefused, contents, parse, read
from probe.drill.faults.base import Prepared
from probe.drill.locks import ALIVE, APPEND, closed, locked, opened, take, taken
from probe.errors import ConfigError, Located, ProbeError
from probe.model.clock import Clock
from probe.net.redact import Redactor

_log = logging.getLogger(__name__)
FOLDER = "drills"
SUFFIX = ".jsonl"
RECOVER = "probe drill recover"
_ROOM = 256 * 1024  # bytes set aside
_TRIES_END = 1 << 20  # bytes from which on tries are no longer noted one by one: some have been made every few minutes for weeks
_KEPT = 100  # ledgers of drills that ended well
_KEEP_SIZE = 0x01  # FALLOC_FL_KEEP_SIZE


class NotKept(ProbeError):
    """A line could not be written. Nothing may be broken on its word."""


class Ledger:
    """One drill's. Thread-safe."""

    def __init__(self, path: Path, descriptor: int, redactor: Redactor, clock: Clock, boot: BootClock) -> None:
        """Only by `opened` and `joined`."""
        self.path = path
        self._descriptor = descriptor
        self._redactor = redactor
        self._clock, self._boot = clock, boot
        self._mutex = threading.Lock()
        self._entries: dict[int, Entry] = {}
        self._count = 0
        self._ours = False

    @classmethod
    def opened(
        cls,
        directory: Path,
        *,
        drill: str,
        run: str,
        redactor: Redactor | None = None,
        clock: Clock | None = None,
        boot: BootClock | None = None,
    ) -> Self:
        """A new one in `directory` (the drills of a state directory), its lock held from now on. Raises ConfigError, with the
        remedy, where another drill is running from there, something is not put back yet, or a file there is refused; and where
        nothing can be written."""
        boot, clock = boot or BootClock(), clock or SystemClock()
        try:
            _make(directory)
            with _turn(directory):
                _require_free(directory)
                _forget(directory)
                path = directory / f"{run}{SUFFIX}"
                descriptor = opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)
                ledger = cls(path, descriptor, redactor or Redactor(), clock, boot)
                try:
                    ledger._ours = take(descriptor, ALIVE)
                    _set_room_aside(descriptor)
                    ledger._append("opened", {"drill": drill, "run": run, "pid": os.getpid(), **ledger._when()}, synced=True)
                except BaseException:
                    path.unlink()
                    closed(descriptor)
                    raise
                return ledger
        except (OSError, NotKept) as error:
            words = error.strerror if isinstance(error, OSError) else str(error)
            message = f"no ledger can be kept there ({words}), and without one nothing is broken"
            raise ConfigError([Located(str(directory), 0, 0, "--state", message)]) from error

    @classmethod
    def joined(cls, path: Path, *, redactor: Redactor, clock: Clock, boot: BootClock) -> Self:
        """That of another process, to note what is done about it. Raises LedgerRefused, OSError. A torn last line is cut off, and
        noted."""
        book = read(path)
        descriptor = opened(path, os.O_RDWR | os.O_APPEND)
        ledger = cls(path, descriptor, redactor, clock, boot)
        ledger._entries = book.entries
        if book.torn and not book.alive:
            ledger._mend()
        return ledger

    def close(self) -> None:
        """The drill is over, where it is ours or its runner is dead. What is open stays so, for `probe drill recover`."""
        if self._descriptor >= 0:
            try:
                book = self.book()
                if not (book.open or book.closed) and (self._ours or not book.alive):
                    self._append("closed", self._when())
                    os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size)  # gives the room back that was set aside
            except (LedgerRefused, NotKept, OSError):  # it is told by whoever reads it next
                pass
            self.leave()

    def leave(self) -> None:
        """As `close`, without a word."""
        with self._mutex:
            closed(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the runner

    def will(self, fault: str, kind: str, prepared: Prepared, token: str, expires: int) -> int:
        """What is about to be done; on disk when this returns its number. `fault`: its name in the file, `kind`: its row in the
        table, `expires`: CLOCK_BOOTTIME ns. Raises NotKept, and then it must not be done."""
        with self._mutex:
            self._count = number = self._count + 1
        wall = self._clock.wall().unix_ns + expires - self._boot.now()
        entry = Entry.of(number, fault, kind, prepared, token, expires, boot=self._boot.boot(), wall_unix_ns=wall)
        self._append("will", entry.line(), synced=True, secrets=True)
        self._entries[number] = entry
        return number

    def entry(self, number: int) -> Entry:
        """As it was written. KeyError where there is none."""
        return self._entries[number]

    def injected(self, number: int) -> None:
        """It was seen to be there. Raises NotKept."""
        self._append("injected", {"number": number, **self._when()})

    # -- whoever undoes

    def trying(self, number: int, by: str, attempt: int) -> None:
        """A try begins. Raises NotKept."""
        self._append("trying", {"number": number, "by": by, "try": attempt, **self._when()}, needed=False)

    def tried(self, number: int, by: str, attempt: int, why: str) -> None:
        """It did not help. Raises NotKept."""
        self._append("tried", {"number": number, "by": by, "try": attempt, "why": why, **self._when()}, needed=False)

    def undone(self, number: int, state: str, by: str) -> None:
        """It was seen to be gone; on disk when this returns. Raises NotKept."""
        self._append("undone", {"number": number, "state": state, "by": by, **self._when()}, synced=True)

    def not_undone(self, number: int, why: str) -> None:
        """It is given up for now, and stays open. Raises NotKept."""
        self._append("not_undone", {"number": number, "why": why, **self._when()}, synced=True, needed=False)

    # -- everybody

    def book(self) -> Book:
        """What it says now, others' lines too. Raises LedgerRefused, FileNotFoundError."""
        return read(self.path)

    def runner_lives(self) -> bool:
        """Of a ledger that was joined."""
        return taken(self._descriptor, ALIVE)

    def _when(self) -> dict[str, Any]:
        return {"boottime": self._boot.now(), "boot": self._boot.boot(), "wall_unix_ns": self._clock.wall().unix_ns}

    def _append(
        self, event: str, values: Mapping[str, Any], *, synced: bool = False, secrets: bool = False, needed: bool = True
    ) -> None:
        clean = {key: self._redactor.redact(value) if isinstance(value, str) else value for key, value in values.items()}
        try:
            line = lines.encode(event, clean)
        except (TypeError, ValueError) as error:
            raise NotKept(f"{self.path}: the record of {values.get('fault', event)} cannot be kept: {error}") from error
        if secrets and self._redactor.redact(line.decode()) != line.decode():
            raise NotKept(f"{self.path}: the record of {values['fault']} has a secret in it; name it by reference")
        with self._mutex:
            try:
                self._write(line, synced, needed)
            except OSError as error:
                raise NotKept(f"{self.path}: {error.strerror or error}") from error
            except LedgerRefused as error:
                raise NotKept(str(error)) from error

    def _write(self, line: bytes, synced: bool, needed: bool) -> None:
        if self._descriptor < 0:
            raise OSError(errno.EBADF, "it is closed")
        with locked(self._descriptor, APPEND):
            size = os.fstat(self._descriptor).st_size
            if not needed and size > _TRIES_END:
                return
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":  # another was killed while it wrote
                size = self._cut()
            if os.write(self._descriptor, line) != len(line):
                os.ftruncate(self._descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if synced:
                os.fsync(self._descriptor)
                _sync(self.path.parent)

    def _mend(self) -> None:
        with self._mutex, locked(self._descriptor, APPEND):
            self._cut()

    def _cut(self) -> int:
        """Take a torn end off, or end a last line that lacks nothing but its newline; the size then. Another may have done so."""
        data = contents(self._descriptor)
        book = parse(self.path, data)
        if book.torn:
            os.ftruncate(self._descriptor, book.sound)
            os.write(self._descriptor, lines.encode("torn", {"bytes": book.torn, **self._when()}))
        elif data and not data.endswith(b"\n"):
            os.write(self._descriptor, b"\n")
        return os.fstat(self._descriptor).st_size


def ledgers(directory: Path) -> list[Path]:
    """Oldest first, as far as their ids say."""
    return sorted(path for path in directory.glob(f"*{SUFFIX}") if not path.name.startswith("."))


def books(directory: Path) -> Iterator[tuple[Path, Book | LedgerRefused]]:
    """What each of them says, or why it is refused."""
    for path in ledgers(directory):
        try:
            yield path, read(path)
        except FileNotFoundError:  # forgotten meanwhile
            continue
        except LedgerRefused as error:
            yield path, error


def _require_free(directory: Path) -> None:
    """Raises ConfigError where a drill is under way, or left something behind."""
    mistakes: list[Located] = []
    for path, book in books(directory):
        if isinstance(book, LedgerRefused):
            mistakes += book.mistakes
        elif book.alive:
            words = f"drill {book.drill} is running from here (process {book.pid}); wait for its end, or give this one --state"
            mistakes.append(Located(str(path), 0, 0, "", words))
        elif book.open:
            mistakes.append(Located(str(path), 0, 0, "", f"{_left(book.open)}: {RECOVER} --state {directory.parent}"))
        elif book.torn:
            _log.warning("%s: its last line was not written to its end: what it was to announce had not begun", path)
    if mistakes:
        raise ConfigError(mistakes)


def _left(entries: Sequence[Entry]) -> str:
    names = ", ".join(f"{entry.fault} ({', '.join(entry.targets)})" for entry in entries)
    return f"a drill that was killed left {names} to be put back"


def _forget(directory: Path) -> None:
    """The oldest of those that ended well, beyond `_KEPT`; they were all read just now."""
    for path in ledgers(directory)[:-_KEPT]:
        path.unlink(missing_ok=True)
        log_of(path).unlink(missing_ok=True)


def log_of(path: Path) -> Path:
    """Where the watchdog of that ledger says what it did."""
    return path.with_suffix(".watchdog.log")


@contextmanager
def _turn(directory: Path) -> Iterator[None]:
    """Two that begin at once look one after the other."""
    descriptor = opened(directory / ".turn", os.O_RDWR | os.O_CREAT)
    try:
        with locked(descriptor, ALIVE, most=10.0):
            yield
    finally:
        closed(descriptor)


def _make(directory: Path) -> None:
    """It and all above it that is missing, on disk, this user's alone."""
    missing = [directory, *directory.parents]
    missing = missing[: next((n for n, one in enumerate(missing) if one.is_dir()), len(missing))]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        _sync(one.parent)
    if missing == []:
        os.chmod(directory, 0o700)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set_room_aside(descriptor: int) -> None:
    """Blocks behind the end of the file, which stays where it is: fallocate(2). Raises OSError where the disk is full; a file
    system that knows nothing of it does without."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(descriptor, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(_ROOM)):
        number = ctypes.get_errno()
        if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
