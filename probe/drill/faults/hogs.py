"""Processes of ours that take what a host has (`hog.py`): started, found again by their token alone, ended.

Found by their command line, so that whoever reads the ledger finds them without having started them. A look reads the command
line of every process of the machine once; from then on those found are looked at by their pin, until one of them is missing.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probe.decide.command import run_command
from probe.drill.faults import pins
from probe.drill.faults.base import FaultIO, NotUndone
from probe.drill.faults.pins import Seen
from probe.errors import ProbeError

HOG = Path(__file__).with_name("hog.py")
STARTS = 30.0  # s until it has taken all
_DIES = 2.0
_MOST_WORDS = 300


class Hogs:
    """Of one fault; keeps nothing that a look would not find again."""

    def __init__(self) -> None:
        self._known: dict[str, list[Seen]] = {}

    async def start(self, order: Mapping[str, Any], io: FaultIO) -> None:
        """Returns when they have taken all that `order` says. Raises ProbeError where they cannot."""
        done, words = await run_command(_command(io.token, {**order, "expires": io.expires}), {}, STARTS)
        if not done:
            raise ProbeError(f"it was not taken: {words}"[:_MOST_WORDS])

    def alive(self, token: str) -> list[Seen]:
        """Those of this token that run. OSError where it cannot be seen."""
        known = [pins.seen(one.pin) for one in self._known.get(token, ())]
        found = [one for one in known if one is not None]
        if not found or len(found) < len(known):
            found = [one for one in pins.everyone(lambda words: _mark(token) in words) if one.alive]
            self._known[token] = found
        return found

    async def end(self, token: str) -> None:
        """Raises NotUndone where some are left."""
        for _ in range(3):  # one that was just starting others
            self._known.pop(token, None)
            there = self.alive(token)
            for one in there:
                try:
                    pins.send(one.pin, signal.SIGKILL)
                except PermissionError:
                    raise NotUndone(f"{one.pin} may not be signalled: run as the user who ran the drill, or as root") from None
            if not there:
                return
            await pins.ended([one.pin for one in there], _DIES)
        raise NotUndone("processes that take what the host has are still there")


def shown(token: str, order: Mapping[str, Any]) -> tuple[str, str]:
    """How one would do it and undo it by hand."""
    return shlex.join(_command(token, order)), f"pkill -KILL -f -- {_mark(token)}"


def _mark(token: str) -> str:
    return f"--sp-token=sp-{token}"


def _command(token: str, order: Mapping[str, Any]) -> list[str]:
    return [sys.executable, "-I", "-S", str(HOG), _mark(token), json.dumps(dict(order))]
