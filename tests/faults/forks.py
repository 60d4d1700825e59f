"""`probe` without paying for its imports each time: one process has imported it all, and forks for every run.

What runs in the fork is the whole of `python -m probe ARGUMENTS`, to the interpreter's own end. The process reads one order
a line (JSON: arguments, environment, files for stdout and stderr, seconds after which the run is killed) and answers each
with the exit code; it ends when its stdin does. Orders follow one another, as the runs of the table do.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Forks:
    """The process that forks, from outside."""

    process: subprocess.Popen[str]

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Forks]:
        command = [sys.executable, "-m", __name__]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            yield cls(process)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)

    def run(self, arguments: Sequence[str], env: Mapping[str, str], out: Path, timeout: float) -> tuple[int, str, str]:
        """Exit code (negative: the signal that killed it; SIGALRM after `timeout`), stdout and stderr."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        out.mkdir(parents=True, exist_ok=True)
        files = [out / "stdout.txt", out / "stderr.txt"]
        order = {"arguments": [*arguments], "env": dict(env), "files": [str(file) for file in files], "timeout": timeout}
        print(json.dumps(order), file=self.process.stdin, flush=True)
        code = int(self.process.stdout.readline())
        stdout, stderr = (file.read_text(encoding="utf-8", errors="replace") for file in files)
        return code, stdout, stderr


def _become(order: dict[str, Any]) -> None:
    """What the shell does between fork and exec."""
    for number, file in enumerate([os.devnull, *order["files"]]):
        opened = os.open(file, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = ["probe", *order["arguments"]]
    signal.setitimer(signal.ITIMER_REAL, order["timeout"])


def main() -> None:
    import probe.cli.app  # noqa: F401  # the imports that every fork then has
    from probe.cli import main as probe_main
    from probe.drivers.table import table
    from probe.export.report import compiled
    from probe.rtc import upstream

    table()  # imports the drivers
    compiled(str)
    upstream.check()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
            probe_main()
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
