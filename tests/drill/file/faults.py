"""Kinds of faults that the files of these tests name: `stop`, and one whose library is missing."""

from __future__ import annotations

from typing import Any, ClassVar

from probe.drill.faults.base import Command, Klass, Params, Prepared, Preparing, Refused
from probe.scenario.units import PositiveDuration

KINDS = ("stop", "missing")


class Stop(Params):
    """`who`: process:<who>-1 and so on, of so many as `of` says."""

    who: str
    delay: PositiveDuration = 10**9
    hits: int = 1
    of: int = 3
    klass: Klass = Klass.REVERSIBLE
    restored_by: str = ""


class StopFault:
    about: ClassVar[str] = "stops something"
    params: ClassVar[type[Params]] = Stop

    async def prepare(self, params: Stop, given: Preparing) -> Prepared:
        if params.who == "nobody":
            raise Refused("there is no process nobody", "who")
        if params.who == "here":
            raise Refused("this kernel cannot do it")
        return Prepared(
            klass=params.klass,
            targets=tuple(f"process:{params.who}/{pid}" for pid in range(1, params.hits + 1)),
            of=params.of,
            record={"who": params.who},
            commands=(Command(f"kill -STOP {params.who}", f"kill -CONT {params.who}"),),
            restored_by=params.restored_by,
            limit="systemd's watchdog",
        )


def kind(name: str) -> Any:
    if name == "missing":
        raise ImportError("pip install stream-probe[missing]")
    return StopFault()
