"""`python -m tests.drill.safety.runner STATE FOLDER [--faults N] [--lasts S] [--restore HOW] …`: what a runner does of a drill as
far as safety goes: ledger, watchdog, `will`, inject, hold, undo. Says what it has come to on stdout, a word a line."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
from pathlib import Path

from probe.clock import BootClock, SystemClock
from probe.drill.faults.base import FaultIO
from probe.drill.faults.table import fault
from probe.drill.guard import guarded
from probe.drill.ledger import Ledger
from probe.drill.undoing import Bound, undo
from probe.model.clock import NS
from probe.net.redact import Redactor
from tests.drill.safety.marker import KIND, prepared


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("state", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faults", type=int, default=1)
    parser.add_argument("--hold", type=float, default=60.0)
    parser.add_argument("--lasts", type=float, default=60.0)
    parser.add_argument("--restore", default="fine")
    parser.add_argument("--own", action="store_true")
    given = parser.parse_args()
    clock, boot, redactor = SystemClock(), BootClock(), Redactor()
    stopped = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stopped.set)
    with Ledger.opened(given.state / "drills", drill="stub", run=f"{clock.wall().unix_ns:020x}") as ledger:
        say("ledger", ledger.path)
        async with guarded(ledger, kinds=[KIND]) as guard:
            say("guarded", guard.pid)
            numbers = []
            for n in range(given.faults):
                token, expires = secrets.token_hex(4), boot.now() + int(given.lasts * NS)
                how = given.restore.split(",")
                ready = prepared(given.folder / f"fault-{n}", how[n % len(how)], own=given.own)
                numbers.append(ledger.will(f"fault-{n}", KIND, ready, token, expires))
                say("will", n)
                io = FaultIO(clock=clock, token=token, expires=expires, redactor=redactor)
                await fault(KIND).inject(ready.record, io)
                ledger.injected(numbers[-1])
                say("injected", n)
            try:
                async with asyncio.timeout(given.hold):
                    while not (stopped.is_set() or guard.died.is_set()):  # noqa: ASYNC110  # either of two
                        await asyncio.sleep(0.02)
                say("signalled" if stopped.is_set() else f"alone {guard.why}")
            except TimeoutError:
                pass
            for number in reversed(numbers):
                undone = await undo(ledger.entry(number), ledger, clock=clock, redactor=redactor, bound=Bound(total=2 * NS))
                say("undone", undone.state, undone.by)
        say("left")


def say(*words: object) -> None:
    print(*words, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
