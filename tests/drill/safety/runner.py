"""`python -m tests.drill.safety.runner SPEC`: what a runner does of a drill as far as safety goes, of any kind of fault: prepare,
ledger, watchdog, then for each fault `will`, inject, observe; hold; undo. Says what it has come to on stdout, a word a line.

SPEC is a file of JSON: `state`, `lasts` and `hold` in seconds, `faults`: name → [kind, what a drill file has under `with:`].
Undone early on SIGTERM, SIGINT, and where it has lost its watchdog."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from probe.clock import BootClock, SystemClock
from probe.drill.faults.base import FaultIO, Prepared, Preparing, State
from probe.drill.faults.table import fault
from probe.drill.guard import Guard, guarded
from probe.drill.ledger import Ledger
from probe.drill.undoing import BOUND, undo
from probe.model.clock import NS
from probe.net.redact import Redactor

_BOUND = replace(BOUND, total=10 * NS)
_SEEN = 3.0  # s for an injection to be seen


async def main() -> int:
    spec = json.loads(Path(sys.argv[1]).read_text())
    say("runner", os.getpid())
    clock, boot, redactor = SystemClock(), BootClock(), Redactor()
    stopped = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stopped.set)
    lasts = int(spec["lasts"] * NS)
    ready: list[tuple[str, str, Prepared, str]] = []
    for name, (kind, words) in spec["faults"].items():
        token = secrets.token_hex(4)
        given = Preparing(clock=clock, token=token, lasts=lasts, expires=boot.now() + lasts, redactor=redactor)
        ready.append((name, kind, await fault(kind).prepare(fault(kind).params.model_validate(words), given), token))
    numbers: list[int] = []
    with Ledger.opened(Path(spec["state"]) / "drills", drill="stub", run=f"{clock.wall().unix_ns:020x}") as ledger:
        say("ledger", ledger.path)
        async with guarded(ledger, kinds=[kind for _, kind, *_ in ready]) as guard:
            say("guarded", guard.pid)
            for name, kind, prepared, token in ready:
                if stopped.is_set() or guard.died.is_set():
                    break
                expires = boot.now() + lasts  # from now: what is injected late would else be so after its time
                numbers.append(await asyncio.to_thread(ledger.will, name, kind, prepared, token, expires))
                say("will", name)
                io = FaultIO(clock=clock, token=token, expires=expires, redactor=redactor)
                if await injected(kind, prepared.record, io):
                    await asyncio.to_thread(ledger.injected, numbers[-1])
                    say("injected", name)
            await over(stopped, guard, spec["hold"])
            say("undoing")
            for number in reversed(numbers):
                undone = await undo(ledger.entry(number), ledger, clock=clock, redactor=redactor, bound=_BOUND)
                say("undone", undone.state, undone.by)
        say("left")
    return 130 if stopped.is_set() else 0


async def injected(kind: str, record: Any, io: FaultIO) -> bool:
    """Whether it was seen to be."""
    try:
        async with asyncio.timeout(_SEEN):
            await fault(kind).inject(record, io)
            while (await fault(kind).observe(record, io)).state is not State.INJECTED:  # noqa: ASYNC110  # by looking
                await asyncio.sleep(0.05)
    except Exception as error:
        say("not injected", kind, type(error).__name__, error)
        return False
    return True


async def over(stopped: asyncio.Event, guard: Guard, hold: float) -> None:
    try:
        async with asyncio.timeout(hold):
            while not (stopped.is_set() or guard.died.is_set()):  # noqa: ASYNC110  # either of two
                await asyncio.sleep(0.02)
        say("signalled" if stopped.is_set() else f"alone {guard.why}")
    except TimeoutError:
        pass


def say(*words: object) -> None:
    print(*words, flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
