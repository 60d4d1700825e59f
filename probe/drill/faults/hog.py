"""A program of its own: takes CPU, memory or open files until a moment of CLOCK_BOOTTIME, and ends by itself whoever is dead.

Run as `python -I -S hog.py --sp-token=sp-<token> <order>`; it imports nothing of ours, so that what it takes is what it was told
to take. Its processes go into the background; who started it learns that all was taken, or why not, and from then on they read
nothing and wait for nobody. Three things end each of them at its time, none needing the others: its own loop, the kernel's alarm
(ITIMER_REAL, which nobody handles), and a limit on its CPU time. It asks the kernel to be killed first when memory is short
(oom_score_adj 1000).

Not relied upon: PR_SET_PDEATHSIG, which would end the fault with whoever began it, and not at its time.
"""

from __future__ import annotations

import ctypes
import json
import math
import mmap
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

PIECE = 32 << 20  # bytes of memory taken at once
_PERIOD = 0.05  # s of a burner's turn, and between two looks at what is left
_PR_SET_NAME = 15


def main() -> NoReturn:
    token, order = sys.argv[1].partition("=")[2], json.loads(sys.argv[2])
    ours, theirs = os.pipe()
    for mine in range(order["processes"]):
        if os.fork() == 0:
            os.close(ours)
            _detached(order, token, mine, theirs)
    os.close(theirs)
    with open(ours) as said:
        words = said.read().split("\n")[:-1]
    bad = [one for one in words if one] or ["it ended"] * (len(words) < order["processes"])
    os.write(1, bad[0].encode() if bad else b"")
    os._exit(1 if bad else 0)


def _detached(order: Mapping[str, Any], token: str, mine: int, to: int) -> NoReturn:
    """`mine`: which of the processes this is, from 0; `to`: where it says one line, empty when it has taken all."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(null, standard)
        os.closerange(3, to)  # whatever else was left open to us: who waits for its end would wait for ours
        os.closerange(to + 1, os.sysconf("SC_OPEN_MAX"))
        os.setsid()
        _settle(order, token)
        match order["kind"]:
            case "cpu":
                _burn(order, to)
            case "memory":
                _hold_memory(order, to)
            case _:
                _hold_files(order, mine, to)
    except (OSError, MemoryError) as error:
        _say(to, getattr(error, "strerror", None) or "no memory")
    finally:
        os._exit(1)


def _settle(order: Mapping[str, Any], token: str) -> None:
    left = _left(order)
    if left <= 0:
        raise TimeoutError(0, "its time is over")
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, left)
    most = math.ceil(left) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    ctypes.CDLL(None).prctl(_PR_SET_NAME, token.encode(), 0, 0, 0)
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    if order["cgroup"]:
        with open(os.path.join(order["cgroup"], "cgroup.procs"), "w") as file:
            file.write(str(os.getpid()))


def _burn(order: Mapping[str, Any], to: int) -> None:
    os.nice(order["nice"])
    _say(to)
    while _left(order) > 0:
        turn, used = _now(), time.thread_time()
        while time.thread_time() - used < order["share"] * _PERIOD and _now() - turn < _PERIOD:
            sum(range(2000))
        time.sleep(max(0.0, _PERIOD - (_now() - turn)))


def _hold_memory(order: Mapping[str, Any], to: int) -> None:
    held: list[mmap.mmap] = []
    flags, said = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE, False
    while _left(order) > 0:
        room, short = _room(order["cgroup"]) - order["leave"], order["size"] - sum(map(len, held))
        if room < 0 and held:  # others want it: it is theirs
            held.pop().close()
            continue
        if short > 0 and room > min(PIECE, short):
            held.append(mmap.mmap(-1, min(PIECE, short), flags=flags))
            continue
        if not said:
            said = True
            _say(to, f"all but {short >> 20} MiB could be taken without leaving too little" if short > 0 else "")
        time.sleep(_PERIOD)


def _hold_files(order: Mapping[str, Any], mine: int, to: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    each = order["each"]
    for _ in range(min(each, order["count"] - mine * each)):
        os.open("/dev/null", os.O_RDONLY)  # given back by the process's end
    _say(to)
    while _left(order) > 0:
        time.sleep(_PERIOD)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _left(order: Mapping[str, Any]) -> float:
    """Seconds."""
    return float(order["expires"]) / 1e9 - _now()


def _room(cgroup: str) -> int:
    """Bytes that can be had: of the machine, and of each control group above."""
    with open("/proc/meminfo") as file:
        room = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    while cgroup and os.path.exists(os.path.join(cgroup, "memory.max")):
        with open(os.path.join(cgroup, "memory.max")) as most, open(os.path.join(cgroup, "memory.current")) as now:
            limit = most.read().strip()
            room = room if limit == "max" else min(room, int(limit) - int(now.read()))
        cgroup = os.path.dirname(cgroup)
    return room


def _say(to: int, words: str = "") -> None:
    try:
        os.write(to, f"{words}\n".encode())
        os.close(to)
    except OSError:
        pass  # whoever asked is gone


if __name__ == "__main__":
    main()
