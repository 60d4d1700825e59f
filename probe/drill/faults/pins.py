"""A process of this machine, pinned: its id and the clock tick it was started at (proc_pid_stat(5), field 22).

The kernel gives ids anew; a record that outlives its process would then name a stranger. So an id alone is never signalled: a
pidfd (pidfd_open(2), Linux 5.3) is opened, the start is compared through /proc while the descriptor holds the process, and the
signal goes to the descriptor. Ticks count from the start of the machine, so a record carries the boot id beside its pins and
`here` says whether they still mean anything.

Not done: other PID namespaces. What is seen is what this process's /proc shows.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from probe.clock import boot_id

_TICKS = os.sysconf("SC_CLK_TCK")
_KERNEL_THREAD, _EXITING = 0x00200000, 0x4  # PF_KTHREAD, PF_EXITING
_MOST = 128 * 1024  # bytes of a command line, Linux's own bound of one argument
TICK = 10**9 // _TICKS  # ns
_NO_NAME = re.compile(r"[^\w.@:+-]", re.ASCII)  # a process names itself as it likes
ENDED = frozenset("ZXx")  # nobody has collected it yet, or is about to
STOPPED = "T"  # by a signal; `t`: by a debugger


@dataclass(frozen=True, slots=True)
class Pin:
    pid: int
    start: int  # clock ticks since the machine started
    name: str

    def __str__(self) -> str:
        return f"{_NO_NAME.sub('_', self.name)}/{self.pid}"

    def json(self) -> dict[str, Any]:
        return asdict(self)

    def started(self) -> int:
        """CLOCK_BOOTTIME ns, to a tick (10 ms)."""
        return self.start * 10**9 // _TICKS


@dataclass(frozen=True, slots=True)
class Seen:
    """A process as it is now. `exiting`: it runs nothing of its own any more. `ticks`: of CPU time, its own and the kernel's for
    it."""

    pin: Pin
    state: str
    parent: int
    kernel: bool
    exiting: bool
    ticks: int

    @property
    def alive(self) -> bool:
        return self.state not in ENDED

    def cpu(self) -> float:
        """Seconds."""
        return self.ticks / _TICKS


def here(record: Mapping[str, Any]) -> bool:
    """Whether the machine has run on since the pins were made."""
    return bool(record["boot"] == boot_id())


def read(record: Mapping[str, Any]) -> list[Pin]:
    return [Pin(pid=int(one["pid"]), start=int(one["start"]), name=str(one["name"])) for one in record["pins"]]


def written(pins: Sequence[Pin]) -> dict[str, Any]:
    """What `here` and `read` read."""
    return {"boot": boot_id(), "pins": [pin.json() for pin in pins]}


def look(pid: int) -> Seen | None:
    """None where there is none. OSError where it cannot be seen."""
    text = _contents(pid, "stat", 4096)
    if text is None:
        try:
            os.kill(pid, 0)  # asks only; PermissionError: it is there, and /proc hides it (hidepid)
        except ProcessLookupError:
            pass
        return None
    name, _, rest = text.partition(b"(")[2].rpartition(b")")  # a name may hold either
    field = rest.split()
    return Seen(
        Pin(pid, int(field[19]), name.decode(errors="replace")),
        field[0].decode(),
        int(field[1]),
        bool(int(field[6]) & _KERNEL_THREAD),
        bool(int(field[6]) & _EXITING),
        int(field[11]) + int(field[12]),
    )


def seen(pin: Pin) -> Seen | None:
    """As `look`; None also where the id is another's by now, or only its exit code is left."""
    found = look(pin.pid)
    return found if found is not None and found.pin.start == pin.start and found.alive else None


def everyone(such: Callable[[list[str]], bool] = lambda _: True) -> Iterator[Seen]:
    """Every process that can be seen and has `such` a command line; those that end meanwhile are left out."""
    for entry in os.listdir("/proc"):
        if entry.isascii() and entry.isdecimal() and such(arguments(int(entry))) and (found := look(int(entry))) is not None:
            yield found


def status(pid: int) -> dict[str, str]:
    """Fields of proc_pid_status(5); empty where there is none."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}
    except (FileNotFoundError, ProcessLookupError):
        return {}


def pending(pin: Pin, number: int) -> bool:
    """Whether a signal was sent to it and has not come to it yet: it sleeps in the kernel, or has had no turn."""
    found, bit = status(pin.pid), 1 << (number - 1)
    return any(int(found.get(field, "0"), 16) & bit for field in ("SigPnd", "ShdPnd"))


def arguments(pid: int) -> list[str]:
    """Its command line; empty where it has none, or has gone."""
    raw = _contents(pid, "cmdline", _MOST)
    return [part.decode(errors="replace") for part in raw.rstrip(b"\0").split(b"\0")] if raw else []


def _contents(pid: int, name: str, most: int) -> bytes | None:
    """Of a file of a process; None where it has gone. Read as it is: a look at a host reads thousands."""
    try:
        file = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(file, most)
        finally:
            os.close(file)
    except (FileNotFoundError, ProcessLookupError):
        return None


def ancestors(pid: int) -> set[int]:
    """Of a process, itself among them."""
    found: set[int] = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        above = look(pid)
        pid = above.parent if above is not None else 0
    return found


def hold(pin: Pin) -> int | None:
    """A pidfd of exactly this process, the caller's to close; None where it has gone."""
    try:
        held = os.pidfd_open(pin.pid)
    except ProcessLookupError:
        return None
    # What /proc shows now is what the descriptor holds, or an older one has ended and the signal goes nowhere.
    if seen(pin) is None:
        os.close(held)
        return None
    return held


def send(pin: Pin, number: int) -> bool:
    """A signal to this process and no other; False where it has gone. PermissionError as kill(2)."""
    held = hold(pin)
    if held is None:
        return False
    try:
        signal.pidfd_send_signal(held, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(held)


async def ended(pins: Sequence[Pin], seconds: float) -> bool:
    """Whether all of them end within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            for pin in pins:
                await _end(pin)
        return True
    except TimeoutError:
        return False


async def _end(pin: Pin) -> None:
    held = hold(pin)
    if held is None:
        return
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(held, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(held)
        os.close(held)
