"""The program that `probe agent` becomes: the command line is read, and then nobody needs what read it.

An agent stands for months, so what it has imported is weighed: the commands, their parser and their tables are 25 MiB. So the
command replaces itself (exec: the same process to whoever supervises it) by this, which forks what its workers come from before
it imports anything of its own (seed.py), and then is an agent and nothing else.

    python -m probe.cli.standing [--once] [--verbose] [--to=URL] [--login=REFERENCE] -- FILE     # written by `become` alone
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from probe.cli.early import prepare


def become(file: Path, *, once: bool, verbose: bool, to: str = "", login: str = "") -> NoReturn:
    """Leave the command behind, and be the agent."""
    options = [word for word, wanted in (("--once", once), ("--verbose", verbose)) if wanted]
    options += [f"{word}={value}" for word, value in (("--to", to), ("--login", login)) if value]
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its workers are forked: no thread may run by then
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execv(sys.executable, [sys.executable, "-m", __name__, *options, "--", str(file)])  # noqa: S606 - there is to be no shell


def main() -> int:
    prepare()
    from probe.agent.seed import sow

    seed = sow()  # before there is a loop
    from probe.agent.slim import one_arena

    one_arena()
    from probe.cli import agent
    from probe.cli.guarded import guarded

    parser = argparse.ArgumentParser(prog="probe agent")
    for flag in ("--once", "--verbose"):
        parser.add_argument(flag, action="store_true")
    for option in ("--to", "--login"):
        parser.add_argument(option, default="")
    parser.add_argument("file", type=Path)
    given = vars(parser.parse_args())
    return guarded(lambda: agent.serve(seed=seed, **given))


if __name__ == "__main__":
    sys.exit(main())
