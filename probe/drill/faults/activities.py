"""Actions and rollbacks of a Chaos Toolkit experiment as one fault: any extension of theirs, under our ledger and watchdog.

Injected is what its probes say, not what its actions returned: those of the method that have a tolerance (theirs ignores it) must
all be met while the fault is there and none of them once it is not. An experiment without such a probe is refused: nobody
could say whether anything was broken. Rollbacks are to be harmless where nothing is broken, as the toolkit asks of them too.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from probe.drill.faults.base import (
    Command,
    FaultIO,
    Klass,
    NotUndone,
    Observed,
    Params,
    Prepared,
    Preparing,
    Record,
    Refused,
    State,
)
from probe.errors import ProbeError
from probe.model.clock import NS

_WITHIN = 60.0  # s for all activities of one visit, unless they name longer
_SEEN = 10 * NS  # a look is a process of its own
_MOST = 256 * 1024
_SHOWN = 120

OWN = "experiment:"  # the kind of target that any code is
Activity = Mapping[str, Any]


class Activities(Params):
    """`actions` break, `rollbacks` put back, `probes` (each with a tolerance) say whether it is broken. `target` is what
    allow-lists and leases call it; only its author says so, so that a policy must allow `experiment:…` of that name, too."""

    target: str
    actions: tuple[Activity, ...] = Field(min_length=1)
    rollbacks: tuple[Activity, ...] = ()
    probes: tuple[Activity, ...] = Field(min_length=1)
    configuration: Mapping[str, Any] = {}
    secrets: Mapping[str, Any] = {}


class ActivitiesFault:
    """Row `activities`."""

    about: ClassVar[str] = "the actions and rollbacks of a Chaos Toolkit experiment"
    params: ClassVar[type[Params]] = Activities

    async def prepare(self, params: Activities, given: Preparing) -> Prepared:
        if not params.rollbacks:
            raise Refused("has no rollbacks: nothing would put back what its actions break", "rollbacks")
        if written := _written_down(params.secrets):
            raise Refused(f"{written} is written down; say where it is: {{type: env, key: NAME}}", "secrets")
        record = params.model_dump(mode="json") | {"inject_within": int(_WITHIN * NS), "seen_within": _SEEN}
        try:
            await _run(record, ())
        except _Broken as broken:
            raise Refused(str(broken)) from None
        targets = tuple(dict.fromkeys((params.target, f"{OWN}{params.target.rpartition(':')[2]}")))
        return Prepared(
            klass=Klass.REVERSIBLE,
            targets=targets,
            of=len(targets),
            record=record,
            commands=tuple(
                Command(do=_told(do) if do else "", undo=_told(undo) if undo else "")
                for do, undo in _beside(params.actions, params.rollbacks)
            ),
        )

    async def inject(self, record: Record, io: FaultIO) -> None:
        try:
            runs = await _run(record, record["actions"])
        except _Broken as broken:
            raise ProbeError(str(broken)) from None
        for run in runs:
            if run["status"] == "failed":
                raise ProbeError(f"action {run['name']!r} failed: {run.get('error', '')}")

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        try:
            runs = await _run(record, record["probes"])
        except _Broken as broken:
            return Observed(State.UNKNOWN, str(broken))
        if failed := [run for run in runs if run["status"] == "failed"]:
            return Observed(State.UNKNOWN, f"probe {failed[0]['name']!r} failed: {failed[0].get('error', '')}")
        met = [run["name"] for run in runs if run.get("met")]
        if not met:
            return Observed(State.RESTORED, f"none of {len(runs)} probes is met")
        if len(met) == len(runs):
            return Observed(State.INJECTED, f"met: {', '.join(met)}"[:_SHOWN])
        return Observed(State.UNKNOWN, f"{len(met)} of {len(runs)} probes are met")

    async def restore(self, record: Record, io: FaultIO) -> None:
        try:
            runs = await _run(record, record["rollbacks"])
        except _Broken as broken:
            raise NotUndone(str(broken)) from None
        for run in runs:
            if run["status"] == "failed":
                raise NotUndone(f"rollback {run['name']!r} failed: {run.get('error', '')}")


class _Broken(Exception):
    """The child could not run them."""


async def _run(record: Record, activities: Sequence[Activity]) -> list[dict[str, Any]]:
    """Each as it went, in the child. Raises _Broken. None of them at all: is the library there, and what they need to know?"""
    order = {"activities": list(activities), "configuration": record["configuration"], "secrets": record["secrets"]}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "probe.drill.toolkit.activity"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        limit=_MOST,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        async with asyncio.timeout(_WITHIN):
            process.stdin.write(json.dumps(order).encode())
            process.stdin.close()
            raw = b""
            while len(raw) <= _MOST and (more := await process.stdout.read(_MOST)):
                raw += more
            await process.wait()
        answer = json.loads(raw)
    except TimeoutError:
        raise _Broken(f"activities took longer than {_WITHIN:g} s") from None
    except (ValueError, OSError):
        raise _Broken("the process that runs activities ended without an answer") from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # and what it started: it leads a session of its own
            await process.wait()
    if "missing" in answer:
        raise _Broken(answer["missing"])
    runs: list[dict[str, Any]] = answer["runs"]
    return runs


def _written_down(secrets: Mapping[str, Any]) -> str:
    """The first that is a value and no reference: the ledger is to hold none."""
    for target, names in secrets.items():
        for name, value in names.items() if isinstance(names, Mapping) else ():
            if not (isinstance(value, Mapping) and value.get("type") in ("env", "file", "vault")):
                return f"{target}.{name}"
    return ""


def _beside(actions: Sequence[Activity], rollbacks: Sequence[Activity]) -> list[tuple[Activity | None, Activity | None]]:
    most = max(len(actions), len(rollbacks))
    return [(actions[i] if i < len(actions) else None, rollbacks[i] if i < len(rollbacks) else None) for i in range(most)]


def _told(activity: Activity) -> str:
    """As a person would say it; arguments are left out, since they may be filled from secrets."""
    provider = activity.get("provider") or {}
    match provider.get("type"):
        case "http":
            how = f"{provider.get('method', 'GET')} {str(provider.get('url', '')).partition('?')[0]}"
        case "process":
            how = str(provider.get("path", ""))
        case _:
            how = f"{provider.get('module', '')}.{provider.get('func', '')}()"
    return f"{activity.get('name', '')}: {how}"[:_SHOWN]
