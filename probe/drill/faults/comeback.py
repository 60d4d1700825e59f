"""How a process that has no undo comes back: who brings it, and when it is back.

A unit and a command are ours to start, a supervisor works by itself. Back are as many processes as before that match, each having
lived for `settled`, and answering where a check is given.

What we run to bring it back is detached from us and bears the drill's token in its environment, so that whoever repeats the undo
sees that it is under way. It gets PATH and the like of ours and nothing else: what it needs beyond that its command says.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from probe.clock import boottime
from probe.drill.faults import pins, systemd
from probe.drill.faults.base import NotUndone, Observed, Params, Record, Refused, State
from probe.drill.faults.health import Place, PlainUrl, ailment
from probe.drill.faults.pins import Pin
from probe.drill.faults.selection import Selection, Text, UnitName, standing
from probe.scenario.units import Duration

STARTS = 5.0  # s that starting a command detached may take
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ")  # of our environment, for what we bring back
MARK = "STREAM_PROBE_DRILL"


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


async def can_come_back(way: RestoredBy, back: Back) -> None:
    """Raises Refused where it cannot, or where that it did could not be told."""
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
    if why_not := await ailment(back.tcp, back.http):
        raise Refused(f"it does not answer before anything is broken, so its coming back could not be told: {why_not}", "back")


async def came_back(record: Record) -> Observed:
    """Injected until it is back; restored also where nobody has ended."""
    victims = pins.read(record)
    living = [pin for pin in victims if lives(pin)] if pins.here(record) else []
    if len(living) == len(victims):
        return Observed(State.RESTORED, f"{listed(victims)} as before")
    ended = f"{listed([pin for pin in victims if pin not in living])} ended"
    broken = State.UNKNOWN if living else State.INJECTED
    found, wanted, settled = await _standing(record), _wanted(record), boottime() - record["back"]["settled"]
    if len(found) < wanted:
        return Observed(broken, f"{ended}; {len(found)} of {wanted} there")
    if sum(pin.started() <= settled for pin in found) < wanted:
        return Observed(broken, f"{ended}; a new one has not yet settled")
    if why := await ailment(record["back"]["tcp"], record["back"]["http"]):
        return Observed(broken, f"{ended}; there are new ones, and {why}")
    return Observed(State.RESTORED, f"back: {listed(found)}")


def lives(pin: Pin) -> bool:
    """One that was killed a moment ago is still there, and no longer what was."""
    one = pins.seen(pin)
    return one is not None and not one.exiting and not pins.pending(pin, signal.SIGKILL)


async def _standing(record: Record) -> list[Pin]:
    """Who stands for the target now: those that matched before, and new ones of the same name. Whoever else matches, a shell with
    the pattern in its command line, a stranger whose id stands in an old pid file, is none of them."""
    victims, others = pins.read(record), pins.read(record["others"])
    same_boot, names = pins.here(record), {pin.name for pin in victims}
    found = await standing(Selection.model_validate(record["target"] | {"share": None}), record["like"])
    if same_boot:
        found = [pin for pin in found if pin not in victims or lives(pin)]
    if record["target"]["unit"] is not None:
        return found  # whom systemd calls the unit's main process, that is it
    new = [pin for pin in found if pin.name in names and not (same_boot and pin.started() + pins.TICK < record["began"])]
    return [pin for pin in found if pin in new or (same_boot and pin in (*victims, *others))]


def _wanted(record: Record) -> int:
    return int(record["back"]["count"] or len(record["pins"]) + len(record["others"]["pins"]))


async def bring_back(record: Record, token: str) -> None:
    """Unless it is back, or on its way. Raises NotUndone."""
    if len(await _standing(record)) >= _wanted(record):
        return
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
            timeout=STARTS,
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


def listed(some: Sequence[Pin]) -> str:
    return ", ".join(str(pin) for pin in some[:3]) + (f" and {len(some) - 3} more" if len(some) > 3 else "")
