"""Gates: what it costs to judge 200 of them every ten seconds, over the runs of 40 schedules a minute each.

Half of an hour goes by on a clock of its own, so only the work is timed: every run told, every gate looked at, and what follows
a change. Windows are 5 to 15 minutes long and hold ratios, counts and quantiles of 256 samples a run, the most there are.

    python -m tests.bench.gates
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from probe.agent.gate_watch import LOOK, GateWatch
from probe.agent.loading import Loaded, load_config
from probe.cli.files import find, vocabulary
from probe.clock import SystemClock
from probe.export.prometheus import MetricsSink
from probe.judge.indicators import Part
from probe.judge.windows import KEPT, Cell
from probe.model.clock import NS
from probe.net.redact import Redactor

SCHEDULES, EACH, MINUTES = 40, 5, 30
BOUND = 2.0  # % of a core
Row = tuple[str, ...]
_GATES = (
    "{name: start, when: 'start[10m] < 90% and failures >= 3 for 2m', resume: 'start[15m] > 99% for 5m', action: a}",
    "{name: room, when: 'room_start[10m] < 90% for 2m', resume: 'room_start[15m] > 99% for 15m', action: a}",
    "{name: frame, when: 'first_frame.p95[10m] > 3s and attempts >= 6 for 2m', action: a}",
    "{name: latency, when: 'e2e_latency.p95[5m] > 2s for 1m', resume: 'e2e_latency.p95[15m] < 1s', action: a}",
    "{name: crash, when: 'crash_free[15m] < 98%', by: [region, protocol], action: a}",
)
_SCENARIO = """
scenario: s{n}
owner: me
regions: [eu]
platform: {{url: "http://127.0.0.1:9"}}
journey:
  - publish: {{via: whip, url: /rooms/x/whip, programme: 360p30}}
  - view: {{via: whep, url: /rooms/x/whep}}
gates:
{gates}
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """`share`: % of a core; ms of one look at all gates (`look`, and the `worst`), and of a run's end (`run`); `changes` seen."""

    gates: int
    share: float
    look: float
    worst: float
    run: float
    changes: int


class _Clock(SystemClock):
    """Goes by when it is told to."""

    def __init__(self) -> None:
        self.at = 10**15
        super().__init__()

    def now(self) -> int:
        return self.at

    def system(self) -> int:
        return 1_790_000_000 * NS + self.at


def _loaded(folder: Path) -> Loaded:
    gates = "\n".join(f"  - {gate}" for gate in _GATES)
    lines = ["region: eu", "agent: bench", "schedules:"]
    for n in range(SCHEDULES):
        (folder / f"s{n}.yaml").write_text(_SCENARIO.format(n=n, gates=gates))
        lines.append(f"  s{n}: {{scenario: s{n}.yaml, every: 1m}}")
    (folder / "agent.yaml").write_text("\n".join(lines))
    return load_config(folder / "agent.yaml", env={"XDG_STATE_HOME": str(folder)}, words=vocabulary(), find=find)


def _run(chance: random.Random, bad: bool) -> dict[Cell, Part]:
    good = 1 if bad else 5
    told: dict[Cell, Part] = {}
    for protocol in ("", "whep"):
        told["start", protocol] = told["crash_free", protocol] = Part(good, 5, 5)
        told["failures", protocol], told["attempts", protocol] = Part(5 - good, n=5), Part(5, 5, 5)
        told["room_start", protocol] = Part(int(not bad), 1, 1)
        told["first_frame", protocol] = Part(n=good, samples=tuple(sorted(chance.random() for _ in range(good))))
        samples = tuple(sorted(chance.random() for _ in range(KEPT)))
        told["e2e_latency", protocol] = Part(n=9000, samples=samples)
    return told


def measure(folder: Path) -> Figures:
    loaded, clock, chance, seen = _loaded(folder), _Clock(), random.Random(1), Counter[str]()
    watch = GateWatch(
        lambda: loaded,
        figures=MetricsSink().figures,
        put=lambda _: None,
        tell=lambda kind, why, **_: seen.update([kind]),
        clock=clock,
        redactor=Redactor(),
    )
    gates = sum(1 for _ in watch.gates)
    runs, looks = [], []
    slots = dict.fromkeys(loaded.schedules, 0)
    for minute in range(MINUTES):
        slots = {name: count + 1 for name, count in slots.items()}
        watch.due(slots)
        for n, name in enumerate(loaded.schedules):
            parts = _run(chance, bad=n % 4 == 0 and 10 <= minute < 15)
            runs.append(_timed(partial(watch.ran, name, parts, clock.system())))
        for _ in range(round(60 / LOOK)):
            clock.at += round(LOOK * NS)
            looks.append(_timed(watch.look))
    assert seen["gate"] >= SCHEDULES  # they opened and closed: it is no idle table that was timed
    share = 100 * (sum(looks) + sum(runs)) / (MINUTES * 60)
    return Figures(gates, share, 1000 * sum(looks) / len(looks), 1000 * max(looks), 1000 * sum(runs) / len(runs), seen["gate"])


def _timed(work: Callable[[], object]) -> float:
    """CPU seconds."""
    began = time.process_time()
    work()
    return time.process_time() - began


def rows(figures: Figures) -> list[Row]:
    return [
        ("", f"{figures.gates} gates, {SCHEDULES} runs a minute"),
        ("of a core", f"{figures.share:.2f} %"),
        ("a look at all of them, ms (worst)", f"{figures.look:.1f} ({figures.worst:.1f})"),
        ("a run's end, its own gates judged, ms", f"{figures.run:.2f}"),
        ("changes on the way", str(figures.changes)),
    ]


def targets(figures: Figures) -> dict[str, bool]:
    """What was aimed at, and whether it holds."""
    return {f"{figures.gates} gates every 10 s ≤ {BOUND:g} % of a core: {figures.share:.2f}": figures.share <= BOUND}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="bench-gates-") as name:
        figures = measure(Path(name))
    for what, value in rows(figures):
        print(f"{what:45} {value}")
    for target, ok in targets(figures).items():
        print(f"{'held  ' if ok else 'MISSED'}  {target}")
    return 0 if all(targets(figures).values()) else 1


if __name__ == "__main__":
    sys.exit(main())
