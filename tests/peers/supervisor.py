"""`python -m tests.peers.supervisor DOWN COMMAND…`: starts a command anew DOWN seconds after it ended, as runit or systemd would,
until it is itself ended, with its process group."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def supervised(command: Sequence[str | Path], down: float | None) -> list[str | Path]:
    """The command under a supervisor; by itself where `down` is None."""
    return list(command) if down is None else [sys.executable, "-S", __file__, str(down), *command]


if __name__ == "__main__":
    while True:
        subprocess.call(sys.argv[2:])
        time.sleep(float(sys.argv[1]))
