"""Who may do what with a ledger, kept by the kernel: locks on single bytes of the file itself, far behind any it has.

Open file description locks (fcntl(2)): they end with the process that holds them, however it ends; they tell two openings of
one file apart, in one process too; and one can be asked for without being taken. In the file itself, so that nothing beside it
can be lost or swept away (as SQLite does it).

A child that only forked would keep them for as long as it lives: descriptors opened here are closed in it.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_FIRST = 1 << 40  # no ledger is so long
ALIVE = _FIRST  # the runner's, for as long as it lives
APPEND = _FIRST + 1  # while a line is written, or the file is read
_UNDO = _FIRST + 16
_FLOCK = struct.Struct("hhqqi4x")  # struct flock, as 64-bit systems and 32-bit ones with large files have it
_LOOK = 0.005  # s between two tries

_held: set[int] = set()


def undoing(number: int) -> int:
    """The byte of who puts entry `number` back."""
    return _UNDO + number


def opened(path: str | os.PathLike[str], flags: int, mode: int = 0o600) -> int:
    """A descriptor of a file that is no link, for locks; give it back with `closed`. Raises OSError."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
    _held.add(descriptor)
    return descriptor


def closed(descriptor: int) -> None:
    """All its locks are free."""
    if descriptor in _held:
        _held.discard(descriptor)
        os.close(descriptor)


def take(descriptor: int, byte: int, *, shared: bool = False) -> bool:
    """At once or not at all."""
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, by the man page
        return False
    return True


def free(descriptor: int, byte: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, byte, 1, 0))


def taken(descriptor: int, byte: int) -> bool:
    """Whether another opening of the file has it."""
    asked = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
    return bool(_FLOCK.unpack(asked[: _FLOCK.size])[0] != fcntl.F_UNLCK)


@contextmanager
def locked(descriptor: int, byte: int, *, shared: bool = False, most: float = 1.0) -> Iterator[bool]:
    """While the block lasts; waits `most` seconds for it, and goes on without it then: whoever was stopped (SIGSTOP) with it in
    hand must not keep anybody from undoing. Yields whether it is ours."""
    ours = _patient(lambda: take(descriptor, byte, shared=shared), most)
    try:
        yield ours
    finally:
        if ours:
            free(descriptor, byte)


def _patient(attempt: Callable[[], bool], most: float) -> bool:
    for _ in range(int(most / _LOOK)):
        if attempt():
            return True
        time.sleep(_LOOK)
    return attempt()


def _forked() -> None:
    for descriptor in list(_held):
        closed(descriptor)


os.register_at_fork(after_in_child=_forked)
