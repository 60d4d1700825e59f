"""Ctrl-C and SIGTERM: the first asks for a clean end (sessions ended, rooms undone, everything measured written), the second
does not wait."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from probe.cli import exits


class Interrupted(Exception):
    """A signal ended the work; everything that could be put back was."""

    def __init__(self, number: int) -> None:
        self.signal = number
        super().__init__(signal.Signals(number).name)


class Signals:
    """`number` is the first signal that came, 0 before."""

    number = 0


@contextmanager
def cancelling() -> Iterator[Signals]:
    """While inside, the first SIGINT or SIGTERM cancels the current task; the second ends the process at once."""
    loop, task, seen = asyncio.get_running_loop(), asyncio.current_task(), Signals()

    def on(number: int) -> None:
        if seen.number:
            os._exit(exits.of_signal(number))
        seen.number = number
        assert task is not None
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on, number)
    try:
        yield seen
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def until_signalled(work: Coroutine[Any, Any, Any]) -> None:
    """Await `work`; a signal ends it quietly, as Interrupted."""
    with cancelling() as seen:
        try:
            await work
        except asyncio.CancelledError:
            if not seen.number:
                raise
            raise Interrupted(seen.number) from None
