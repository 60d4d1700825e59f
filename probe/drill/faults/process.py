"""A process of this host: paused, stopped, killed, restarted.

Paused (SIGSTOP) it is put back by SIGCONT. Stopped (SIGTERM, and SIGKILL after its grace, as systemd does it), killed (SIGKILL)
or restarted it is gone for good: no undo exists, so a drill names what brings it back, a unit, a command or a supervisor, and
that it is back is for a look to say: as many processes as before that match, each having lived for `settled`, and answering where
a check is given. A process that comes back and dies again is not back; that is also why a fast supervisor's work is seen as
injected first.

What we run to bring it back is detached from us and bears the drill's token in its environment, so that whoever repeats the undo
sees that it is under way. It gets PATH and the like of ours and nothing else: what it needs beyond that its command says.

Not done: stopping a whole control group or container (the cgroup freezer); pausing single threads.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from probe.clock import boottime
from probe.drill.faults import pins, systemd
from probe.drill.faults.base import (
    Command,
    FaultIO,
    Klass,
    NotUndone,
    Observed,
    Params,
    Prepared,
    Preparing,
    Record,
    Refused,
    State,
)
from probe.drill.faults.health import Place, PlainUrl, ailment
from probe.drill.faults.pins import Pin
from probe.drill.faults.selection import Found, Selection, Text, UnitName, find, standing
from probe.model.clock import NS
from probe.scenario.units import Duration, PositiveDuration, format_duration

_DIES = 2.0  # s that SIGKILL may take
_STARTS = 5.0  # s that starting a command detached may take
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ")  # of our environment, for what we bring back
MARK = "STREAM_PROBE_DRILL"


class Do(StrEnum):
    PAUSE = "pause"
    STOP = "stop"
    KILL = "kill"
    RESTART = "restart"


class RestoredBy(Params):
    """What brings a process back that has no undo; exactly one."""

    unit: UnitName | None = Field(None, description="A systemd service, started by us.", examples=["nginx.service"])
    command: Annotated[tuple[Text, ...], Field(max_length=64)] = Field(
        (), description="A command run by us, without a shell, in /.", examples=[["/usr/sbin/nginx"]]
    )
    supervisor: Text | None = Field(None, description="Whoever does it without us, in words.", examples=["runit starts it anew"])

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.unit is not None) + bool(self.command) + (self.supervisor is not None) != 1:
            raise ValueError("one thing brings it back: give unit, command or supervisor")
        return self

    @property
    def words(self) -> str:
        if self.unit is not None:
            return f"systemctl start {self.unit}"
        return shlex.join(self.command) if self.command else str(self.supervisor)


class Back(Params):
    """What being back means."""

    settled: Duration = Field(10**9, description="How long a new process must have lived to count.", examples=["1s"])
    count: int | None = Field(None, gt=0, description="How many must match; as many as before where it is left out.")
    tcp: Place | None = Field(None, description="A place that takes connections.", examples=["127.0.0.1:1935"])
    http: PlainUrl | None = Field(None, description="An address that answers 2xx.", examples=["http://127.0.0.1:8080/health"])


class ProcessParams(Params):
    do: Do = Field(description="pause, stop, kill or restart.")
    target: Selection
    grace: PositiveDuration = Field(
        5 * 10**9, le=8 * 10**9, description="Between SIGTERM and SIGKILL, for stop and restart.", examples=["5s"]
    )
    restored_by: RestoredBy | None = Field(None, description="What brings it back; not for pause.")
    back: Back = Back()

    @model_validator(mode="after")
    def _way_back(self) -> Self:
        if self.do is Do.PAUSE:
            if self.restored_by is not None:
                raise ValueError("a pause is put back by us: leave restored_by out")
        elif self.restored_by is None and self.target.unit is None:
            raise ValueError(
                f"{self.do} has no undo: say what brings it back,"
                " restored_by: {unit: …}, {command: […]} or {supervisor: who, in words}"
            )
        return self

    @property
    def way_back(self) -> RestoredBy:
        return self.restored_by if self.restored_by is not None else RestoredBy(unit=self.target.unit)


class ProcessFault:
    about: ClassVar[str] = "A process of this host is paused, stopped, killed or restarted."
    params: ClassVar[type[Params]] = ProcessParams

    async def prepare(self, params: ProcessParams, given: Preparing) -> Prepared:
        found = await find(params.target)
        _may(found.chosen)
        record = {**params.model_dump(mode="json"), **pins.written(found.chosen), "like": found.like}
        record |= {"others": pins.written(found.others), "began": boottime()}
        paused = params.do is Do.PAUSE
        if not paused:
            record |= params.model_copy(update={"restored_by": params.way_back}).model_dump(mode="json", include={"restored_by"})
            await _can_come_back(params)
        if params.do in (Do.STOP, Do.RESTART):
            record["inject_within"] = params.grace + int((_DIES + _STARTS) * NS)
        way = "" if paused else params.way_back.words
        return Prepared(
            klass=Klass.REVERSIBLE if paused else Klass.IRREVERSIBLE,
            targets=tuple(f"process:{pin}" for pin in found.chosen),
            of=found.of,
            record=record,
            commands=_commands(params, found, way),
            restored_by=way,
            limit="" if paused or params.way_back.supervisor is None else f"its supervisor, at any time: {way}",
        )

    async def inject(self, record: Record, io: FaultIO) -> None:
        if not pins.here(record):
            return  # those that were meant ended with that boot
        victims, do, unit = pins.read(record), Do(record["do"]), record["target"]["unit"]
        if do is Do.PAUSE or do is Do.KILL:
            for pin in victims:
                pins.send(pin, signal.SIGSTOP if do is Do.PAUSE else signal.SIGKILL)
            return
        if unit is not None:
            await systemd.told(str(do), unit)
        else:
            for pin in victims:
                pins.send(pin, signal.SIGTERM)
        if not await pins.ended(victims, record["grace"] / 1e9):
            for pin in victims:
                pins.send(pin, signal.SIGKILL)
            await pins.ended(victims, _DIES)
        if do is Do.RESTART and unit is None:
            await self.restore(record, io)

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        try:
            return _paused(record) if record["do"] == Do.PAUSE else await _came_back(record)
        except OSError as error:
            return Observed(State.UNKNOWN, f"/proc cannot be read: {error.strerror}")

    async def restore(self, record: Record, io: FaultIO) -> None:
        victims = pins.read(record) if pins.here(record) else []
        if record["do"] == Do.PAUSE:
            for pin in victims:
                if (one := pins.seen(pin)) is not None and (one.state in "Tt" or pins.pending(pin, signal.SIGSTOP)):
                    try:
                        pins.send(pin, signal.SIGCONT)
                    except PermissionError:
                        raise NotUndone(f"{pin} may not be signalled: run as root, or as its user") from None
            return
        if record["do"] != Do.KILL:
            await pins.ended(victims, record["grace"] / 1e9)  # it may have been told to end, and be at it
        if victims and all(map(_lives, victims)):
            return
        if len(await _standing(record)) < _wanted(record):
            await _bring_back(record, io.token)


def _may(chosen: Sequence[Pin]) -> None:
    """Refused where this process may not signal them."""
    for pin in chosen:
        try:
            if not pins.send(pin, 0):
                raise Refused(f"{pin} has just ended", "target")
        except PermissionError:
            raise Refused(f"{pin} may not be signalled by this user; run as root, or as its user", "target") from None
        except (AttributeError, OSError):
            raise Refused("this kernel has no pidfd (Linux 5.3), without which a process cannot be hit safely") from None


async def _can_come_back(params: ProcessParams) -> None:
    way = params.way_back
    if way.unit is not None:
        if not systemd.runs():
            raise Refused("systemd does not run here; give a command or a supervisor", "restored_by.unit")
        try:
            await systemd.unit(way.unit)
        except systemd.NoUnit as why:
            raise Refused(str(why), "restored_by.unit") from None
    if way.command:
        program = way.command[0]
        if (not program.startswith("/") and "/" in program) or shutil.which(program) is None:
            raise Refused(f"{program} is no program that runs here; give its absolute path", "restored_by.command")
        if shutil.which("setsid") is None:
            raise Refused("a command is detached by setsid, which is not here (package util-linux)", "restored_by.command")
    if why_not := await ailment(params.back.tcp, params.back.http):
        raise Refused(f"it does not answer before anything is broken, so its coming back could not be told: {why_not}", "back")


def _commands(params: ProcessParams, found: Found, way: str) -> tuple[Command, ...]:
    unit, grace = params.target.unit, format_duration(params.grace)
    if unit is not None and params.do in (Do.STOP, Do.RESTART):
        return (Command(f"systemctl {params.do} {unit}", f"{way}; a new process that has settled"),)
    name = {Do.PAUSE: "STOP", Do.KILL: "KILL"}.get(params.do, "TERM")
    after = "" if name != "TERM" else f", kill -KILL after {grace}"
    undo = f"no undo; brought back by: {way}"
    return tuple(
        Command(f"kill -{name} {pin.pid}{after}  # {pin.name}", f"kill -CONT {pin.pid}" if params.do is Do.PAUSE else undo)
        for pin in found.chosen
    )


def _paused(record: Record) -> Observed:
    if not pins.here(record):
        return Observed(State.GONE, "the machine was started anew")
    victims = pins.read(record)
    living = [one for pin in victims if (one := pins.seen(pin)) is not None]
    stopped = [one for one in living if one.state == pins.STOPPED]
    gone = f", {len(victims) - len(living)} gone" if len(living) < len(victims) else ""
    if not living:
        return Observed(State.GONE, f"{_list(victims)} ended")
    if len(stopped) == len(living):
        return Observed(State.INJECTED, f"{_list([one.pin for one in stopped])} stopped{gone}")
    if not stopped and not any(pins.pending(one.pin, signal.SIGSTOP) for one in living):
        return Observed(State.RESTORED, f"{_list([one.pin for one in living])} not stopped{gone}")
    return Observed(State.UNKNOWN, f"{len(stopped)} of {len(living)} stopped{gone}")


async def _came_back(record: Record) -> Observed:
    victims = pins.read(record)
    living = [pin for pin in victims if _lives(pin)] if pins.here(record) else []
    if len(living) == len(victims):
        return Observed(State.RESTORED, f"{_list(victims)} as before")
    ended = f"{_list([pin for pin in victims if pin not in living])} ended"
    broken = State.UNKNOWN if living else State.INJECTED
    found, wanted, settled = await _standing(record), _wanted(record), boottime() - record["back"]["settled"]
    if len(found) < wanted:
        return Observed(broken, f"{ended}; {len(found)} of {wanted} there")
    if sum(pin.started() <= settled for pin in found) < wanted:
        return Observed(broken, f"{ended}; a new one has not yet settled")
    if why := await ailment(record["back"]["tcp"], record["back"]["http"]):
        return Observed(broken, f"{ended}; there are new ones, and {why}")
    return Observed(State.RESTORED, f"back: {_list(found)}")


def _lives(pin: Pin) -> bool:
    """One that was killed a moment ago is still there, and no longer what was."""
    one = pins.seen(pin)
    return one is not None and not one.exiting and not pins.pending(pin, signal.SIGKILL)


async def _standing(record: Record) -> list[Pin]:
    """Who stands for the target now: those that matched before, and new ones of the same name. Whoever else matches, a shell with
    the pattern in its command line, a stranger whose id stands in an old pid file, is none of them."""
    victims, others = pins.read(record), pins.read(record["others"])
    same_boot, names = pins.here(record), {pin.name for pin in victims}
    found = await standing(Selection.model_validate(record["target"] | {"share": None}), record["like"])
    if record["target"]["unit"] is not None:
        return found  # whom systemd calls the unit's main process, that is it
    new = [pin for pin in found if pin.name in names and not (same_boot and pin.started() + pins.TICK < record["began"])]
    return [pin for pin in found if pin in new or (same_boot and (pin in others or (pin in victims and _lives(pin))))]


def _wanted(record: Record) -> int:
    return int(record["back"]["count"] or len(record["pins"]) + len(record["others"]["pins"]))


async def _bring_back(record: Record, token: str) -> None:
    way = record["restored_by"]
    if way["unit"] is not None:
        try:
            await systemd.told("start", way["unit"])
        except systemd.NoUnit as why:
            raise NotUndone(str(why)) from None
    elif way["command"] and not _under_way(token):
        await asyncio.to_thread(_start, way["command"], token)


def _start(command: Sequence[str], token: str) -> None:
    """By `subprocess`, which leaves nothing of ours open to what outlives us; event loops are not all so careful."""
    try:
        subprocess.run(  # noqa: S603  # the words of whoever wrote the drill; no shell reads them
            ("setsid", "--fork", *command),  # noqa: S607  # wherever it is
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={key: os.environ[key] for key in _KEPT if key in os.environ} | {MARK: f"sp-{token}"},
            cwd="/",
            timeout=_STARTS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotUndone(f"{command[0]} could not be started: {type(error).__name__}") from None


def _under_way(token: str) -> bool:
    """Whether what we started before, or what it started, still runs."""
    mark = f"{MARK}=sp-{token}".encode()
    for one in pins.everyone():
        try:
            if one.alive and mark in Path(f"/proc/{one.pin.pid}/environ").read_bytes().split(b"\0"):
                return True
        except OSError:  # another's, or gone
            continue
    return False


def _list(some: Sequence[Pin]) -> str:
    return ", ".join(str(pin) for pin in some[:3]) + (f" and {len(some) - 3} more" if len(some) > 3 else "")
