"""One gate in one group: how it stands, in words, for the records, and as it is shown.

What must be known by the next life of the agent (`kept`) is small: where the gate stands, which override holds, what was ordered
of it and not done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from probe.agent.service.view import GateState
from probe.judge.hold import Held, Override, Position, hold, verdict
from probe.judge.reading import Reading, terms
from probe.model.verdict import Verdict
from probe.scenario.gates import Term
from probe.scenario.schema import Gate
from probe.scenario.units import format_duration

Group = tuple[str, str, str]  # region, publish_region, protocol; empty: all


@dataclass(slots=True)
class Judged:
    """One gate in one group, as it stands. `since` and `evaluated` Unix ns. `acted`: what the last action was ordered for."""

    scenario: str
    owner: str
    gate: Gate
    group: Group
    held: Held = field(default_factory=Held)
    reading: Reading | None = None
    override: Override | None = None
    ends: int = 0  # of the override, by the monotonic clock
    result: Verdict | None = None
    since: int = 0
    evaluated: int = 0
    acted: Position = Position.OPEN
    stood: int = 0  # Unix ns since when it has been open or closed
    pending: tuple[Mapping[str, Any], ...] = ()  # orders not done

    @property
    def key(self) -> str:
        return "/".join((self.scenario, self.gate.name, *self.group))

    @property
    def position(self) -> Position:
        """With an override, what that makes of it."""
        return self.held.position if self.override is None else self.override.position

    @property
    def rule(self) -> Verdict:
        """What the rule says, whatever overrides it."""
        return Verdict.INCONCLUSIVE if self.reading is None else verdict(self.held, self.gate, self.reading)

    @property
    def labels(self) -> dict[str, str]:
        region, publish_region, protocol = self.group
        of = {"scenario": self.scenario, "gate": self.gate.name, "publish_region": publish_region, "region": region}
        return of | {"protocol": protocol}


def kept(one: Judged) -> dict[str, Any]:
    """What the next life of the agent must know of a gate."""
    over = one.override
    return {
        "position": one.held.position.value,
        "acted": one.acted.value,
        "stood": one.stood,
        "result": None if one.result is None else one.result.value,
        "since": one.since,
        "override": None
        if over is None
        else {"passes": over.passes, "since": over.since, "until": over.until, "who": over.who, "why": over.why},
        "pending": list(one.pending),
        "told": told(one),
    }


def told(one: Judged) -> dict[str, Any]:
    """How it stood, for whoever reads the records without the agent."""
    shown = state(one)
    names = (
        "name", "region", "publish_region", "protocol", "scenario", "reason", "owner", "action", "rule", "value",
        "unit", "window", "n", "min_n", "coverage", "min_coverage",
    )  # fmt: skip
    return {name: getattr(shown, name) for name in names}


def restore(one: Judged, data: Mapping[str, Any], now: int, unix: int) -> None:
    """As it was kept. Raises KeyError, TypeError or ValueError for what is damaged, and changes nothing then."""
    held, acted = Held(Position(data["position"]), now), Position(data["acted"])
    result = None if data.get("result") is None else Verdict(data["result"])
    override, said = None, data.get("override")
    if said is not None:
        override = Override(bool(said["passes"]), int(said["since"]), int(said["until"]), str(said["who"]), str(said["why"]))
    one.held, one.acted, one.result, one.since = held, acted, result, int(data["since"])
    one.stood = int(data.get("stood", 0))
    one.override, one.ends = override, now + (override.until - unix) if override is not None else 0
    one.pending = tuple(dict(order) for order in data.get("pending", ()))


def reason(one: Judged) -> str:
    """Why it says what it says."""
    if one.override is not None:
        return f"overridden by {one.override.who}: {one.override.why}"
    if one.reading is None:
        return "it was not judged yet"
    when, resume = one.reading.when, one.reading.resume
    if one.held.position is Position.CLOSED:
        if when.met:
            return when.reason
        waits = f"; it opens once {one.gate.resume or f'not {one.gate.when}'}"
        return (f"closed, and now {when.reason}" if when.met is None else f"closed, {_figure(one)} now") + waits
    if when.met is None:
        return when.reason
    if one.held.position is Position.UNKNOWN:
        return "what it was before the agent began is not known: the records could not be read" + (
            f"; {resume.reason}" if resume.reason else ""
        )
    if when.met:
        return f"{one.gate.when}, not for long enough yet"
    return when.reason


def _figure(one: Judged) -> str:
    answer = one.reading.when if one.reading is not None else None
    if answer is None or answer.value is None or answer.term is None:
        return "no figure"
    value = f"{answer.value:.1%}" if answer.term.unit == "ratio" else f"{answer.value:.3g}"
    return f"{answer.term.indicator} {value}"


def state(one: Judged) -> GateState:
    """As it is shown."""
    answer = None if one.reading is None else one.reading.when
    window = "" if answer is None or answer.term is None else _window(one.gate, answer.term)
    held = one.held
    return GateState(
        name=one.gate.name,
        region=one.group[0],
        scenario=one.scenario,
        result=(one.result or Verdict.INCONCLUSIVE).value,
        value=None if answer is None else answer.value,
        since=one.since,
        evaluated=one.evaluated,
        reason=reason(one),
        owner=one.owner,
        action=one.gate.action,
        publish_region=one.group[1],
        protocol=one.group[2],
        unit="" if answer is None or answer.term is None else answer.term.unit.value,
        window=window,
        n=0 if answer is None else answer.n,
        min_n=one.gate.min_n,
        coverage=0.0 if answer is None else answer.coverage,
        min_coverage=one.gate.min_coverage,
        rule=str(one.gate.when),
        resume="" if one.gate.resume is None else str(one.gate.resume),
        source=one.gate.source,
        position=one.position.value,
        stood=one.stood,
        towards="" if held.towards is None else "closing" if held.towards is Position.CLOSED else "opening",
        held=0 if held.towards is None or held.looked is None else held.looked - held.holding,
        hold=0 if held.towards is None else hold(one.gate, held.towards),
        override=one.override,
        beneath=one.rule.value,
    )


def _window(gate: Gate, term: Term) -> str:
    window = next((window for asked, window in terms(gate) if asked is term), None)
    return format_duration(window) if window is not None else ""
