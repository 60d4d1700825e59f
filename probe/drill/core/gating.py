"""A scenario's own gates on a drill's traffic: do they close, and when? Pure.

As an agent judges them (judge/reading, judge/hold), but over the drill's whole runs, which its objectives and an agent's gates
never see. Windows and holds are the gates' own: one that asks for ten minutes of it cannot close in a drill of one, and does not.
Those that are asked of Prometheus are the fleet's, and not judged here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from probe.drill.core.facts import AlertChanged
from probe.judge.hold import Held, Position, step
from probe.judge.reading import Look, longest, read, terms
from probe.judge.track import Track
from probe.judge.windows import RunParts, parts_of
from probe.model.verdict import RunResult
from probe.plan import Plan, ViewStep
from probe.scenario.schema import Gate

_FRESH = 3  # times the length of a run after which the last one is no news


@dataclass(slots=True)
class _Judged:
    gate: Gate
    region: str
    protocol: str
    held: Held = field(default_factory=Held)


class Gating:
    """Of the gates in `plans` (region → a plan of its runs). Times are monotonic ns."""

    def __init__(self, plans: Mapping[str, Plan]) -> None:
        self._longest = {region: plan.run_deadline for region, plan in plans.items()}
        self._tracks: dict[str, Track] = {}
        self._judged: list[_Judged] = []
        for region, plan in plans.items():
            gates = [gate for gate in plan.gates if gate.source == "agent"]
            protocols = _protocols(plan)
            wanted = {(term.indicator, way) for gate in gates for term, _ in terms(gate) for way in ("", *protocols)}
            keep = max((longest(gate) for gate in gates), default=0) + plan.run_deadline
            self._tracks[region] = Track(wanted, keep)
            for gate in gates:
                ways: Sequence[str] = protocols if "protocol" in gate.by else [""]
                self._judged += [_Judged(gate, region, way) for way in ways]

    def began(self, region: str, at: int) -> None:
        """A whole run began."""
        if region in self._tracks:
            self._tracks[region].due(at)

    def ended(self, result: RunResult) -> None:
        """One ended by itself; one that was cut short tells nothing."""
        region, parts = result.began.region, parts_of(result)
        if parts and result.ended is not None and region in self._tracks:
            run = RunParts(result.ended, result.began.at, parts)
            self._tracks[region].ran(run, result.ended + _FRESH * self._longest[region])

    def look(self, now: int) -> Iterator[AlertChanged]:
        """What closed or opened."""
        for one in self._judged:
            before, one.held = one.held.position, step(one.held, one.gate, read(one.gate, self._looking(one, now)), now)
            if one.held.position is not before:
                yield AlertChanged(
                    at=now,
                    source="gate",
                    name="/".join(filter(None, (one.gate.name, one.protocol))),
                    firing=one.held.position is Position.CLOSED,
                    severity=one.gate.severity,
                    region=one.region,
                    owner=one.gate.owner,
                )

    def _looking(self, one: _Judged, now: int) -> Look:
        track, limit = self._tracks[one.region], self._longest[one.region]
        return lambda term, window: track.seen(term, one.protocol, window, now, limit)

    def closed(self) -> frozenset[tuple[str, str]]:
        """(gate, region) of those that are."""
        return frozenset((one.gate.name, one.region) for one in self._judged if one.held.position is Position.CLOSED)


def _protocols(plan: Plan) -> list[str]:
    return sorted({view.protocol for step in plan.journey if isinstance(step, ViewStep) for view in step.views})
