"""The host's clock, moved by a step: adjtimex(2) with ADJ_SETOFFSET, which adds to CLOCK_REALTIME in one indivisible act.

Never set to a time of day: a process that was held up between reading and setting would set it wrong. What a step moves is
CLOCK_REALTIME against CLOCK_BOOTTIME, and by their difference it is seen later, from whichever process.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Protocol

from probe.clock import boot_id, boottime, kernel_clock_error_ns
from probe.drill.faults import pins
from probe.model.clock import NS

_ADJ_SETOFFSET, _ADJ_NANO = 0x0100, 0x2000
_CAP_SYS_TIME = 1 << 25
_KEEPERS = frozenset({"chronyd", "ntpd", "openntpd", "systemd-timesyn", "ptp4l", "phc2sys", "timesyncd"})


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("unused", ctypes.c_long * 4),  # offset, freq, maxerror, esterror
        ("status", ctypes.c_int),
        ("unused2", ctypes.c_long * 3),  # constant, precision, tolerance
        ("sec", ctypes.c_long),
        ("nsec", ctypes.c_long),
        ("rest", ctypes.c_byte * 256),
    )


class HostClock(Protocol):
    """What a step needs; tests put another in its place."""

    def offset(self) -> int:
        """ns by which CLOCK_REALTIME is ahead of CLOCK_BOOTTIME."""
        ...

    def boottime(self) -> int: ...

    def boot(self) -> str: ...

    def step(self, ns: int) -> None:
        """Raises OSError."""
        ...

    def forbidden(self) -> str:
        """Why this process may not; empty where it may."""
        ...

    def keeper(self) -> str:
        """Who keeps it right and would work against a step; empty where nobody is seen to."""
        ...


class SystemHostClock:
    def offset(self) -> int:
        best: tuple[int, int] | None = None
        for _ in range(5):  # read between two reads of the other; the tightest is kept
            before = boottime()
            real = time.clock_gettime_ns(time.CLOCK_REALTIME)
            after = boottime()
            if best is None or after - before < best[0]:
                best = after - before, real - (before + after) // 2
        assert best is not None
        return best[1]

    def boottime(self) -> int:
        return boottime()

    def boot(self) -> str:
        return boot_id()

    def step(self, ns: int) -> None:
        seconds, rest = divmod(ns, NS)  # the kernel wants the ns positive, of a negative step too
        change = _Timex(modes=_ADJ_SETOFFSET | _ADJ_NANO, sec=seconds, nsec=rest)
        if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(change)) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def forbidden(self) -> str:
        able = int(pins.status(os.getpid()).get("CapEff", "0"), 16) & _CAP_SYS_TIME
        return "" if able else "this process may not set the clock (CAP_SYS_TIME); run as root"

    def keeper(self) -> str:
        names = sorted({one.pin.name for one in pins.everyone()} & _KEEPERS)
        if names:
            return " and ".join(names)
        return "the kernel, which says it is synchronised" if kernel_clock_error_ns() is not None else ""
