"""A host or a target short of something: CPU, memory, open files, or the descriptors one process may have.

The first three are taken by processes of ours that end by themselves at the drill's expiry (`hog`), whoever is dead by then, and
that never take the last: so much memory is left, so many entries of the table of files. They may be put into a target's control
group (cgroup v2), so that they compete with it and with nobody else. The fourth is the target's own limit, lowered and set again
(`limits`).

Not done: control groups of version 1; the load of a disk or of a network card.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import psutil
from pydantic import Field, model_validator

from probe.drill.faults import hogs, limits
from probe.drill.faults.base import Command, FaultIO, Klass, Observed, Params, Prepared, Preparing, Record, Refused, State
from probe.drill.faults.hog import PIECE
from probe.drill.faults.pins import Pin, Seen
from probe.drill.faults.selection import Selection, find
from probe.model.clock import NS
from probe.scenario.units import Ratio, Size

_MIB = 1 << 20
_ENOUGH = 0.9  # of what was to be taken: the kernel may have moved some of it elsewhere
_MOST_PROCESSES = 64
_PACE = 256 * _MIB  # bytes of memory a second that a slow machine gives
_SPARE = 64  # descriptors that a process of ours needs itself


class Cpu(Params):
    burners: int | None = Field(None, gt=0, le=256, description="Processes that compute; one per core where it is left out.")
    share: Ratio = Field(1.0, gt=0, description="Of a core, each of them.", examples=["80%"])
    nice: int = Field(0, ge=0, le=19, description="Their niceness: 19 takes only what nobody wants.")


class Memory(Params):
    size: Size | None = Field(None, description="So much.", examples=["512MB"])
    share: Ratio | None = Field(None, gt=0, description="Or so much of what is available.", examples=["50%"])
    leave: Size = Field(512 * _MIB, ge=64 * _MIB, description="What stays available; given back where others need it.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.size is None) == (self.share is None):
            raise ValueError("say how much: give size or share")
        return self


class Files(Params):
    count: int = Field(gt=0, le=4_000_000, description="So many open files more on this host.")
    leave: int = Field(10_000, ge=1000, description="Entries of the kernel's table (fs.file-max) that stay free.")


class Descriptors(Params):
    of: Selection
    leave: int = Field(0, ge=0, le=100_000, description="How many more it may open.")


class LoadParams(Params):
    cpu: Cpu | None = None
    memory: Memory | None = None
    files: Files | None = None
    descriptors: Descriptors | None = None
    beside: Selection | None = Field(None, description="A process in whose control group (v2) it is taken.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(one is not None for one in (self.cpu, self.memory, self.files, self.descriptors)) != 1:
            raise ValueError("one thing is made short: give cpu, memory, files or descriptors")
        if self.descriptors is not None and self.beside is not None:
            raise ValueError("descriptors are of one process already: leave beside out")
        return self


class LoadFault:
    about: ClassVar[str] = "CPU, memory, open files of a host, or of a control group, are taken; or a process may open no more."
    params: ClassVar[type[Params]] = LoadParams

    def __init__(self) -> None:
        self._hogs = hogs.Hogs()

    async def prepare(self, params: LoadParams, given: Preparing) -> Prepared:
        if params.descriptors is not None:
            return await _descriptors(params.descriptors)
        cgroup, beside = await _beside(params.beside)
        if params.cpu is not None:
            order = _cpu(params.cpu)
        elif params.memory is not None:
            order = _memory(params.memory)
        else:
            assert params.files is not None
            order = _files(params.files)
        order |= {"cgroup": cgroup}
        do, undo = hogs.shown(given.token, {**order, "expires": given.expires})
        return Prepared(
            klass=Klass.SELF_HEALING,
            targets=(f"process:{beside}" if beside is not None else f"host:{order['kind']}",),
            of=1,
            record=order,
            commands=(Command(do, undo),),
            limit="its own processes, which end by themselves",
        )

    async def inject(self, record: Record, io: FaultIO) -> None:
        if record["kind"] == "descriptors":
            limits.lower(record["limits"])
        else:
            await self._hogs.start(record, io)

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        if record["kind"] == "descriptors":
            return limits.observed(record["limits"])
        try:
            there = self._hogs.alive(io.token)
            return _taken(record, there) if there else Observed(State.RESTORED, f"no process of sp-{io.token}")
        except OSError as error:
            return Observed(State.UNKNOWN, f"/proc cannot be read: {error.strerror}")

    async def restore(self, record: Record, io: FaultIO) -> None:
        if record["kind"] == "descriptors":
            limits.raise_again(record["limits"])
        else:
            await self._hogs.end(io.token)


def _taken(record: Record, there: list[Seen]) -> Observed:
    count = f"{len(there)} of {record['processes']} processes"
    if len(there) < record["processes"] or any(one.state in "Tt" for one in there):
        return Observed(State.UNKNOWN, f"{count}, {sum(one.state in 'Tt' for one in there)} of them stopped")
    if record["kind"] == "cpu":
        return Observed(State.INJECTED, f"{count}, {sum(one.cpu() for one in there):.1f} s of CPU so far")
    if record["kind"] == "memory":
        held, wanted, unit = sum(_resident(one.pin) for one in there) // _MIB, record["size"] // _MIB, "MiB"
    else:
        held, wanted, unit = sum(_open(one.pin) for one in there), record["count"], "files"
    state = State.INJECTED if held >= _ENOUGH * wanted else State.UNKNOWN
    return Observed(state, f"{held} of {wanted} {unit}")


def _resident(pin: Pin) -> int:
    """Bytes; 0 where it has just ended."""
    try:
        return int(Path(f"/proc/{pin.pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def _open(pin: Pin) -> int:
    """Its descriptors; 0 where it has just ended."""
    try:
        place = f"/proc/{pin.pid}/fd"
        return os.stat(place).st_size or len(os.listdir(place))  # the size is their number since Linux 6.2
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _cpu(cpu: Cpu) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    burners = cpu.burners or cores
    if burners > 4 * cores:
        raise Refused(f"{burners} burners on {cores} cores; at most {4 * cores}", "cpu.burners")
    return {"kind": "cpu", "processes": burners, "share": cpu.share, "nice": cpu.nice}


def _memory(memory: Memory) -> dict[str, Any]:
    available = psutil.virtual_memory().available
    size = memory.size if memory.size is not None else int(available * (memory.share or 0))
    if available - size < memory.leave + PIECE:
        raise Refused(
            f"{available // _MIB} MiB are available; {size // _MIB} MiB would leave less than {memory.leave // _MIB} MiB",
            "memory.size" if memory.size is not None else "memory.share",
        )
    within = min(int(hogs.STARTS * NS), 5 * NS + size * NS // _PACE)
    return {"kind": "memory", "processes": 1, "size": size, "leave": memory.leave, "inject_within": within}


def _files(files: Files) -> dict[str, Any]:
    used, _, most = (int(number) for number in Path("/proc/sys/fs/file-nr").read_text().split())
    if used + files.count > most - files.leave:
        raise Refused(f"{used} of {most} files are open; {files.count} more would leave fewer than {files.leave}", "files.count")
    each = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - _SPARE
    processes = math.ceil(files.count / each) if each > 0 else _MOST_PROCESSES + 1
    if processes > _MOST_PROCESSES:
        raise Refused(f"a process may open {each} files here: that takes more than {_MOST_PROCESSES} processes", "files.count")
    return {"kind": "files", "processes": processes, "count": files.count, "each": each}


async def _descriptors(wanted: Descriptors) -> Prepared:
    found = await find(wanted.of, "descriptors.of")
    each: list[Mapping[str, Any]] = [limits.lowered(pin, wanted.leave) for pin in found.chosen]
    return Prepared(
        klass=Klass.REVERSIBLE,
        targets=tuple(f"process:{pin}" for pin in found.chosen),
        of=found.of,
        record={"kind": "descriptors", "limits": each},
        commands=tuple(
            Command(*(f"prlimit --pid {pin.pid} --nofile={one[key][0]}:{one[key][1]}" for key in ("ours", "old")))
            for pin, one in zip(found.chosen, each, strict=True)
        ),
    )


async def _beside(selection: Selection | None) -> tuple[str, Pin | None]:
    """The directory of a process's control group, empty where none is asked for. Raises Refused."""
    if selection is None:
        return "", None
    pin = (await find(selection, "beside")).chosen[0]
    group = _group(pin)
    if not os.access(f"{group}/cgroup.procs", os.W_OK):
        raise Refused(f"this user may not put processes into {group}", "beside")
    return group, pin


def _group(pin: Pin) -> str:
    mounts = [part.mountpoint for part in psutil.disk_partitions(all=True) if part.fstype == "cgroup2"]
    try:
        lines = Path(f"/proc/{pin.pid}/cgroup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        raise Refused(f"{pin} has just ended", "beside") from None
    path = next((line[3:] for line in lines if line.startswith("0::")), "")
    if not mounts or path in ("", "/") or "/.." in path:
        raise Refused(f"{pin} is in no control group of version 2 that is its own; leave beside out", "beside")
    return f"{mounts[0]}{path}"
