"""A clock that steps: the host's, or that of one process which runs under libfaketime.

A time namespace moves CLOCK_MONOTONIC and CLOCK_BOOTTIME only (time_namespaces(7)), so there is no CLOCK_REALTIME of a target's
own but by libfaketime, in a process that was started with it. The host's clock is everybody's: its target is `host:clock`.

The undo is a step back by the same length, never a return to a time of day, and it is made only where the clock stands where our
step put it, measured against CLOCK_BOOTTIME, which no step moves and by which a drill expires. Where it stands neither there nor
where it was, another has moved it: that is told and left to people. Two undoing at once would step twice, so one waits for the
other; after a restart of the machine the clock comes from the hardware's, which a step never reached (the kernel writes it only
while it is synchronised, and a step ends that).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from probe.drill.faults import faketime
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
from probe.drill.faults.host_clock import HostClock, SystemHostClock
from probe.drill.faults.selection import Selection, find
from probe.errors import ProbeError
from probe.model.clock import NS
from probe.scenario.units import describe, format_duration, parse_duration

_LEAST, _MOST = 5 * NS, 366 * 86_400 * NS
_DRIFT = 1000  # a clock that is slewed gains or loses at most one part in so many
_ALONE = "\0stream-probe-clock-step"  # an abstract socket: the kernel frees it when its holder dies


def _step(value: Any) -> int:
    if not isinstance(value, str) or value[:1] not in ("+", "-"):
        raise ValueError(f"{describe(value)} is no step; write for example +1h or -90s")
    ns = parse_duration(value[1:])
    if not _LEAST <= ns <= _MOST or ns % NS:
        raise ValueError(f"{value!r}: a step is of whole seconds, from 5s to 366d")
    return ns if value[0] == "+" else -ns


Step = Annotated[
    int,
    BeforeValidator(_step),
    WithJsonSchema({"type": "string", "pattern": r"^[+-](\d+(d|h|m|s))+$", "examples": ["+1h", "-90s"]}),
]


class ClockParams(Params):
    step: Step = Field(description="By how much, and which way.")
    host: bool = Field(False, description="The clock of this host.")
    of: Selection | None = Field(None, description="A process that was started under libfaketime with an offset file.")
    although_kept: bool = Field(
        False, description="Although NTP or its like keeps the host's clock, and may undo it at any time."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.host == (self.of is not None):
            raise ValueError("say whose clock: give host: true, or of: a process")
        return self


class ClockFault:
    about: ClassVar[str] = "The clock of this host, or of one process under libfaketime, steps."
    params: ClassVar[type[Params]] = ClockParams

    def __init__(self, host: HostClock | None = None) -> None:
        self._host = host or SystemHostClock()

    async def prepare(self, params: ClockParams, given: Preparing) -> Prepared:
        if params.of is not None:
            return await _of_process(params.of, params.step, given.token)
        if why := self._host.forbidden():
            raise Refused(why, "host")
        if (keeper := self._host.keeper()) and not params.although_kept:
            raise Refused(f"{keeper} keeps this clock and would step it back; stop it, or say although_kept: true", "host")
        by, back = (f"{'+' if ns > 0 else '-'}{format_duration(abs(ns))}" for ns in (params.step, -params.step))
        return Prepared(
            klass=Klass.REVERSIBLE,
            targets=("host:clock",),
            of=1,
            record={
                "kind": "host",
                "boot": self._host.boot(),
                "at": self._host.boottime(),
                "offset": self._host.offset(),
                "step": params.step,
            },
            commands=(Command(f"adjtimex ADJ_SETOFFSET {by}", f"adjtimex ADJ_SETOFFSET {back}"),),
        )

    async def inject(self, record: Record, io: FaultIO) -> None:
        if record["kind"] == "process":
            if faketime.read(record["file"]) != record["before"]:
                raise ProbeError(f"{record['file']} is not as it was when the drill was prepared")
            faketime.write(record["file"], record["ours"])
            return
        with _alone():
            if self._where(record).state is not State.RESTORED:
                raise ProbeError("the clock is not where it was when the drill was prepared")
            self._host.step(record["step"])

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        return faketime.observed(record, io.token) if record["kind"] == "process" else self._where(record)

    async def restore(self, record: Record, io: FaultIO) -> None:
        try:
            if record["kind"] == "process":
                if faketime.observed(record, io.token).state is State.INJECTED:
                    faketime.write(record["file"], record["before"])
                return
            with _alone():
                where = self._where(record)
                if where.state is State.INJECTED:
                    self._host.step(-record["step"])
                elif where.state is State.UNKNOWN:
                    raise NotUndone(where.detail)
        except OSError as error:
            raise NotUndone(f"the clock cannot be put back: {error.strerror}") from None

    def _where(self, record: Record) -> Observed:
        if self._host.boot() != record["boot"]:
            return Observed(State.GONE, "the machine was started anew, and took its clock from the hardware's")
        step, moved = record["step"], self._host.offset() - record["offset"]
        # A clock that is being slewed drifts on while we hold; never so far that it could be mistaken.
        allowed = min(abs(step) // 2 - 1, NS // 2 + (self._host.boottime() - record["at"]) // _DRIFT)
        words = f"{moved / NS:+.3f} s from where it was"
        if abs(moved) <= allowed:
            return Observed(State.RESTORED, words)
        if abs(moved - step) <= allowed:
            return Observed(State.INJECTED, words)
        return Observed(State.UNKNOWN, f"{words}, which is not our step: another has moved it; set it by hand or by NTP")


async def _of_process(selection: Selection, step: int, token: str) -> Prepared:
    found = await find(selection, "of")
    if len(found.chosen) > 1:
        raise Refused("one process at a time: each may have an offset file of its own", "of")
    pin = found.chosen[0]
    record = faketime.prepared(pin, step, token)
    do, undo = (f"write {record[key].split()[-1]} into {record['file']}" for key in ("ours", "before"))
    return Prepared(
        klass=Klass.REVERSIBLE,
        targets=(f"process:{pin}",),
        of=found.of,
        record={"kind": "process", **record},
        commands=(Command(do, undo),),
    )


@contextmanager
def _alone() -> Iterator[None]:
    """Raises NotUndone while another process is at it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        try:
            lock.bind(_ALONE)
        except OSError:
            raise NotUndone("another process is stepping the clock at this moment") from None
        yield
