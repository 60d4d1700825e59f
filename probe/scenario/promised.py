"""Whether what is promised and gated can be measured at all: each objective and gate against the journey.

An objective on reconnects in a journey that cuts nobody would never be good or bad, a gate on payments where nobody pays never
open or closed. Both look like protection and are none, so they are mistakes, told when the file is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from probe.scenario.check import Entry, Finding
from probe.scenario.fields import SERVICES
from probe.scenario.gate import BUILT_IN
from probe.scenario.gates import GateSyntaxError, parse_gate
from probe.scenario.indicators import INDICATORS, Of
from probe.scenario.objective import Objective
from probe.scenario.produced import WHOLE_RUN, Produced
from probe.scenario.schema import DEFAULT_VIEWS, Scenario
from probe.scenario.steps import Cut, Http, Publish, StepModel, View, Wait, Websocket
from probe.scenario.text import Path


def produced_by(scenario: Scenario) -> Produced:
    """What a run of it can measure, in any of its regions."""
    platform = scenario.platform
    declared = {*(platform.views or DEFAULT_VIEWS), *(via for own in platform.regions.values() for via in own.views)}
    return _produced((*scenario.journey, *scenario.final), declared)


def unfit(objective: Objective, produced: Produced, regions: Collection[str]) -> Iterator[tuple[str, str]]:
    """(field, message) of what an objective asks for and a scenario with these `regions` never measures."""
    yield from _unfit(objective.indicator, objective.regions, objective.protocols, produced, regions)


def promise_findings(data: Mapping[str, Any], entries: Sequence[Entry]) -> Iterator[Finding]:
    """Of a scenario's file. Nothing is said while a step of it is wrong: it may have been the one."""
    models = [entry.model for entry in entries if entry.model is not None]
    if not models or len(models) < len(entries):
        return
    produced = _produced(models, _declared(data.get("platform")))
    regions = [region for region in _items(data.get("regions", ["local"])) if isinstance(region, str)]
    for i, item in enumerate(_items(data.get("objectives"))):
        indicator = item.get("indicator") if isinstance(item, dict) else None
        if isinstance(indicator, str) and indicator in INDICATORS:
            asked = (_words(item.get("regions")), _words(item.get("protocols")))
            for field, message in _unfit(indicator, *asked, produced, regions):
                yield Finding(("objectives", i, field), message)
    for i, item in enumerate(_items(data.get("gates"))):
        yield from _gate(item, ("gates", i), produced)


def _gate(item: Any, path: Path, produced: Produced) -> Iterator[Finding]:
    used = item if isinstance(item, str) else item.get("use") if isinstance(item, dict) else None
    base = BUILT_IN.get(used, {}) if isinstance(used, str) else {}
    own = item if isinstance(item, dict) else {}
    for field in ("when", "resume"):
        try:
            terms = parse_gate(str(own.get(field, base.get(field, "")))).terms
        except GateSyntaxError:
            continue  # told already
        for name in dict.fromkeys(term.indicator for term in terms):
            if missing := produced.missing(name):
                yield Finding((*path, field) if field in own else path, f"this journey never measures {name}; it {missing}")


def _unfit(
    indicator: str, regions: Iterable[str], protocols: Iterable[str], produced: Produced, known: Collection[str]
) -> Iterator[tuple[str, str]]:
    if missing := produced.missing(indicator):
        yield "indicator", f"this journey never measures {indicator}; it {missing}"
        return
    for region in regions:
        if region not in known:
            yield "regions", f"{region!r} is not one of the scenario's regions: {', '.join(known)}"
    if regions and INDICATORS[indicator].of is Of.DUE:
        yield "regions", f"{indicator} is of all runs that are due, wherever; leave regions out"
    cells = produced.cells(indicator)
    for protocol in protocols:
        if cells in ((), WHOLE_RUN):
            yield "protocols", f"{indicator} is a whole run's and has no protocols"
        elif protocol not in cells:
            yield "protocols", f"{indicator} is measured here over {', '.join(cells)}, not over {protocol!r}"


def _produced(steps: Sequence[StepModel], declared: Collection[str]) -> Produced:
    published: set[str] = set()
    viewed: set[str] = set()
    coded: set[str] = set()
    cut: set[str] = set()
    services: set[str] = set()
    for step in steps:
        match step:
            case Publish():
                published.add(step.publish)
            case View():
                for view in step.view:
                    protocols = set(declared) if view.via == "all" else {view.via}
                    viewed |= protocols
                    coded |= protocols if view.verify == "code" else set()
            case Cut():
                cut |= {step.of} & viewed if step.of not in ("viewers", "publisher", "platform") else viewed
            case Http():
                services.add(step.service or (step.name if step.name in SERVICES else "room"))
            case Websocket():
                services.add(step.service or (step.name if step.name in SERVICES else "chat"))
            case _:
                pass
    return Produced(
        published=frozenset(published),
        viewed=frozenset(viewed),
        coded=frozenset(coded),
        cut=frozenset(cut),
        services=frozenset(services),
        tries=any(not isinstance(step, Wait) for step in steps),
    )


def _declared(platform: Any) -> set[str]:
    """Protocols that a platform, as it stands in a file, says addresses of."""
    views = _mapping(_mapping(platform).get("views"))
    regions = _mapping(_mapping(platform).get("regions")).values()
    return {str(via) for own in (views or DEFAULT_VIEWS, *(_mapping(_mapping(r).get("views")) for r in regions)) for via in own}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _words(value: Any) -> list[str]:
    """What stands there, one or many."""
    return [word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)]
