"""Memory that is held for nothing, let go: an agent waits most of its life, and it and its workers are several processes.

glibc gives each thread an arena of its own, and keeps what was freed in the middle of one: an agent has a dozen threads that
judge, write and read in turn under one lock anyway. A process that has warmed up and then only forks needs none of the code it
warmed up with: the pages of a program's files that nobody changed are the page cache's, and whoever is forked maps what it runs
anew (fork copies no such page). Measured: agent, forkserver and two warm workers 20 MiB smaller.

Not chosen: another allocator, which every library would have to be proven with; `-OO`, which takes 8 MiB of docstrings away and
every assertion with them.
"""

from __future__ import annotations

import ctypes
import linecache
from contextlib import suppress

_M_ARENA_MAX = -8
_MADV_DONTNEED = 4


def one_arena() -> None:
    """All threads of this process share one from now on."""
    with suppress(AttributeError):  # glibc's alone
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def trim() -> None:
    """What is free goes back. A few ms; for a thread."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def forget_files() -> None:
    """Unmap every page of a file that is nobody's but the page cache's: of mappings that are not writable and in which not one
    page was ever changed (relocations are changes). Who comes back to one finds it there."""
    linecache.clearcache()  # source texts that making dataclasses left behind
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    with suppress(OSError):
        for begin, end in _clean():
            madvise(begin, end - begin, _MADV_DONTNEED)


def _clean() -> list[tuple[int, int]]:
    """Addresses of such mappings, by proc(5)'s smaps."""
    found = []
    place: tuple[int, int] | None = None
    with open("/proc/self/smaps", encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split(None, 5)
            if words[0] == "Anonymous:":
                if place is not None and words[1] == "0":
                    found.append(place)
                place = None
            elif not words[0].endswith(":"):
                begin, _, end = words[0].partition("-")
                of_a_file = len(words) == 6 and words[5].startswith("/") and words[1].startswith("r-")
                place = (int(begin, 16), int(end, 16)) if of_a_file and words[1].endswith("p") else None
    return found
