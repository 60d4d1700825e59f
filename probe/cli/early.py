"""What holds from the first moment, before the large imports: how a signal ends the process, and what a lost reader costs.

Ctrl-C while nothing is open yet, or everything is closed again, ends the process at once with the contract's code and no
traceback; `signals.cancelling` takes over in between. Output is never a reason to break off: a reader who went away
(`| head -1`), a terminal that hung up, a full disk or an encoding without our characters costs the text, not the run.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import TextIO, cast

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Steady:
    """A text stream that goes silent where writing to it fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """What is still buffered goes nowhere, now and when the interpreter ends."""
        with suppress(OSError, ValueError):
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, self._stream.fileno())
            os.close(silence)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def prepare() -> None:
    """Once, first of all."""
    leave_at_once()
    _fill_in()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        with suppress(AttributeError):  # a replaced stream, as in tests
            stream.reconfigure(errors="replace" if name == "stdout" else "backslashreplace")
        setattr(sys, name, cast(TextIO, Steady(stream)))


def leave_at_once() -> None:
    """A signal ends the process; right while nothing is open. One that our parent had us ignore (nohup) stays ignored."""
    for number in NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)


def _fill_in() -> None:
    """A closed stdin, stdout or stderr would lend its number to the next socket, and prints would go there."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", closefd=False))
