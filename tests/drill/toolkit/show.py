"""python -m tests.drill.toolkit.show: the same experiment in Chaos Toolkit and here, and what is left of its fault.

One experiment file, run by `chaos run` and by `probe drill run`, each against an embedded platform whose switchboard it uses as
any platform's: an HTTP call that breaks payments, one that mends them, a probe that sees them broken. Then the ways in which
that goes wrong: the call is refused, the switchboard is not there, the rollback is refused, the runner is killed -9, ended,
interrupted. What is left is seen from outside: do payments answer?
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from probe.cli.serve import environment
from probe.sandbox.launch import Sandbox

HELD = 6  # s
PATIENCE = 120.0
POLICY = """\
drill_policy: show
owner: tests
allow:
  - {targets: ["http:*", "experiment:*"], for: 1m}
"""
OWN = {
    "owner": "media-sre",
    "scenario": "drill-room",
    "regions": ["eu"],
    "target": "http:payments",
    "steady": {"of": ["playing >= 75%"], "within": "40s"},
    "abort": [{"when": "playing < 20% for 10s"}],
    "recovery": [{"when": "playing >= 75%", "within": "10s"}],
    "traffic": {"stay": True, "starts": None},
    "min_n": 2,
}


@dataclass(frozen=True, slots=True)
class Case:
    """`changed` of the experiment; `kill` the runner by this signal once payments are seen to be broken."""

    name: str
    changed: Mapping[str, Any]
    kill: signal.Signals | None = None


@dataclass(frozen=True, slots=True)
class Came:
    """What one of the two came to: its exit code, whether payments answered a few seconds after its end (and how soon), and what
    its journal or verdict says."""

    code: int
    well: bool
    after: float | None
    said: str


def experiment(admin: str, platform: str) -> dict[str, Any]:
    """As anybody would write it."""
    headers = {"Authorization": "Bearer ${token}", "Content-Type": "application/json"}

    def call(name: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
        provider = {"type": "http", "method": method, "url": admin + path, "headers": headers, "timeout": 5}
        return {
            "type": "action",
            "name": name,
            "secrets": ["admin"],
            "provider": provider | ({"arguments": body} if body else {}),
        }

    fault = {"fault": "refuse", "service": "payment"}
    return {
        "title": "payments away",
        "description": "Payments answer 503; video plays on.",
        "secrets": {"admin": {"token": {"type": "env", "key": "SANDBOX_ADMIN_TOKEN"}}},
        "steady-state-hypothesis": {
            "title": "the platform answers",
            "probes": [
                {"type": "probe", "name": "alive", "tolerance": 200, "provider": {"type": "http", "url": admin + "/healthz"}}
            ],
        },
        "method": [
            call("break payments", "POST", "/admin/faults", fault),
            {
                "type": "probe",
                "name": "payments are broken",
                "tolerance": 503,
                "provider": {"type": "http", "url": platform + "/payments", "timeout": 5},
                "pauses": {"after": HELD},
            },
        ],
        "rollbacks": [call("mend payments", "DELETE", "/admin/faults")],
        "extensions": [{"name": "stream-probe", "drill": OWN}],
    }


def cases(plain: Mapping[str, Any]) -> list[Case]:
    """Each changes one thing."""
    action, probe = plain["method"]
    (rollback,) = plain["rollbacks"]

    def provider(activity: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
        return {**activity, "provider": {**activity["provider"], **changed}}

    wrong = {"fault": "refuze", "service": "payment"}
    return [
        Case("all goes well", {}),
        Case("the fault is refused (HTTP 400)", {"method": [provider(action, arguments=wrong), probe]}),
        Case("the switchboard is not there", {"method": [provider(action, url="http://127.0.0.1:9/"), probe]}),
        Case(
            "the rollback is refused (HTTP 404)", {"rollbacks": [provider(rollback, url=rollback["provider"]["url"] + "x/y/z")]}
        ),
        Case("kill -9 of the runner", {}, signal.SIGKILL),
        Case("SIGTERM", {}, signal.SIGTERM),
        Case("Ctrl-C", {}, signal.SIGINT),
    ]


async def carried_out(
    command: Sequence[str], case: Case, sandbox: Sandbox, folder: Path, env: Mapping[str, str]
) -> tuple[int, Came]:
    """Run it, hit it where the case says so, and look at payments from outside for ten seconds after its end."""
    with (folder / "out.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, **env}, stdout=log, stderr=log, start_new_session=True)
        if case.kill is not None:
            await until(lambda: broken(sandbox), "payments to break", process)
            process.send_signal(case.kill)
        ends = time.monotonic() + PATIENCE
        while process.poll() is None:
            assert time.monotonic() < ends, f"{command} does not end"
            await asyncio.sleep(0.05)
    over, after = time.monotonic(), None
    while after is None and time.monotonic() < over + 10:
        after = None if await broken(sandbox) else time.monotonic() - over
        await asyncio.sleep(0.05)
    return process.returncode, Came(process.returncode, after is not None, after, "")


async def broken(sandbox: Sandbox) -> bool:
    async with aiohttp.ClientSession() as session, session.get(f"{sandbox.url}/payments") as answer:
        return answer.status == 503


async def until(condition: Any, what: str, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + PATIENCE
    while not await condition():
        assert process.poll() is None, f"ended with {process.returncode} while waiting for {what}"
        assert time.monotonic() < ends, f"no {what} within {PATIENCE:g} s"
        await asyncio.sleep(0.05)


async def theirs(case: Case, file: Path, sandbox: Sandbox, folder: Path, env: Mapping[str, str]) -> Came:
    command = [str(Path(sys.executable).parent / "chaos"), "run", "--journal-path", str(folder / "journal.json"), str(file)]
    code, came = await carried_out(command, case, sandbox, folder, env)
    judged = subprocess.run(
        [sys.executable, "-m", "probe", "drill", "journal", str(folder / "journal.json"), "--json"],
        capture_output=True,
        text=True,
    )
    try:
        journal = json.loads((folder / "journal.json").read_text())
        said = f"{'deviated' if journal['deviated'] else journal['status']}; by our rules {json.loads(judged.stdout)['verdict']}"
    except (OSError, ValueError):
        said = "no journal"
    return Came(code, came.well, came.after, said)


async def ours(case: Case, file: Path, sandbox: Sandbox, folder: Path, env: Mapping[str, str]) -> Came:
    (folder / "policy.yaml").write_text(POLICY)
    command = [
        sys.executable,
        "-m",
        "probe",
        "drill",
        "run",
        str(file),
        "--policy",
        "policy.yaml",
        "--state",
        str(folder / "state"),
    ]
    code, came = await carried_out([*command, "--out", "out", "--quiet"], case, sandbox, folder, env)
    try:
        said = json.loads((folder / "out" / "verdict.json").read_text())["drill"]["verdict"]
    except (OSError, ValueError, KeyError):
        said = "no verdict"
    return Came(code, came.well, came.after, said)


async def both(case: Case, folder: Path, runners: Sequence[Any] = (theirs, ours)) -> list[Came]:
    """One case, each on a platform of its own."""
    out = []
    for runner in runners:
        where = folder / runner.__name__
        where.mkdir(parents=True)
        async with Sandbox.start() as sandbox:
            file = where / "experiment.json"
            plain = experiment(sandbox.admin_url, sandbox.url)
            changed = next(one.changed for one in cases(plain) if one.name == case.name)
            file.write_text(json.dumps(plain | dict(changed), indent=2))
            out.append(await runner(case, file, sandbox, where, environment(sandbox)))
    return out


async def show(only: str) -> int:
    plain = experiment("", "")
    wrong = 0
    print(f"{'':36}{'chaos run':68}probe drill run")
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(one for one in cases(plain) if only in one.name):
            found = await both(case, Path(folder) / str(number))
            print(f"{case.name:36}{told(found[0]):68}{told(found[1])}", flush=True)
            wrong += not found[1].well and "rollback" not in case.name
    return 1 if wrong else 0


def told(came: Came) -> str:
    left = f"mended {came.after:.1f} s after" if came.after is not None else "LEFT BROKEN"
    return f"exit {came.code}, {left}, {came.said}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.drill.toolkit.show", description=__doc__)
    parser.add_argument("--only", default="", help="cases whose names have these words")
    sys.exit(asyncio.run(show(parser.parse_args().only)))
