"""`python -m tests.drill.library [--whole] [--weak [--patient]] [--servers]`: what the library shows; all where none is named.

whole: every drill against a healthy embedded platform, by the one command that a user would give. weak: whole drills against
platforms with a planted weakness, each to be found for its reason, and two whose faults are not what they say, to be called
invalid; patient: on a machine that others use too. servers: the first drill against nginx-rtmp and node-media-server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from probe.clock import SystemClock
from probe.drill.conduct import Conducted
from probe.drill.core.facts import Verdict
from probe.media.decoder import warm_up
from probe.rtc import warm
from tests.drill.library.play import DRILLS, Weakness, played
from tests.drill.library.servers import on_nginx, on_node_media_server
from tests.tools import ROOT

OUT = ROOT / "out" / "library"


@dataclass(frozen=True)
class Weak:
    """A platform with something planted, and what a drill is to say of it: its verdict, and a part of its reason."""

    drill: str
    planted: Weakness
    verdict: Verdict
    reason: str


WEAK = (
    Weak("origin-restart", {"fault": "not_back", "service": "whep"}, Verdict.WEAKNESS, "reconnect"),
    Weak("region-isolated", {"fault": "stale_after_down", "edge": "edge-a"}, Verdict.WEAKNESS, "reconnect"),
    Weak("token-expiry", {"fault": "rejoin_refused"}, Verdict.WEAKNESS, "reconnect"),
    Weak("edge-down", {"fault": "sham"}, Verdict.INVALID, "not seen to be injected"),
    Weak("gift-ledger-down", {"fault": "brief", "seconds": 3}, Verdict.INVALID, "before its time"),
)


def whole() -> bool:
    began = time.monotonic()
    command = [sys.executable, "-m", "probe", "drill", "run", *map(str, DRILLS), "--sandbox", "--out", str(OUT / "whole")]
    code = subprocess.run(command, check=False).returncode
    print(f"whole: {len(DRILLS)} drills in {time.monotonic() - began:.0f} s, exit {code}")
    return code == 0


async def weak(patient: bool) -> bool:
    good = True
    for number, one in enumerate(WEAK):
        done = await played(one.drill, OUT / "weak" / f"{number}-{one.drill}", one.planted, patient=patient)
        found = done.ended.verdict is one.verdict and one.reason in done.ended.reason
        _tell(f"{one.drill} with {one.planted['fault']}", done, found)
        good = good and found
    return good


async def servers() -> bool:
    good = True
    on: dict[str, Callable[[Path], Awaitable[Conducted]]] = {"nginx-rtmp": on_nginx, "node-media-server": on_node_media_server}
    for name, play in on.items():
        done = await play(OUT / "servers" / name)
        passed = done.ended.verdict is Verdict.PASS
        _tell(f"origin-restart on {name}", done, passed)
        good = good and passed
    return good


def _tell(what: str, done: Conducted, as_meant: bool) -> None:
    print(f"{'as meant' if as_meant else 'NOT AS MEANT'}: {what}: {done.ended.verdict} in {done.cost.seconds:.0f} s")
    print(f"    {done.ended.reason}", flush=True)


async def _async(asked: list[str]) -> bool:
    await asyncio.to_thread(warm_up, SystemClock())
    await warm()
    good = True
    if "--weak" in asked:
        good = await weak("--patient" in asked)
    if "--servers" in asked:
        good = await servers() and good
    return good


def main() -> int:
    asked = sys.argv[1:] or ["--whole", "--weak", "--servers"]
    good = whole() if "--whole" in asked else True
    return 0 if asyncio.run(_async(asked)) and good else 1


if __name__ == "__main__":
    sys.exit(main())
