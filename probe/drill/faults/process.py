"""A process of this host: paused, stopped, killed, restarted.

Paused (SIGSTOP) it is put back by SIGCONT. Stopped (SIGTERM, and SIGKILL after its grace, as systemd does it), killed (SIGKILL)
or restarted it is gone for good: no undo exists, so a drill names what brings it back, a unit, a command or a supervisor, and
that it is back is for a look to say: as many processes as before that match, each having lived for `settled`, and answering where
a check is given. A process that comes back and dies again is not back; that is also why a fast supervisor's work is seen as
injected first.

Not done: stopping a whole control group or container (the cgroup freezer); pausing single threads.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar, Self

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
from probe.drill.faults.comeback import (
    STARTS,
    Back,
    RestoredBy,
    bring_back,
    came_back,
    can_come_back,
    listed,
    lives,
)
from probe.drill.faults.pins import Pin
from probe.drill.faults.selection import Found, Selection, find
from probe.model.clock import NS
from probe.scenario.units import PositiveDuration, format_duration

_DIES = 2.0  # s that SIGKILL may take


class Do(StrEnum):
    PAUSE = "pause"
    STOP = "stop"
    KILL = "kill"
    RESTART = "restart"


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
            await can_come_back(params.way_back, params.back)
        if params.do in (Do.STOP, Do.RESTART):
            record["inject_within"] = params.grace + int((_DIES + STARTS) * NS)
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
            return _paused(record) if record["do"] == Do.PAUSE else await came_back(record)
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
        if victims and all(map(lives, victims)):
            return
        await bring_back(record, io.token)


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
        return Observed(State.GONE, f"{listed(victims)} ended")
    if len(stopped) == len(living):
        return Observed(State.INJECTED, f"{listed([one.pin for one in stopped])} stopped{gone}")
    if not stopped and not any(pins.pending(one.pin, signal.SIGSTOP) for one in living):
        return Observed(State.RESTORED, f"{listed([one.pin for one in living])} not stopped{gone}")
    return Observed(State.UNKNOWN, f"{len(stopped)} of {len(living)} stopped{gone}")
