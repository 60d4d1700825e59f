"""What faults need of systemd: a unit's main process, and to start, stop or restart it, by systemctl(1).

Jobs are queued (`--no-block`), never waited for: whether a unit is back is for a look to say, under the drill's own time. What
systemctl prints is read by name, not by place.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from probe.decide.command import run_command

UNIT = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,251}\.service", re.ASCII)
_BOOTED = "/run/systemd/system"  # sd_booted(3)
_WITHIN = 5.0
_ENVIRONMENT = ("PATH", "DBUS_SYSTEM_BUS_ADDRESS", "SYSTEMCTL_FORCE_BUS")


class NoUnit(Exception):
    """It cannot be told or done; says why."""


@dataclass(frozen=True, slots=True)
class Unit:
    """`main`: its process, 0 where none runs."""

    name: str
    main: int


def runs() -> bool:
    """Whether this machine was booted by systemd and we can speak with it."""
    return os.path.isdir(_BOOTED) and shutil.which("systemctl") is not None


async def unit(name: str) -> Unit:
    """Raises NoUnit."""
    properties = "--property=LoadState,MainPID"
    said = await _systemctl("show", properties, "--", name)
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    if found.get("LoadState") != "loaded":
        raise NoUnit(f"systemd has no unit {name} ({found.get('LoadState') or 'no answer'})")
    main = found.get("MainPID", "")
    return Unit(name, int(main) if main.isascii() and main.isdecimal() else 0)


async def told(verb: str, name: str) -> None:
    """`start`, `stop` or `restart`, queued. Raises NoUnit."""
    await _systemctl("--no-block", verb, "--", name)


async def _systemctl(*words: str) -> str:
    done, said = await run_command(("systemctl", *words), _environment(os.environ), _WITHIN)
    if not done:
        raise NoUnit(f"systemctl {words[0]} {said.strip()}"[:300])
    return said


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    return {"LC_ALL": "C", "SYSTEMD_PAGER": "", **{key: ours[key] for key in _ENVIRONMENT if key in ours}}
