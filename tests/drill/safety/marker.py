"""A fault that is a file on disk, for processes other than the test's: it is broken while the file is there.

What it does is in its record, so that watchdog and recover meet it too: `restore` is fine, fails, hangs or lies; `sleeps` makes
it block its thread. Offered as a third party's fault is: by an entry point of a distribution on PYTHONPATH (`installed`).
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from probe.drill.faults.base import Command, FaultIO, Klass, NotUndone, Observed, Params, Prepared, Preparing, Record, State

KIND = "test-marker"


class MarkerParams(Params):
    path: str
    restore: str = "fine"
    klass: Klass = Klass.REVERSIBLE
    own: bool = False


class MarkerFault:
    about = "a file that should not be there"
    params = MarkerParams

    async def prepare(self, params: Any, given: Preparing) -> Prepared:
        return prepared(Path(params.path), params.restore, klass=params.klass, own=params.own)

    async def inject(self, record: Record, io: FaultIO) -> None:
        Path(record["path"]).with_suffix(".runner").write_text(str(os.getpid()))
        Path(record["path"]).write_text(io.token)

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        if record["own"] and os.getpid() != int(Path(record["path"]).with_suffix(".runner").read_text()):
            return Observed(State.GONE, "it ended with the runner")
        if record["restore"] == "blind":
            return Observed(State.UNKNOWN, "no look")
        return Observed(State.INJECTED if Path(record["path"]).exists() else State.RESTORED)

    async def restore(self, record: Record, io: FaultIO) -> None:
        path = Path(record["path"])
        with path.with_suffix(".restores").open("a") as file:
            file.write(f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME)} {time.time_ns()}\n")
        match record["restore"]:
            case "fails" if not path.with_suffix(".healed").exists():
                raise NotUndone("the other side says no")
            case "hangs":
                await asyncio.sleep(3600)
            case "blocks":
                time.sleep(3600)
            case "lies":
                return
        if path.exists() and path.read_text() == io.token:
            path.unlink()


def prepared(path: Path, restore: str = "fine", *, klass: Klass = Klass.REVERSIBLE, own: bool = False) -> Prepared:
    """As the fault's own, without a drill file."""
    target = f"clients:{path.name}" if own else f"file:{path}"
    return Prepared(
        klass=klass,
        targets=(target,),
        of=1,
        record={"path": str(path), "restore": restore, "own": own},
        commands=(Command(f"touch {path}", f"rm {path}"),),
        restored_by="the tooth fairy" if klass is Klass.IRREVERSIBLE else "",
    )


def installed(folder: Path) -> Path:
    """A distribution that offers it, in `folder`; for PYTHONPATH."""
    info = folder / "test_marker-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: test-marker\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[stream_probe.faults]\n{KIND} = {__name__}:{MarkerFault.__name__}\n")
    return folder
