"""Rules for 500 objectives: how long `probe rules` makes everything from their files, how many series that is, and what a real
Prometheus takes to evaluate them.

Fifty scenarios of ten objectives, run by an agent in each of three regions; the command's own start is in its time. Prometheus
has the counters of the hours before (a sample a minute), so that the windows of pages are full, and those of triage hold as much.
Every group is evaluated once a minute here; what that comes to at the intervals of the files is worked out from their times.

python -m tests.bench.rules [--objectives N] [--hours H]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from probe.cli.fleets import fleet_at
from probe.model.clock import NS
from probe.rules.alerts import alerts
from probe.rules.explain import explained
from probe.rules.fleet import Fleet
from probe.rules.groups import grouped, series
from probe.rules.review import FILE as REVIEWS
from tests.peers import prometheus
from tests.rules.fleets import REGIONS
from tests.tools import wait_until

OBJECTIVES, A_SCENARIO = 500, 10
SECONDS, SERIES = 10.0, 20_000
EVERY = 60  # s between evaluations here
_INDICATORS = (
    "room_start", "start", "publisher_start", "auth", "room", "payment", "chat", "gift", "moderation", "crash_free",
)  # fmt: skip
_SCENARIO = """scenario: scenario-{n}
owner: media-sre
regions: [eu, us, apac]
platform: {{url: "https://live.example"}}
journey:
  - login: {{http: POST /login, service: auth}}
  - room: {{http: POST /rooms, keep: {{room: id}}}}
  - publish: {{via: whip, url: "/rooms/${{room}}/whip"}}
  - view: {{via: whep}}
  - chat: {{websocket: "/rooms/${{room}}/chat", send: hello, seen_by: viewers, within: 2s}}
  - payment: {{http: POST /payments}}
  - gift: {{http: "POST /rooms/${{room}}/gifts"}}
  - moderation: {{http: "POST /rooms/${{room}}/flags"}}
objectives:
"""
_OBJECTIVE = (
    "  - {{name: s{n}-{indicator}, indicator: {indicator}, target: 99.5%, window: 30d, action: see the last failing run}}\n"
)
Row = tuple[str, ...]


@dataclass(frozen=True)
class Figures:
    """`evaluating`: CPU-seconds of one evaluation of everything; `share`: of a core, at the files' own intervals; `slowest`:
    seconds that a group took."""

    objectives: int
    alerts: int
    making: float
    explaining: float
    files: int
    said: int
    series: int
    hours: float
    rules: int
    evaluating: float
    share: float
    slowest: float


def written(folder: Path, objectives: int) -> Path:
    """A fleet of so many objectives, in files."""
    scenarios = -(-objectives // A_SCENARIO)
    for n in range(scenarios):
        own = _INDICATORS[: min(A_SCENARIO, objectives - n * A_SCENARIO)]
        text = _SCENARIO.format(n=n) + "".join(_OBJECTIVE.format(n=n, indicator=indicator) for indicator in own)
        (folder / f"scenario-{n}.yaml").write_text(text)
    schedules = "".join(f"  s{n}: {{scenario: scenario-{n}.yaml, every: 2m}}\n" for n in range(scenarios))
    (folder / "agent.yaml").write_text(f"schedules:\n{schedules}")
    agents = "".join(f"  {region}-1: {{region: {region}, config: agent.yaml}}\n" for region in REGIONS)
    (folder / "fleet.yaml").write_text(f"fleet: bench\nowner: media-sre\nsla: {{P1: 5m, P2: 4h}}\nagents:\n{agents}")
    return folder / "fleet.yaml"


def history(found: Fleet, hours: float, until: int) -> Iterator[str]:
    """OpenMetrics of the counters of objectives, a sample a minute; one run in 500 is bad."""
    yield "# TYPE streamprobe_objective_runs counter\n"
    chance = random.Random(1)
    minutes = range(int(hours * 60))
    for slo in found.slos:
        for cell in slo.cells:
            labels = f'mode="scheduled",scenario="{slo.scenario}",slo="{slo.name}",protocol="{cell.protocol}",job="p"'
            labels += f',publish_region="{cell.publish_region}",region="{cell.region}",instance="{cell.region}"'
            bad, good = [0], [0]
            for minute in minutes:
                failed = minute % 2 == 0 and chance.random() < 0.002
                bad.append(bad[-1] + failed)
                good.append(good[-1] + (minute % 2 == 0 and not failed))
            for outcome, values in (("good", good), ("bad", bad)):
                for minute in minutes:
                    at = until - (len(minutes) - minute) * 60
                    yield f'streamprobe_objective_runs_total{{{labels},outcome="{outcome}"}} {values[minute]} {at}\n'
    yield "# EOF\n"


async def measure(folder: Path, objectives: int = OBJECTIVES, hours: float = 3.0) -> Figures:
    file, out = written(folder, objectives), folder / "out"
    began = time.perf_counter()
    command = [sys.executable, "-m", "probe", "rules", str(file), "--out", str(out)]
    await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.DEVNULL, timeout=300)
    making = time.perf_counter() - began
    found = fleet_at(file)
    made = alerts(found)
    began = time.perf_counter()
    explained(found, made)
    explaining = time.perf_counter() - began
    often = {group.name: group.interval / NS for several in grouped(found, made).values() for group in several}
    files = [path for path in sorted((out / "rules").glob("*.yaml")) if path.stem != REVIEWS]
    texts = {path.name: re.sub(r"(?m)^    interval: \w+$", f"    interval: {EVERY}s", path.read_text()) for path in files}
    counters = "".join(history(found, hours, int(time.time())))
    async with prometheus.running([], rule_files=texts, history=counters) as server:

        async def evaluated() -> bool:
            asked = [rule for group in (await server.get("rules"))["groups"] for rule in group["rules"]]
            return all(rule["health"] == "ok" for rule in asked)

        await wait_until(evaluated, 3 * EVERY, "a first evaluation of every rule")
        before = _cpu(server.child.pid)
        await asyncio.sleep(EVERY)  # each group once: the time itself is what is measured
        used = _cpu(server.child.pid) - before
        told = (await server.get("rules"))["groups"]
        counted = await server.query('count({__name__=~".+:.+"})')
    took = {group["name"]: float(group["evaluationTime"]) for group in told}
    return Figures(
        objectives=objectives,
        alerts=len(made),
        making=making,
        explaining=explaining,
        files=sum(path.is_file() for path in out.rglob("*")),
        said=series(found, made),
        series=int(counted[()]),
        hours=hours,
        rules=sum(len(group["rules"]) for group in told),
        evaluating=used,
        share=used * sum(seconds / often[name] for name, seconds in took.items()) / sum(took.values()),
        slowest=max(took.values()),
    )


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def rows(figures: Figures) -> list[Row]:
    """For a table."""
    return [
        ("objectives, alerts, files", f"{figures.objectives}, {figures.alerts}, {figures.files}"),
        ("s, `probe rules --out`, Python's start included", f"{figures.making:.1f}"),
        ("s, what `--explain` adds", f"{figures.explaining:.1f}"),
        ("series recorded in Prometheus (as said beforehand)", f"{figures.series:,} ({figures.said:,})"),
        (f"CPU-s, Prometheus evaluates all {figures.rules:,} rules once, on {figures.hours:g} h", f"{figures.evaluating:.2f}"),
        ("% of a core, at the intervals of the files", f"{figures.share * 100:.1f}"),
        ("ms, the slowest group", f"{figures.slowest * 1000:.0f}"),
    ]


def targets(figures: Figures) -> dict[str, bool]:
    """What was aimed at, and whether it holds."""
    return {
        f"probe rules for {figures.objectives} objectives ≤ {SECONDS:g} s: {figures.making:.1f}": figures.making <= SECONDS,
        f"their rules are under {SERIES:,} series: {figures.series:,}": 0 < figures.series < SERIES and figures.said < SERIES,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rules")
    parser.add_argument("--objectives", type=int, default=OBJECTIVES, metavar="N")
    parser.add_argument("--hours", type=float, default=3.0, metavar="H", help="of history in Prometheus")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-rules-") as name:
        figures = asyncio.run(measure(Path(name), options.objectives, options.hours))
    for what, value in rows(figures):
        print(f"{what:70} {value}")
    for target, ok in targets(figures).items():
        print(f"{'held  ' if ok else 'MISSED'}  {target}")


if __name__ == "__main__":
    main()
