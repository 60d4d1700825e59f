"""Questions that need two places of a drill, or its scenario: asked of the file's own tree, so that every answer has a place.

What is looked at must be seen: a recovery that waits for an indicator that this traffic never has would call every platform
weak, and an abort condition on one would never stop anything. So each condition is held against what the scenario's journey
produces and what the drill adds to it: an audience that stays lives through the drill's own cut, and runs that begin meanwhile
are starts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from probe.drill.core.file import NEEDED, Drill, FaultUse, Steady, Traffic
from probe.scenario.check import Finding
from probe.scenario.gates import Expression, GateSyntaxError, Term, parse_gate
from probe.scenario.indicators import IN_A_DRILL, INDICATORS, Bound, Of
from probe.scenario.produced import Produced
from probe.scenario.promised import produced_by
from probe.scenario.schema import Gate, Objective, Scenario
from probe.scenario.text import Path
from probe.scenario.units import describe, format_duration, parse_duration

REMEDY = {
    "owner": "a drill has somebody who answers for it: owner: media-sre",
    "scenario": "say what its traffic runs: scenario: room-start",
    "steady": 'say what must be true before anything is touched: steady: {of: ["start >= 95%"]}',
    "method": "say what is broken: method: [{origin-killed: {fault: process, for: 8s}}]",
    "abort": "a drill that nothing stops is refused; write for example abort: [{incident: true}, {budget: 10%}]",
    "recovery": "a drill without a recovery objective finds nothing; write recovery: [{reconnect: 95%, within: 10s}]",
}
_STARTS = frozenset({Of.ROOM, Of.PUBLISHERS, Of.STEPS, Of.ANYTHING})  # what only a run that begins has
_STARTING = frozenset({"start", "first_frame", "attempts", "failures", "taint_ratio"})
Uses = Mapping[int, tuple[str, FaultUse | None]]  # by place in the method: its name, and the fault where it is one


def findings(data: Mapping[str, Any], uses: Uses) -> Iterator[Finding]:
    """What is wrong with the file in itself."""
    for field in NEEDED:
        if not data.get(field):
            yield Finding((field,), REMEDY[field])
    yield from _method(uses)
    broken = max((use.until for _, use in uses.values() if use is not None), default=0)
    yield from _spans(data, broken)


def scenario_findings(data: Mapping[str, Any], traffic: Traffic, scenario: Scenario) -> Iterator[Finding]:
    """What does not fit the scenario that its traffic runs."""
    regions = _items(data.get("regions"))
    for i, region in enumerate(regions):
        if isinstance(region, str) and region not in scenario.regions:
            known = ", ".join(scenario.regions)
            yield Finding(("regions", i), f"{describe(region)} is not one of the scenario's regions: {known}")
        if region in regions[:i]:
            yield Finding(("regions", i), f"{describe(region)} is listed twice")
    apart = set(scenario.regions) - {region for region in regions if isinstance(region, str)} if regions else set()
    for i, item in enumerate(_items(data.get("abort"))):
        for field in ("outside", "gate"):
            if isinstance(item, dict) and field in item and not apart:
                message = (
                    "looks at the other regions, and the drill is in all that the scenario has; name its regions, or leave it out"
                )
                yield Finding(("abort", i, field), message)
        if isinstance(item, dict) and "budget" in item and not scenario.objectives:
            yield Finding(("abort", i, "budget"), f"scenario {scenario.name} has no objective, so no budget to spend")
    produced = produced_by(scenario)
    for path, expression in _conditions(data):
        for name in dict.fromkeys(term.indicator for term in expression.terms):
            if message := unseen(name, path, traffic, produced):
                yield Finding(path, message)
    for i, item in enumerate(_items(data.get("recovery"))):
        if isinstance(item, dict) and "reconnect" in item and not (traffic.stay and produced.viewed):
            lacks = "the scenario has no view step" if traffic.stay else "nobody stays (traffic.stay)"
            yield Finding(("recovery", i, "reconnect"), f"who is to reconnect? {lacks}")
    yield from _few(data, traffic)
    yield from _asked(data, scenario)


def _few(data: Mapping[str, Any], traffic: Traffic) -> Iterator[Finding]:
    """A condition on whole runs wants `min_n` of them, and so many must be able to begin in time."""
    steady, least = data.get("steady"), data.get("min_n", Drill.model_fields["min_n"].default)
    if traffic.starts is None or not isinstance(least, int):
        return
    for path, expression in _conditions(data):
        within: Any = None
        if path[0] == "steady" and isinstance(steady, dict):
            within = steady.get("within", format_duration(Steady.model_fields["within"].default))
        elif path[0] == "recovery":
            within = _items(data["recovery"])[int(path[1])].get("within")
        begin = _duration(within, 0) // traffic.starts.every + 1
        of_runs = [term.indicator for term in expression.terms if IN_A_DRILL[term.indicator].of is Of.ROOM]
        if of_runs and within is not None and _duration(within, 0) and begin < least:
            message = f"{of_runs[0]} is one of each run, at most {begin} begin within {within}, and min_n asks for {least}"
            yield Finding(path, f"{message}: give it longer, or start more often (traffic.starts.every)")


def unseen(indicator: str, path: Path, traffic: Traffic, produced: Produced) -> str:
    """Why a condition at `path` would wait for an indicator for ever; empty: it would not."""
    of = IN_A_DRILL[indicator].of
    if of is Of.STAY:
        if traffic.stay and produced.viewed:
            return ""
        return f"{indicator} is of who stays: {'the scenario has no view step' if traffic.stay else 'nobody does (traffic.stay)'}"
    if of is Of.CUTS and not produced.cut:
        if path[0] == "steady":
            return f"nobody is cut before the fault, so {indicator} is not measured by then"
        if not traffic.stay:
            return f"nobody stays to be cut (traffic.stay), so {indicator} is never measured"
        produced = replace(produced, cut=produced.viewed)
    if missing := produced.missing(indicator):
        return f"this scenario never measures {indicator}; it {missing}"
    if traffic.starts is None and path[0] != "steady" and (of in _STARTS or indicator in _STARTING):
        return f"{indicator} is of runs that begin, and none does meanwhile; write traffic: {{starts: {{every: 3s}}}}"
    if not traffic.stay and traffic.starts is None:
        return "nobody plays at all; let traffic.stay or traffic.starts be"
    return ""


def objective_condition(objective: Objective) -> Expression | None:
    """What is to be true of a few minutes for an objective to be met; None where the language has no word for it."""
    row = INDICATORS[objective.indicator]
    if not row.gate:
        return None
    share: Mapping[str, Any] = {"comparison": ">=", "amount": objective.target}
    if row.bound is Bound.WITHIN:
        quantile = f"p{min(99, max(1, int(objective.target * 100)))}"
        share = {"comparison": "<=", "amount": objective.within, "quantile": quantile}
    elif row.bound is Bound.AT_MOST:
        share = {"comparison": "<=", "amount": objective.at_most}
    return Expression(terms=(Term(indicator=objective.indicator, unit=row.unit, **share),))


def gate_condition(gate: Gate) -> Expression | None:
    """What is to be true for a gate to be open, over all there is: its `resume`, or its only ratio or quantile turned round.
    Counts of attempts and failures only keep few of them from closing it. None where that cannot be said."""
    terms = [term for term in (gate.resume or gate.when).terms if INDICATORS[term.indicator].of is not Of.ANYTHING]
    terms = [replace(term, window=None) for term in terms if term.indicator != "attempts"]
    if gate.resume is None:
        if len(terms) != 1:
            return None
        turned = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
        terms = [replace(terms[0], comparison=turned[terms[0].comparison])]
    return Expression(terms=tuple(terms)) if terms else None


def _asked(data: Mapping[str, Any], scenario: Scenario) -> Iterator[Finding]:
    """`steady` names objectives and gates that there are, and that can be asked for here."""
    steady = data.get("steady")
    if not isinstance(steady, dict):
        return
    for i, name in enumerate(_items(steady.get("objectives"))):
        objective = next((one for one in scenario.objectives if one.name == name), None)
        if objective is None:
            yield Finding(("steady", "objectives", i), _none(name, "objective", [one.name for one in scenario.objectives]))
        elif objective_condition(objective) is None:
            yield Finding(("steady", "objectives", i), f"{objective.indicator} cannot be asked for in minutes; leave it out")
    for i, name in enumerate(_items(steady.get("gates"))):
        gate = next((one for one in scenario.gates if one.name == name), None)
        if gate is None:
            yield Finding(("steady", "gates", i), _none(name, "gate", [one.name for one in scenario.gates]))
        elif gate_condition(gate) is None:
            yield Finding(
                ("steady", "gates", i), "it has no resume, and no one condition to turn round; write under `of` what is meant"
            )


def _none(name: Any, what: str, known: list[str]) -> str:
    return f"{describe(name)} is no {what} of the scenario; there are {', '.join(known) or 'none'}"


def unknown_kind(name: str, known: Collection[str]) -> str:
    """What is said of a kind of fault that there is not."""
    close = get_close_matches(name, known, 1)
    return f"unknown kind of fault {describe(name)}; " + (
        f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    )


def _method(uses: Uses) -> Iterator[Finding]:
    names: set[str] = set()
    before: list[tuple[str, FaultUse]] = []
    for index, (name, use) in uses.items():
        path: Path = ("method", index, name)
        if name in names:
            yield Finding(path, f"another fault is called {name!r} already; a fault's name is one in the drill", key=True)
        names.add(name)
        if use is None:
            continue
        for other, one in before:
            if one.fault == use.fault and one.with_ == use.with_ and one.at < use.until and use.at < one.until:
                message = f"does to the same target what {other} does, at the same time; let one end before the other begins"
                yield Finding(path, message, key=True)
        before.append((name, use))
    if before and len(before) == len(uses) and (first := min(use.at for _, use in before)) > 0:
        name = next(name for name, use in before if use.at == first)
        index = next(index for index, (one, _) in uses.items() if one == name)
        message = f"`at` counts from the first injection, which is this one: write 0s in place of {format_duration(first)}"
        yield Finding(("method", index, name, "at"), message)


def _spans(data: Mapping[str, Any], broken: int) -> Iterator[Finding]:
    """Windows and holds against the time there is for them."""
    steady = data.get("steady") if isinstance(data.get("steady"), dict) else {}
    proving = _duration(steady.get("within"), 60 * 10**9) if isinstance(steady, dict) else 0
    within = [_duration(one.get("within"), 0) if isinstance(one, dict) else 0 for one in _items(data.get("recovery"))]
    length = proving + max(_duration(data.get("hold"), 0), broken + max(within, default=0))
    for path, expression in _conditions(data):
        if (need := _needs(expression)) == 0:
            continue
        match path[0]:
            case "steady":
                limit, what = proving, "steady.within"
            case "recovery":
                limit, what = within[int(path[1])], "`within`"
            case "meanwhile":
                limit, what = broken, "the time that anything is broken"
            case _:
                limit, what = length, "the whole drill"
        if limit and need > limit:
            looks = f"looks over {format_duration(need)}, window and `for` together"
            yield Finding(path, f"{looks}, and {what} is {format_duration(limit)}: it would never be known in time")


def _needs(expression: Expression) -> int:
    return max((term.window or 0 for term in expression.terms), default=0) + (expression.hold or 0)


def _conditions(data: Mapping[str, Any]) -> Iterator[tuple[Path, Expression]]:
    """Every condition that can be read, with its place; the others are told of where they stand."""
    steady = data.get("steady")
    asked: list[tuple[Path, Any]] = []
    if isinstance(steady, dict):
        asked += [(("steady", "of", i), text) for i, text in enumerate(_items(steady.get("of")))]
    asked += [(("meanwhile", i), text) for i, text in enumerate(_items(data.get("meanwhile")))]
    for section, fields in (("abort", ("when", "outside")), ("recovery", ("when",))):
        for i, item in enumerate(_items(data.get(section))):
            asked += [((section, i, field), item.get(field)) for field in fields if isinstance(item, dict)]
    for path, text in asked:
        try:
            if isinstance(text, str):
                yield path, parse_gate(text, IN_A_DRILL)
        except GateSyntaxError:
            pass


def _items(value: Any) -> list[Any]:
    """What stands there, one or many."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _duration(value: Any, default: int) -> int:
    try:
        return parse_duration(value) if isinstance(value, str) else default
    except ValueError:
        return default
