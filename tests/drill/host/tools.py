"""What the tests of host faults share: a fault as the runner holds it, an undo by another process, and a process to be hit."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from probe.clock import SystemClock, boottime
from probe.drill.faults.base import Fault, FaultIO, Observed, Prepared, Preparing, Refused, State
from probe.drill.faults.table import fault as by_name
from probe.net.redact import Redactor
from tests.tools import ROOT, wait_until

_PROGRAM = """
import asyncio, json, sys
from probe.clock import SystemClock
from probe.drill.faults.base import FaultIO
from probe.drill.faults.table import fault
from probe.net.redact import Redactor
async def undone(order):
    io = FaultIO(clock=SystemClock(), token=order["token"], expires=order["expires"], redactor=Redactor())
    kind = fault(order["kind"])
    await kind.restore(order["record"], io)
    return await kind.observe(order["record"], io)
for line in sys.stdin:
    try:
        seen = asyncio.run(undone(json.loads(line)))
        print(seen.state, seen.detail, flush=True)
    except Exception as error:
        print("raised", repr(error), flush=True)
"""
_elsewhere: list[subprocess.Popen[str]] = []  # one process for all tests of a folder, where its conftest says so


def _asked_elsewhere(order: str) -> str:
    [process] = _elsewhere
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(order + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


@dataclass
class Course:
    """One fault on its way, as a runner would hold it; its record is what a ledger would give back."""

    kind: str
    fault: Fault
    prepared: Prepared
    io: FaultIO

    @property
    def record(self) -> dict[str, Any]:
        return json.loads(json.dumps(dict(self.prepared.record)))

    async def inject(self) -> None:
        await self.fault.inject(self.record, self.io)

    async def look(self) -> Observed:
        return await self.fault.observe(self.record, self.io)

    async def sees(self, state: State, deadline: float = 10.0) -> Observed:
        """Look until it is so."""
        last: list[Observed] = []

        async def so() -> Observed | None:
            last[:] = [await self.look()]
            return last[0] if last[0].state is state else None

        try:
            return await wait_until(so, deadline, f"{state}")
        except AssertionError:
            raise AssertionError(f"never seen {state}, but {last}") from None

    async def restore(self) -> None:
        await self.fault.restore(self.record, self.io)

    async def undone_elsewhere(self) -> str:
        """What another process, with nothing but the record, did and then saw."""
        order = {"kind": self.kind, "token": self.io.token, "expires": self.io.expires, "record": self.record}
        with nullcontext() if _elsewhere else elsewhere():
            return await asyncio.to_thread(_asked_elsewhere, json.dumps(order))


async def prepared(kind: str, words: dict[str, Any], *, lasts: float = 20.0, fault: Fault | None = None) -> Course:
    """What `prepare` makes of a file's `with:`. Raises Refused."""
    chosen = fault or by_name(kind)
    token, expires = secrets.token_hex(4), boottime() + int(lasts * 1e9)
    given = Preparing(clock=SystemClock(), token=token, lasts=int(lasts * 1e9), expires=expires)
    found = await chosen.prepare(chosen.params.model_validate(words), given)
    return Course(kind, chosen, found, FaultIO(clock=SystemClock(), token=token, expires=expires, redactor=Redactor()))


async def refusal(kind: str, words: dict[str, Any], *, fault: Fault | None = None) -> str:
    """Why it is refused, before anything is touched."""
    with pytest.raises(Refused) as refused:
        await prepared(kind, words, fault=fault)
    return str(refused.value)


def script(folder: Path, name: str, text: str) -> list[str]:
    """The command of a Python program that stands in a file of this name."""
    path = folder / name
    path.write_text(text)
    return [sys.executable, "-S", str(path)]


def label() -> str:
    """Of one test's own processes and no others."""
    return f"target-{secrets.token_hex(6)}"


@contextmanager
def elsewhere() -> Iterator[None]:
    """The other process, which knows nothing but what it is given."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    _elsewhere.append(process)
    try:
        yield
    finally:
        _elsewhere.clear()
        with process:
            process.kill()


def proc_state(pid: int) -> str:
    """The letter of /proc/PID/stat; `gone` where there is none. Read here, not by what is tested."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def pids_with(word: str) -> list[int]:
    """Processes that have this word in their command line and run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if word.encode() in (entry / "cmdline").read_bytes() and proc_state(int(entry.name)) not in ("Z", "gone"):
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found
