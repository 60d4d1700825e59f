"""A scripted fault: what tests, examples and rehearsals of the drill itself break. It harms nothing but a file of its own.

Whether it is injected stands in that file, by token, so that any process can see it and undo it. `does` says how it misbehaves:

    works      is there when injected, and gone when restored
    fails      its injection raises
    hangs      its injection never ends
    lies       its injection says nothing, and does nothing
    vanishes   its target is no more, `after` a while
    heals      it is gone by itself, `after` a while
    stays      its restore raises, every time
    sticks     its restore never ends where our own clients play, in the runner; anybody else puts it back

`departs` makes our own viewers or publishers leave at its injection and return at its restore.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from probe.clock import boottime
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
from probe.errors import ProbeError
from probe.scenario.fields import Name
from probe.scenario.units import Duration

_MOST = 64 * 1024  # bytes of its file


class Scripted(ProbeError):
    """It fails because it is told to."""


class FakeParams(Params):
    """What it is, and how it misbehaves."""

    name: Name = Field("fake", description="Its name, as a target.", examples=["origin"])
    file: str = Field(description="Where it stands whether it is injected.", examples=["/tmp/fake.json"])  # noqa: S108
    does: Literal["works", "fails", "hangs", "lies", "vanishes", "heals", "stays", "sticks"] = Field(
        "works", description="How it misbehaves.", examples=["lies"]
    )
    after: Duration = Field(0, description="When it vanishes or heals, from its injection.", examples=["500ms"])
    departs: str = Field("", description="Who of our clients leave meanwhile.", examples=["publisher"])


class FakeFault:
    """Row `fake`."""

    about: ClassVar[str] = "nothing at all: a scripted fault, to rehearse the drill itself"
    params: ClassVar[type[Params]] = FakeParams

    async def prepare(self, params: FakeParams, given: Preparing) -> Prepared:
        file = _absolute(params.file)
        return Prepared(
            klass=Klass.REVERSIBLE,
            targets=(f"fake:{params.name}",),
            of=1,
            record={"file": str(file), "does": params.does, "after": params.after, "departs": params.departs},
            commands=(Command(do=f"write {given.token} into {file}", undo=f"take {given.token} out of {file}"),),
        )

    async def inject(self, record: Record, io: FaultIO) -> None:
        match record["does"]:
            case "fails":
                raise Scripted("it was told to fail")
            case "hangs":
                await asyncio.Event().wait()
            case "lies":
                return
            case _:
                _change(record, lambda there: there | {io.token: boottime()})
        if record["departs"] and io.clients is not None:
            await io.clients.depart(record["departs"])

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        try:
            since = _read(Path(record["file"])).get(io.token)
        except (OSError, ValueError) as error:
            return Observed(State.UNKNOWN, f"{record['file']}: {type(error).__name__}")
        if since is None:
            return Observed(State.RESTORED)
        over = boottime() - since >= record["after"]
        if record["does"] == "vanishes" and over:
            return Observed(State.GONE, "it vanished")
        if record["does"] == "heals" and over:
            return Observed(State.RESTORED, "it healed")
        return Observed(State.INJECTED)

    async def restore(self, record: Record, io: FaultIO) -> None:
        if record["does"] == "stays":
            raise NotUndone("it was told to stay")
        if record["does"] == "sticks" and io.clients is not None:
            await asyncio.Event().wait()
        if record["departs"] and io.clients is not None:
            await io.clients.come_back(record["departs"])
        try:
            _change(record, lambda there: {token: at for token, at in there.items() if token != io.token})
        except (OSError, ValueError) as error:
            raise NotUndone(f"{record['file']}: {error}") from error


def _absolute(file: str) -> Path:
    path = Path(file).absolute()
    if not path.parent.is_dir():
        raise Refused(f"{path.parent} is no directory", where="file")
    return path


def _read(file: Path) -> dict[str, int]:
    """token → CLOCK_BOOTTIME ns of its injection."""
    try:
        with file.open("rb") as opened:
            data = opened.read(_MOST)
    except FileNotFoundError:
        return {}
    found: Any = json.loads(data or b"{}")
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return {str(token): int(at) for token, at in found.items()}


def _change(record: Record, change: Callable[[dict[str, int]], dict[str, int]]) -> None:
    """One at a time, and never half a file."""
    file = Path(record["file"])
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(change(_read(file))))
        os.replace(part, file)
