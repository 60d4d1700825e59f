"""A whole matrix run, as people start it: what it takes of memory, and whether the probe starved itself.

Against a real MediaMTX where the environment's MEDIAMTX names its binary (three ways in, five ways out), else against the
sandbox (two in, four out), which starves beside us where we do.

python -m tests.bench.matrix
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.support import command, environment, verdict_in
from tests.faults.platform import Platform
from tests.tools import ROOT, free_port, spawn, wait_until

MOST_MB = 1500
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
_CONFIGURATION = """\
logLevel: info
rtspAddress: 127.0.0.1:{rtsp}
rtspTransports: [tcp]
rtmpAddress: 127.0.0.1:{rtmp}
hlsAddress: 127.0.0.1:{hls}
webrtcAddress: 127.0.0.1:{webrtc}
webrtcLocalUDPAddress: 127.0.0.1:{udp}
srtAddress: 127.0.0.1:{srt}
paths: {{all_others: }}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One matrix run: the probe's own process alone. `taints` are counted by session."""

    against: str
    exit: int
    cells: int
    done: int
    peak_mb: float
    cpu: float
    health: dict[str, Any]
    taints: dict[str, int]


async def measure(folder: Path) -> Run:
    binary = os.environ.get("MEDIAMTX")
    if binary:
        async with _mediamtx(Path(binary), folder) as ports:
            named = {f"MEDIAMTX_{name.upper()}_PORT": str(port) for name, port in ports.items()}
            return await _run(folder, "MediaMTX", ROOT / "scenarios" / "mediamtx.yaml", named)
    (folder / "matrix-sandbox").mkdir()
    with Platform.started(folder / "matrix-sandbox") as platform:
        named = {**platform.environment, "RTMP_URL": platform.ready["rtmp_url"]}
        return await _run(folder, "the sandbox", ROOT / "scenarios" / "every-way.yaml", named)


async def _run(folder: Path, against: str, scenario: Path, named: dict[str, str]) -> Run:
    out, peak, cpu = folder / "matrix", 0, 0.0
    with spawn(command(out, scenario), folder / "matrix.log", env=environment(**named), cwd=ROOT) as child:
        while child.running():
            with contextlib.suppress(OSError, IndexError):
                found = _PEAK.search(Path(f"/proc/{child.pid}/status").read_text())
                peak = max(peak, int(found[1])) if found else peak
                fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
                cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            await asyncio.sleep(0.05)
        code = child.popen.returncode
        verdict = verdict_in(out)
        assert verdict, child.text()
    sessions = [s for run in verdict["runs"] for s in run["sessions"]]
    viewers = [s for s in sessions if s["role"] == "viewer"]
    return Run(
        against,
        code,
        len(viewers),
        sum(s["outcome"] == "done" for s in viewers),
        peak * 1024 / 1e6,
        cpu,
        verdict["probe"]["health"],
        dict(Counter(taint for s in sessions for taint in s["taints"])),
    )


def rows(run: Run) -> list[tuple[str, ...]]:
    """For a table."""
    figures = [(name, str(value)) for name, value in run.health.items() if not isinstance(value, list | dict)]
    taints = ", ".join(f"{name} in {count} sessions" for name, count in run.taints.items()) or "none"
    return [
        (f"against {run.against}", f"exit {run.exit}"),
        ("cells that played", f"{run.done} of {run.cells}"),
        ("the probe's resident memory at its peak, MB", f"{run.peak_mb:.0f}"),
        ("the probe's CPU, s", f"{run.cpu:.1f}"),
        *figures,
        ("taints", taints),
    ]


def targets(run: Run) -> dict[str, bool]:
    """What was aimed at, and whether it holds."""
    own = {
        name: count
        for name, count in run.taints.items()
        if name in ("loop_lag", "decode_backlog", "cpu_starved", "publisher_late")
    }
    return {
        f"a matrix run stays under {MOST_MB} MB: {run.peak_mb:.0f}": 0 < run.peak_mb < MOST_MB,
        f"and does not starve itself: {own or 'no taint of its own'}": not own,
    }


@contextlib.asynccontextmanager
async def _mediamtx(binary: Path, folder: Path) -> AsyncIterator[dict[str, int]]:
    kinds = {
        name: socket.SOCK_DGRAM if name in ("srt", "udp") else socket.SOCK_STREAM
        for name in ("rtsp", "rtmp", "hls", "webrtc", "udp", "srt")
    }
    ports = {name: free_port(kind) for name, kind in kinds.items()}
    configuration = folder / "mediamtx.yml"
    configuration.write_text(_CONFIGURATION.format(**ports))
    with spawn([binary, configuration], folder / "mediamtx.log", cwd=folder) as child:
        await wait_until(lambda: f":{ports['srt']}" in child.text(), 10, "MediaMTX")
        yield ports


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        run = await measure(Path(name))
    for row in rows(run):
        print(*row, sep="  ")
    for target, ok in targets(run).items():
        print("held  " if ok else "MISSED", target)


if __name__ == "__main__":
    asyncio.run(main())
