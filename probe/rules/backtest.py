"""Months of failures × rules × targets → who would have been woken, when, and for what: evidence for choosing a target.

Each pattern is one simulated month (or the recorded one), each target a set of rules generated anew for it. Rules that know no
target (static thresholds) are asked once. One pattern at a time comes out, so that whoever waits can be told, and can stop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from probe.rules.closings import unreplayed
from probe.rules.conditions import Alert
from probe.rules.fleet import Fleet, Severity, Slo
from probe.rules.history import History, spent
from probe.rules.replay import INTERVAL
from probe.rules.rivals import RIVALS, Ruleset, at_target
from probe.rules.score import Score, score
from probe.rules.told import Notice, Told, ask, heard, notices, quieted

OURS, GATES = "ours", "gates"
SAME = frozenset({GATES, "below-95", "3-in-a-row"})  # at every target
Rules = Callable[[Fleet], Sequence[Alert]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One history under one set of rules. `target` None: each objective at its own, or rules that know none. `pages` and
    `tickets` are what reached somebody; `shadow` what would have, of alerts that are only tried."""

    history: History
    rules: str
    target: float | None
    score: Score
    pages: tuple[Notice, ...]
    tickets: tuple[Notice, ...]
    shadow: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a history used of each objective's budget at a target; objectives without a counted run are left out."""

    history: History
    target: float | None
    spent: Mapping[str, float]

    @property
    def worst(self) -> tuple[str, float] | None:
        """The objective that used most of its own."""
        return max(self.spent.items(), key=lambda item: item[1], default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`targets`: None among them is every objective's own. `against`: names of RIVALS."""

    fleet: Fleet
    rules: Rules
    targets: tuple[float | None, ...] = (None,)
    against: tuple[str, ...] = tuple(RIVALS)
    interval: int = INTERVAL


class Panel:
    """The rulesets of a question, made once, and asked of one history after the other. Raises what making rules raises."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self.rulesets: dict[tuple[str, float | None], Ruleset] = {}
        self.slos: dict[float | None, tuple[Slo, ...]] = {}
        self.unreplayed: dict[str, str] = {}  # gates that are left out, and why
        for target in question.targets:
            fleet = aimed(question.fleet, target)
            self.slos[target] = fleet.slos
            ours = Ruleset(
                name=OURS, spoken="alerts as probe rules writes them", alerts=tuple(question.rules(fleet)), inhibits=True
            )
            rivals = [make(fleet.slos) for name in question.against for make in RIVALS[name]]
            for ruleset in (ours, *([self._gates(fleet)] if fleet.gates else ()), *rivals):
                key = ruleset.name, None if ruleset.name in SAME else target
                self.rulesets.setdefault(key, ruleset)

    def _gates(self, fleet: Fleet) -> Ruleset:
        kept = []
        for scenario, gate in fleet.gates:
            why = unreplayed(gate, [slo for slo in fleet.slos if slo.scenario == scenario])
            if why:
                self.unreplayed[f"{scenario}/{gate.name}"] = why
            else:
                kept.append((scenario, gate))
        return Ruleset(name=GATES, spoken="the scenarios' gates; closed is a page", gates=tuple(kept), slos=fleet.slos)

    def over(self, history: History) -> tuple[list[Result], list[Budget]]:
        """What they would have done."""
        named = {f"{name}/{target}": (name, target) for name, target in self.rulesets}
        asked = {key: self.rulesets[named[key]] for key in named}
        said = ask(history, asked, self._question.interval)
        results = [_result(history, *named[key], asked[key], told) for key, told in said.items()]
        return results, [_budget(history, target, slos) for target, slos in self.slos.items()]


def aimed(fleet: Fleet, target: float | None) -> Fleet:
    """The same fleet with every promise about the platform at that target."""
    return replace(fleet, slos=tuple(at_target(slo, target) for slo in fleet.slos))


def _result(history: History, name: str, target: float | None, ruleset: Ruleset, told: Sequence[Told]) -> Result:
    since = history.judged
    if ruleset.inhibits:
        told = heard(told, ruleset.alerts)
    pages, tickets = notices(told, Severity.P1, since=since), notices(told, Severity.P2, since=since)
    if ruleset.inhibits:
        tickets = quieted(tickets, pages)
    shadow = [notice for severity in (Severity.P1, Severity.P2) for notice in notices(told, severity, shadow=True, since=since)]
    return Result(
        history=history,
        rules=name,
        target=target,
        score=score(history, pages, tickets),
        pages=tuple(pages),
        tickets=tuple(tickets),
        shadow=tuple(shadow),
    )


def _budget(history: History, target: float | None, slos: Sequence[Slo]) -> Budget:
    found = {slo.name: spent(slo, history.series.get(slo.name, ())) for slo in slos if slo.service != "probe"}
    return Budget(history=history, target=target, spent={name: used for name, used in found.items() if used is not None})
