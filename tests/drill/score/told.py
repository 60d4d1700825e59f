"""A drill told by hand, whose truth is known: facts of the drill, and what its viewers and runs would have observed.

Seconds after the drill's beginning everywhere; the clock stands at BEGAN then. Viewers show 30 pictures a second, evenly, and
none in their gap; windows are of a second each, as a stay emits them.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest

from probe.drill.core.facts import (
    AlertChanged,
    Checked,
    Did,
    DrillBegan,
    DrillEnded,
    DrillFact,
    Entered,
    FaultDid,
    Phase,
    Verdict,
)
from probe.drill.core.file import Drill
from probe.drill.core.measure import measure
from probe.drill.core.readings import CUT
from probe.drill.core.score import Score
from probe.model.clock import NS
from probe.model.ids import new_run_ids
from probe.model.observation import (
    CutBegan,
    CutOutcome,
    HealthSample,
    Observation,
    Restored,
    Resumed,
    Role,
    RunBegan,
    RunEnded,
    SessionBegan,
    SessionEnded,
    SessionStarted,
    StepBegan,
    StepDone,
    Window,
)
from probe.model.outcome import Done, Failed, Outcome
from probe.model.stage import Phase as Where
from probe.plan import Plan
from probe.planning import make_plan
from probe.scenario.load import loads
from probe.scenario.schema import Scenario

BEGAN = 1000 * NS
FPS = 30
NOT_BACK = Failed(Where.RECONNECTING, "timeout", "not back within 10 s")
REFUSED = Failed(Where.SIGNAL, "http_503")
DONE = Done()

SCENARIO = """
scenario: room
owner: media-sre
regions: [eu, us]
platform: {url: "http://127.0.0.1:1"}
journey:
  - room: {http: POST /rooms, keep: {room: id}}
  - publish: {via: whip, url: "/rooms/${room}/whip"}
  - view: [{via: whep, count: 2}, {via: hls, count: 1}]
  - chat: {websocket: "/rooms/${room}/chat", send: hello, seen_by: viewers, within: 2s}
  - gift: {http: "POST /rooms/${room}/gifts", service: gift, json: {kind: rose}}
objectives:
  - {name: room-start, indicator: room_start, target: 99%, window: 30d}
  - {name: first-frame, indicator: first_frame, within: 2s, target: 90%, window: 30d, page: false}
gates:
  - {name: starts, when: "start[10s] < 50% and failures >= 2", resume: "start[5s] > 90%", action: hold, owner: growth}
  - {name: slow-to-close, when: "start[10s] < 50% for 10m", action: wait}
"""
DRILL = {
    "drill": "edge-down",
    "owner": "media-sre",
    "scenario": "room",
    "regions": ["eu"],
    "steady": {"of": ["start >= 95%"]},
    "method": [{"name": "edge", "fault": "sandbox", "for": "8s"}],
    "abort": [{"incident": True}],
    "recovery": [{"reconnect": "95%", "within": "10s"}],
}


@cache
def scenario() -> Scenario:
    return loads(SCENARIO, env={})


@cache
def plans() -> Mapping[str, Plan]:
    ids = new_run_ids(0, random.Random(1))
    return {region: make_plan(scenario(), region, 1, ids, mode="drill") for region in ("eu", "us")}


def about(*values: object) -> Any:
    """A tuple to compare with: numbers to six digits, what is none as it is."""
    return tuple(pytest.approx(value) if isinstance(value, float) else value for value in values)


def ns(seconds: float) -> int:
    """The drill's second as the clock shows it."""
    return BEGAN + round(seconds * NS)


@dataclass
class Told:
    """The usual: steady until 10 s, a fault from 10 to 18 s, the end at 30 s."""

    injecting: float = 10.0
    seen: float | None = 10.5
    restoring: float = 18.0
    back: float | None = 18.4
    ends: float = 30.0
    verdict: Verdict = Verdict.PASS
    facts: list[DrillFact] = field(default_factory=list)
    observed: list[Observation] = field(default_factory=list)
    stays: set[str] = field(default_factory=set)
    drill: Drill = field(default_factory=lambda: Drill.model_validate(DRILL))
    _seq: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def whole(self) -> list[DrillFact]:
        """The facts, in order, with those of every drill."""
        own: list[DrillFact] = [
            DrillBegan(
                at=ns(0),
                drill=self.drill.drill,
                run="0192-drill",
                owner=self.drill.owner,
                scenario="room",
                regions=self.drill.regions,
                targets=("sandbox:edge-b",),
                wall_unix_ns=1_763_700_000 * NS,
                probe_version="0.1.0",
            ),
            Entered(at=ns(0.1), phase=Phase.STEADY),
            Entered(at=ns(self.injecting - 0.2), phase=Phase.INJECT),
            self._did(self.injecting - 0.1, Did.WILL),
            self._did(self.injecting, Did.INJECTING),
            self._did(self.injecting + 0.1, Did.INJECTED),
        ]
        if self.seen is not None:
            own += [self._did(self.seen, Did.SEEN_INJECTED), Entered(at=ns(self.seen), phase=Phase.HOLD)]
        own += [Entered(at=ns(self.restoring), phase=Phase.RESTORE), self._did(self.restoring, Did.RESTORING)]
        if self.back is not None:
            own += [self._did(self.back, Did.SEEN_RESTORED), Entered(at=ns(self.back), phase=Phase.RECOVERY)]
        own.append(DrillEnded(at=ns(self.ends), verdict=self.verdict, reason="9 of 9 viewers were back", wall_unix_ns=0))
        return sorted((*own, *self.facts), key=lambda fact: fact.at)

    def _did(self, at: float, did: Did) -> FaultDid:
        return FaultDid(at=ns(at), fault="edge", kind="sandbox", did=did, targets=("sandbox:edge-b",))

    def score(self) -> Score:
        return measure(self.whole(), self.observed, self.drill, plans=plans(), stays=self.stays, regions=2)

    # -- what the drill read and heard

    def checked(self, at: float, met: bool | None, *, part: str = "steady", condition: str = "start >= 95%") -> None:
        self.facts.append(Checked(at=ns(at), part=part, condition=condition, met=met, region="eu", n=5))

    def alarm(self, at: float, firing: bool = True, *, name: str = "starts", ours: bool = True, source: str = "gate") -> None:
        self.facts.append(AlertChanged(at=ns(at), source=source, name=name, firing=firing, region="eu", ours=ours))

    # -- what was observed

    def run(self, name: str, began: float = 0.0, *, region: str = "eu", stays: bool = False) -> str:
        if stays:
            self.stays.add(name)
        self._put(
            name,
            began,
            RunBegan(
                scenario="room",
                mode="drill",
                seed=1,
                publish_region=region,
                region=region,
                run_number=1,
                trace_id="0" * 32,
                span_id="0" * 16,
                wall_unix_ns=1_763_700_000 * NS + round(began * NS),
                target="http://platform",
                probe_version="0.1.0",
            ),
        )
        return name

    def ended(self, run: str, at: float, outcome: Outcome = DONE) -> None:
        self._put(run, at, RunEnded(outcome=outcome))

    def unwell(self, run: str, at: float, took: float = 0.5) -> None:
        self._put(run, at, HealthSample(took=round(took * NS), loop_lag=0.4, taints=("loop_lag",)))

    def step(self, run: str, began: float, took: float, service: str, outcome: Outcome = DONE) -> None:
        name = f"{service}-{self._seq[run]}"
        self._put(run, began, StepBegan(step=name, kind="http", service=service, span_id="0" * 16))
        done = StepDone(step=name, kind="http", service=service, outcome=outcome, took=round(took * NS))
        self._put(run, began + took, done)

    def start(
        self,
        run: str,
        began: float,
        took: float = 0.5,
        *,
        protocol: str = "whep",
        failed: Failed | None = None,
        region: str = "eu",
    ) -> None:
        """One viewer of a run that begins and ends; it leaves when it has started."""
        name = f"{run}-{protocol}-{self._seq[run]}"
        self._session(run, name, began, protocol, region)
        if failed is None:
            self._put(run, began + took, SessionStarted(took=round(took * NS)), name)
        self._put(run, began + took, SessionEnded(outcome=failed or DONE, ending="" if failed else "planned"), name)

    def whole_run(
        self, name: str, began: float, *, failed: Failed | None = None, region: str = "eu", publishes: bool = True
    ) -> None:
        """A run of the journey: a second or so, two viewers, both well or not."""
        self.run(name, began, region=region)
        for kind in ("publish", "view"):
            self._put(name, began, StepBegan(step=kind, kind=kind, service="", span_id="0" * 16))
        if publishes:
            self._session(name, f"{name}-p", began, "whip", region, role=Role.PUBLISHER)
            self._put(name, began + 0.1, SessionStarted(took=NS // 10), f"{name}-p")
            self._put(name, began + 1, SessionEnded(outcome=DONE, ending="planned"), f"{name}-p")
        for protocol in ("whep", "hls"):
            self.start(name, began + 0.1, protocol=protocol, failed=failed, region=region)
        outcome: Outcome = failed or DONE
        for kind in ("publish", "view"):
            done = StepDone(step=kind, kind=kind, service="", outcome=DONE if kind == "publish" else outcome, took=NS // 2)
            self._put(name, began + 0.9, done)
        self.ended(name, began + 1, DONE)

    def viewer(
        self,
        run: str,
        name: str,
        *,
        protocol: str = "whep",
        region: str = "eu",
        began: float = 1.0,
        gap: tuple[float, float] | None = None,
        outcome: CutOutcome | None = CutOutcome.UNAFFECTED,
    ) -> None:
        """One who stays to the end. `gap`: from the last picture to the next; of one that failed it ends where it gave up."""
        self._session(run, name, began, protocol, region)
        self._put(run, began + 0.5, SessionStarted(took=NS // 2), name)
        self._put(run, self.injecting, CutBegan(kind=CUT, step="edge"), name)
        lost = outcome is CutOutcome.FAILED
        end = gap[1] if lost and gap else self.ends
        self._windows(run, name, began + 0.5, end, gap)
        if self.back is not None and self.back <= end:
            self._put(run, self.back, Restored(kind=CUT, step="edge"), name)
        if outcome is not None:
            self._resumed(run, name, gap, outcome)
        ended_by = NOT_BACK if lost else None
        self._put(run, end, SessionEnded(outcome=DONE, ending="crashed" if lost else "planned", ended_by=ended_by), name)

    def _resumed(self, run: str, name: str, gap: tuple[float, float] | None, outcome: CutOutcome) -> None:
        back = self.back if self.back is not None else self.restoring
        if outcome is CutOutcome.FAILED:
            assert gap is not None
            self._put(run, gap[1], Resumed(kind=CUT, step="edge", outcome=outcome, failure=NOT_BACK), name)
        elif gap is None:
            self._put(run, back + 0.1, Resumed(kind=CUT, step="edge", outcome=outcome), name)
        else:
            # A cut is over with the first picture after the restore, however long the picture had been back by then.
            at = max(gap[1], back + 1 / FPS)
            outage, reconnect = round((gap[1] - gap[0]) * NS), round((at - back) * NS)
            told = Resumed(kind=CUT, step="edge", outcome=outcome, outage=outage, reconnect=reconnect)
            self._put(run, at, told, name)

    def _windows(self, run: str, name: str, began: float, end: float, gap: tuple[float, float] | None) -> None:
        low = began
        while low < end - 1e-9:
            high = min(low + 1, end)
            lit = high - low
            if gap is not None:
                lit -= max(0.0, min(high, gap[1]) - max(low, gap[0]))
            self._put(run, high, Window(took=round((high - low) * NS), verified=round(lit * FPS), decoded=round(lit * FPS)), name)
            low = high

    def _session(self, run: str, name: str, began: float, protocol: str, region: str, role: Role = Role.VIEWER) -> None:
        began_fact = SessionBegan(
            step="view" if role is Role.VIEWER else "publish",
            name=name,
            role=role,
            protocol=protocol,
            device="default",
            region=region,
            publish_region=region,
            join="mid_stream",
            verify="code",
            buffered=protocol == "hls",
            optional=False,
            span_id="0" * 16,
            ingest="whip",
        )
        self._put(run, began, began_fact, name)

    def _put(self, run: str, at: float, fact: Observation, session: str = "") -> None:
        self._seq[run] += 1
        self.observed.append(replace(fact, run=run, session=session, seq=self._seq[run], at=ns(at)))


def usual() -> Told:
    """Nine who stay in eu (whep: 2 of 4 go and come back; hls: 3 bridge it and 2 do not), two in us who notice nothing, and whole
    runs every 3 s that fail in eu while it is broken."""
    told = Told()
    eu = told.run("stay-eu", stays=True)
    for i in range(4):
        gap = (10.2, 19.0 + i) if i < 2 else None
        told.viewer(eu, f"whep-{i}", gap=gap, outcome=CutOutcome.RESTARTED if gap else CutOutcome.UNAFFECTED)
    for i in range(5):
        gap = (14.0, 18.9) if i < 2 else None
        told.viewer(eu, f"hls-{i}", protocol="hls", gap=gap, outcome=CutOutcome.RESUMED if gap else CutOutcome.UNAFFECTED)
    told.ended(eu, told.ends)
    us = told.run("stay-us", region="us", stays=True)
    for i in range(2):
        told.viewer(us, f"us-{i}", region="us")
    told.ended(us, told.ends)
    for i in range(9):
        began = 1.0 + 3 * i
        told.whole_run(f"eu-{i}", began, failed=REFUSED if 10 <= began < 18 else None)
        told.whole_run(f"us-{i}", began, region="us")
    for at, met in ((5.0, True), (13.0, False), (16.0, False), (21.0, True), (25.0, True)):
        told.checked(at, met)
    told.checked(24.0, True, part="recovery", condition="95% of viewers reconnect within 10s")
    told.alarm(14.0)
    told.alarm(24.0, firing=False)
    return told
