"""The two clocks. IO folders import this; pure folders take `now` as an argument.

SystemClock anchors wall time once, at construction, and derives every later wall time from the monotonic counter, so
that a stepped system clock moves no measurement. The kernel's own estimate of its error (`ntp_adjtime`) is taken where
the kernel says it is synchronised; elsewhere the error is unknown and says so.

BootClock is for what must end at its time though the process that began it is dead, the system clock was set or the machine
slept: CLOCK_BOOTTIME (clock_gettime(2)) is one count for all processes of a boot, and the boot's id (random(4)) says which.
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from probe.model.clock import Wall

_STA_UNSYNC = 0x0040


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def kernel_clock_error_ns() -> int | None:
    """The kernel's bound on its clock's error in ns, or None where it is not synchronised or cannot say."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        timex = _Timex()
        if libc.ntp_adjtime(ctypes.byref(timex)) < 0 or timex.status & _STA_UNSYNC:
            return None
        return int(timex.maxerror) * 1000
    except (OSError, AttributeError):
        return None


class SystemClock:
    """The machine's clock. Make one per process and hand it round."""

    def __init__(self) -> None:
        self.anchor()

    def anchor(self) -> None:
        """Take the system clock's word anew. For a process that lives for months and measures nothing itself."""
        # Read between two monotonic reads; the tightest of a few is kept.
        best = None
        for _ in range(5):
            before = time.monotonic_ns()
            unix = self.system()
            after = time.monotonic_ns()
            if best is None or after - before < best[0]:
                best = (after - before, unix - (before + after) // 2)
        assert best is not None
        self._offset = best[1]
        self._error = kernel_clock_error_ns()

    def now(self) -> int:
        return time.monotonic_ns()

    def wall(self, at: int | None = None) -> Wall:
        return Wall((time.monotonic_ns() if at is None else at) + self._offset, self._error)

    def stepped_ns(self) -> int:
        """How far the system clock has moved from the anchor since start, in ns (0 where it was never stepped)."""
        return self.system() - self.wall().unix_ns

    def system(self) -> int:
        """Unix ns by the system's clock as it is now, steps and all: for calendars, never for measuring."""
        return time.time_ns()


def boottime() -> int:
    """CLOCK_BOOTTIME in ns: no clock step moves it, and it goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Which boot it counts from; empty where the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


class BootClock:
    """Time since this machine started, the same in every process of it."""

    def now(self) -> int:
        return boottime()

    def boot(self) -> str:
        return boot_id()


class TestBootClock(BootClock):
    """Moved by hand, through a restart too."""

    __test__ = False

    def __init__(self, now: int = 0, boot: str = "boot-1") -> None:
        self._now, self._boot = now, boot

    def now(self) -> int:
        return self._now

    def boot(self) -> str:
        return self._boot

    def advance(self, ns: int) -> None:
        self._now += ns

    def restart(self, boot: str = "boot-2") -> None:
        self._now, self._boot = 0, boot


class TestClock:
    """A clock moved by hand."""

    __test__ = False

    def __init__(self, now: int = 0, unix_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now = now
        self._offset = unix_ns - now

    def now(self) -> int:
        return self._now

    def wall(self, at: int | None = None) -> Wall:
        return Wall((self._now if at is None else at) + self._offset, 0)

    def advance(self, ns: int) -> None:
        if ns < 0:
            raise ValueError("a monotonic clock does not go back")
        self._now += ns
