"""The program that `probe agent` becomes: the command line is read, and then nobody needs what read it.

An agent stands for months, so what it has imported is weighed: the commands, their parser and their tables are 25 MiB. So the
command replaces itself (exec: the same process to whoever supervises it) by this, which forks what its workers come from before
it imports anything of its own (seed.py), and then is an agent and nothing else.

    python -m probe.cli.standing FILE [--once] [--verbose]        # written by `become` alone
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from probe.cli.early import prepare

_ONCE, _VERBOSE = "--once", "--verbose"


def become(file: Path, *, once: bool, verbose: bool) -> NoReturn:
    """Leave the command behind, and be the agent."""
    options = [word for word, wanted in ((_ONCE, once), (_VERBOSE, verbose)) if wanted]
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its workers are forked: no thread may run by then
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execv(sys.executable, [sys.executable, "-m", __name__, str(file), *options])  # noqa: S606 - there is to be no shell


def main() -> int:
    prepare()
    from probe.agent.seed import sow

    seed = sow()  # before there is a loop
    from probe.agent.slim import one_arena

    one_arena()
    from probe.cli import agent
    from probe.cli.guarded import guarded

    file, *options = sys.argv[1:]
    return guarded(lambda: agent.serve(Path(file), once=_ONCE in options, verbose=_VERBOSE in options, seed=seed))


if __name__ == "__main__":
    sys.exit(main())
