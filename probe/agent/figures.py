"""An agent's figures of itself: schedules, configuration, loop. Every series is there at 0 before anything is counted in it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

from probe.agent.loading import Loaded
from probe.agent.schedule import Schedule
from probe.drivers.table import phases
from probe.export.families import Families
from probe.export.prometheus import MetricsSink
from probe.model.clock import NS

MISSED = ("overlap", "budget", "blackout", "late", "broken")  # broken: no plan could be made
OTHER = "other"
CRASHES = (
    "signal 11", "signal 6", "signal 9", "signal 7", "signal 8", "signal 4", "exit 70", "memory", "time", "grace", "protocol",
    "lost", "start", OTHER,
)  # fmt: skip


class AgentFigures:
    """Of the agent in `region`; `metrics` holds those of its runs too."""

    def __init__(self, metrics: MetricsSink, region: str) -> None:
        self.metrics = metrics
        self._to: Families = metrics.figures
        self._region = {"region": region}
        self._scenarios: dict[str, str] = {}  # by schedule
        self._told: Counter[tuple[str, str]] = Counter()
        for kind in CRASHES:
            self._to.touch("self_worker_crashes_total", {"kind": kind})

    def declare(self, loaded: Loaded) -> None:
        """Whatever these schedules can produce exists from now on, at 0. Takes a while: for a thread."""
        for name, prepared in loaded.schedules.items():
            self.metrics.declare(loaded.plan(name, 0, random.Random(0)), phases())
            scenario = {"scenario": prepared.scenario.name}
            for figure in ("self_runs_due_total", "self_runs_in_flight", "self_run_late_seconds"):
                self._to.touch(figure, scenario)
            for why in MISSED:
                self._to.touch("self_runs_missed_total", {**scenario, "kind": why})

    def began(self, unix_ns: int) -> None:
        self._to.set("self_start_time_seconds", self._region, unix_ns / NS)
        self._to.set("self_agent_info", self._region, 1)

    def taken(self, loaded: Loaded, unix_ns: int) -> None:
        """A configuration came into force."""
        self._scenarios = {name: prepared.scenario.name for name, prepared in loaded.schedules.items()}
        self._to.set("self_reload_success", self._region, 1)
        self._to.set("self_reload_time_seconds", self._region, unix_ns / NS)

    def refused(self) -> None:
        """What the files say is not in force."""
        self._to.set("self_reload_success", self._region, 0)

    def late(self, scenario: str, seconds: float) -> None:
        """How long after its time a run began."""
        self._to.observe("self_run_late_seconds", {"scenario": scenario}, seconds)

    def broken(self, scenario: str) -> None:
        """A run that was due and could not even be planned."""
        self._to.add("self_runs_missed_total", {"scenario": scenario, "kind": "broken"})

    def lag(self, seconds: float) -> None:
        """How late the loop was."""
        self._to.observe("self_agent_lag_seconds", self._region, max(0.0, seconds))

    def count(self, schedule: Schedule) -> None:
        """What the schedule counted since it was last asked. Ask before other schedules are in force, too: their names may be
        another scenario's then."""
        counts = Counter({(name, ""): count for name, count in schedule.slots.items()}) + schedule.missed
        for (name, why), count in (counts - self._told).items():
            scenario: Mapping[str, str] = {"scenario": self._scenarios.get(name, name)}
            if why:
                self._to.add("self_runs_missed_total", {**scenario, "kind": why}, count)
            else:
                self._to.add("self_runs_due_total", scenario, count)
        self._told = counts


def crash_kind(crashed: str) -> str:
    """The word for a worker's end that is a label: one of a closed list."""
    return crashed if crashed in CRASHES else OTHER
