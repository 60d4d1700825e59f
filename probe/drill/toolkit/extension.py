"""What a Chaos Toolkit experiment may name as `module`: a drill as one action, safe under whatever becomes of `chaos run`.

    {"type": "action", "name": "run-drill", "provider": {"type": "python", "module": "probe.drill.toolkit.extension",
     "func": "run", "arguments": {"drill": "origin-restart"}}}

`run` is a child process with its own ledger and watchdog: Ctrl-C and SIGTERM of `chaos run` reach it, kill -9 of `chaos run` does
not stop its watchdog. Only what chaoslib hands its functions is used; nothing of it is imported but its exception.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probe.drill.toolkit.writing import NOT_RESTORED, WEAKNESS

try:
    from chaoslib.exceptions import ActivityFailed
except ImportError:  # called by hand, without the toolkit

    class ActivityFailed(Exception):  # type: ignore[no-redef]
        """As chaoslib's."""


_PROBE = (sys.executable, "-m", "probe")
_passed: dict[str, bool] = {}  # of this `chaos run`, by name of the drill
_WORDS = {1: WEAKNESS, 2: "bad configuration", 3: "inconclusive, invalid or aborted", 4: "internal error", 5: NOT_RESTORED}


def run(drill: str | Mapping[str, Any], out: str = "", arguments: Sequence[str] = ()) -> dict[str, Any]:
    """Run a drill: the name of one that comes along, a file, or its contents. Its verdict.json; files in `out`. Raises
    ActivityFailed for every verdict but pass."""
    name = drill if isinstance(drill, str) else str(drill.get("drill"))
    _passed[name] = False
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        file = Path(folder) / f"{name}.yaml"
        if not isinstance(drill, str):
            file.write_text(json.dumps(dict(drill)))
        where = out or str(Path(folder) / "out")
        command = [
            *_PROBE,
            "drill",
            "run",
            str(drill) if isinstance(drill, str) else str(file),
            "--out",
            where,
            "--quiet",
            *arguments,
        ]
        code, said = _call(command)
        verdict = _json(Path(where) / "verdict.json")
    if code:
        raise ActivityFailed(f"drill {name}: {_WORDS.get(code, f'exit code {code}')}: {said}")
    _passed[name] = True
    return verdict


def well(drill: str = "") -> bool:
    """Before `run`: nothing is left broken by a drill before. After it: it passed."""
    if drill in _passed:
        return _passed[drill]
    code, _ = _call([*_PROBE, "drill", "recover", "--list"])
    return code == 0


def recover() -> bool:
    """Put back what a drill that is dead left open. Raises ActivityFailed where something is not put back."""
    code, said = _call([*_PROBE, "drill", "recover"])
    if code:
        raise ActivityFailed(said)
    return True


def _call(command: Sequence[str]) -> tuple[int, str]:
    """Exit code and the last line said. Whatever ends us ends it first, by SIGTERM, and it puts back before it goes."""
    said_to, nothing = subprocess.PIPE, subprocess.DEVNULL
    process = subprocess.Popen(list(command), stdin=nothing, stdout=said_to, stderr=subprocess.STDOUT, text=True)  # noqa: S603  # our own program
    try:
        said, _ = process.communicate()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    lines = [line for line in said.splitlines() if line.strip()]
    return process.returncode, lines[-1] if lines else ""


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found
