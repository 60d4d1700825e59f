"""`probe smoke` as a person runs it, against platforms that are not the sandbox of tests/faults."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.faults.platform import Ran
from tests.tools import ROOT

HERE = Path(__file__).parent
FILES = ("verdict.json", "junit.xml", "report.html", "observations.jsonl", "metrics.prom", "trace.json")


def command(out: Path, *arguments: str | Path) -> list[str]:
    """`probe smoke …`, everything it writes under `out` unless `arguments` say otherwise."""
    given = [str(argument) for argument in arguments]
    for option, place in (("--out", out), ("--state", out / "state")):
        given += [] if option in given else [option, str(place)]
    return [sys.executable, "-m", "probe", "smoke", *given]


def environment(**more: str) -> dict[str, str]:
    """This process's own, without what would send telemetry or name a region, and `more`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_") and name != "PROBE_REGION"}
    return {**clean, **more}


async def smoke(out: Path, *arguments: str | Path, env: Mapping[str, str] = {}, deadline: float = 40) -> Ran:
    """`probe smoke …` to its end. TimeoutError, and the process killed, where that takes more than `deadline` seconds."""
    process = await asyncio.create_subprocess_exec(
        *command(out, *arguments),
        cwd=ROOT,
        env=environment(**env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(deadline):
            said, complained = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ran(process.returncode, said.decode(), complained.decode(), verdict_in(out), out)


def verdict_in(out: Path) -> dict[str, Any]:
    file = out / "verdict.json"
    return json.loads(file.read_text()) if file.exists() else {}


def explained(ran: Ran) -> str:
    """Why a run ended as it did, and how the probe was meanwhile: for the message of an assertion."""
    verdict = ran.verdict
    taints = {s["name"]: s["taints"] for run in verdict.get("runs", []) for s in run["sessions"] if s["taints"]}
    cuts = {s["name"]: s["reconnects"] for run in verdict.get("runs", []) for s in run["sessions"] if s["reconnects"]}
    return (
        f"exit {ran.exit}, {verdict.get('result')}: {verdict.get('cause')}\n"
        f"failures {sorted(ran.failures())}, cuts {cuts}\n"
        f"the probe: {verdict.get('probe', {}).get('health')}, tainted {taints}\n{ran.stderr[-2000:]}"
    )


def sessions(ran: Ran, role: str = "viewer", protocol: str = "") -> list[dict[str, Any]]:
    """The sessions of the one run, by role and protocol."""
    (run,) = ran.verdict["runs"]
    return [s for s in run["sessions"] if s["role"] == role and protocol in ("", s["protocol"])]


def stages_add_up(session: dict[str, Any]) -> None:
    """Within 1 ms, and none of them is negative."""
    total = sum(session["stages"].values())
    assert abs(total - session["first_frame_seconds"]) < 0.001, (total, session)
    assert all(value >= 0 for value in session["stages"].values()), session


def containing(out: Path, *secrets: str) -> list[str]:
    """Files below `out` that hold one of `secrets`, and which."""
    found = []
    for file in sorted(path for path in out.rglob("*") if path.is_file()):
        text = file.read_bytes()
        found += [f"{file.relative_to(out)}: {secret}" for secret in secrets if secret.encode() in text]
    return found
