"""Ctrl-C, SIGTERM and a terminal that hung up: the first asks for a clean end (sessions ended, rooms undone, everything
measured written), the second does not wait."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from probe.cli import exits
from probe.cli.early import NUMBERS, leave_at_once


class Interrupted(Exception):
    """A signal ended the work; everything that could be put back was."""

    def __init__(self, number: int) -> None:
        self.signal = number
        super().__init__(signal.Signals(number).name)


class Signals:
    """`number` is the first signal that came, 0 before. `parting` is called when the second ends the process, for last words and
    another exit code than the signal's."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.number = 0
        self.parting: Callable[[int], int] = exits.of_signal
        self._task: asyncio.Task[Any] | None = task

    def came(self, number: int) -> None:
        if self.number:
            os._exit(self.parting(number))
        self.number = number
        if self._task is not None:
            self._task.cancel()

    async def settle(self) -> None:
        """The work is over: from here on a signal is only remembered, and one that came just now no longer cancels."""
        task, self._task = self._task, None
        if task is not None and task.cancelling():
            task.uncancel()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

    async def last(self) -> int:
        """`number`, once the loop has had a turn: what came while files were written is told of nowhere else."""
        await asyncio.sleep(0.001)
        return self.number


@contextmanager
def cancelling(numbers: Sequence[signal.Signals] = NUMBERS) -> Iterator[Signals]:
    """While inside, the first signal cancels the current task, as Interrupted where that ends it; the second ends the
    process at once."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    signals = Signals(task)
    taken = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    for number in taken:
        loop.add_signal_handler(number, signals.came, number)
    try:
        yield signals
    except asyncio.CancelledError:
        if not signals.number:
            raise
        raise Interrupted(signals.number) from None
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
        leave_at_once()


async def until_signalled(work: Coroutine[Any, Any, Any]) -> None:
    """Await `work`; a signal ends it quietly, as Interrupted."""
    with cancelling():
        await work
