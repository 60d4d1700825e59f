"""Every alert of a fleet: of each objective a page and a triage, and the few that the probe raises about itself.

Two alerts of an objective are enough. The direct rule ("below x for 10 minutes") and the fast burn are conditions of one page, so
that one fault cannot page twice; which region, or whether everything, is a label of it and not an alert of its own. Nothing
alerts on a cause: no CPU, no memory, no queue; what a viewer does not feel is for dashboards.

An alert that nobody owns, or that tells nobody what to do, is a mistake in the objective's file: then
nothing is generated.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from probe.errors import ConfigError, Located
from probe.model.clock import NS
from probe.rules.chance import failures
from probe.rules.conditions import Alert, Below, Burn, Condition, Kind, Scope
from probe.rules.fleet import Fleet, Severity, Slo
from probe.rules.links import dashboard_url, runbook_url
from probe.rules.promql import EVERYWHERE, cells_name, firing, of
from probe.rules.selfwatch import self_alerts
from probe.rules.sound import JITTER, LATE, Sound, Unsound, sound
from probe.rules.windows import HOUR, prom
from probe.scenario.units import format_ratio

LABELS = ("slo", "region", "severity", "owner")
KEEP = 600 * NS  # a page that comes back within it is the same one: nobody acts on a pause of ten minutes
ANNOTATIONS = ("summary", "action", "runbook", "dashboard", "sla")
_STAGE = {Severity.P1: "Page", Severity.P2: "Triage"}
_WORDS = re.compile(r"[^A-Za-z0-9]+")
_WHERE = (
    '{{ if eq $labels.region "all" }}everywhere{{ else if $labels.publish_region }}for all that is published in'
    " {{ $labels.publish_region }}{{ else }}for viewers in {{ $labels.region }}{{ end }}"
)


def alerts(fleet: Fleet) -> tuple[Alert, ...]:
    """All of them, complete. Raises ConfigError with every objective that cannot be alerted on, at its place."""
    mistakes: list[Located] = []
    made: list[Alert] = []
    for slo in fleet.slos:
        try:
            made += of_slo(slo, sound(slo))
        except Unsound as error:
            mistakes.append(located(slo, str(error)))
    made += self_alerts(fleet)
    whole = [told(fleet, alert) for alert in made]
    for alert in whole:
        mistakes += missing(fleet, alert)
    for name, times in Counter(alert.name for alert in whole).items():
        if times > 1:
            last = next(alert.slo for alert in reversed(whole) if alert.name == name)
            mistakes.append(located(last, f"{times} alerts would be called {name}; rename the objective", fleet))
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return tuple(whole)


def of_slo(slo: Slo, chosen: Sound) -> Iterator[Alert]:
    """Page and triage of an objective; either is left out where it could never fire."""
    for severity, conditions in ((Severity.P1, chosen.page), (Severity.P2, chosen.triage)):
        if not conditions:
            continue
        bare = Alert(
            name=f"{_camel(slo)}{_STAGE[severity]}",
            kind=Kind.DIRECT if all(isinstance(c, Below) for c in conditions) else Kind.BURN,
            severity=severity,
            slo=slo,
            by=("region",) if "region" in chosen.cells else (),
            cells=chosen.cells,
            scopes=_scopes(slo, chosen.cells),
            conditions=conditions,
            hold=_hold(slo, chosen, conditions),
            settle=_settle(slo, chosen),
            keep=KEEP if severity is Severity.P1 else 0,
            expr="",
            shadow=slo.shadow,
        )
        yield replace(bare, expr=firing(bare))


def told(fleet: Fleet, alert: Alert) -> Alert:
    """With the labels that route it, and the annotations that whoever is called reads."""
    slo = alert.slo
    labels = {
        "slo": slo.name if slo else "probe",
        "severity": alert.severity.value,
        "owner": slo.owner if slo else fleet.owner,
        **({"scenario": slo.scenario, "service": slo.service} if slo else {"service": "probe"}),
        **({} if "region" in alert.by else {"region": EVERYWHERE}),
        **({"shadow": "true"} if alert.shadow else {}),
        **alert.labels,
    }
    alert = replace(alert, labels=labels)
    sla = fleet.sla.get(alert.severity)
    annotations = {
        **(_words(slo, alert) if slo else {}),
        **alert.annotations,
        "runbook": runbook_url(fleet, alert),
        "dashboard": dashboard_url(fleet, alert),
        **({"sla": f"somebody has looked within {_duration(sla)}"} if sla else {}),
    }
    return replace(alert, annotations=annotations)


def missing(fleet: Fleet, alert: Alert) -> Iterator[Located]:
    """What an alert lacks, at the place of its objective."""
    for name in LABELS:
        if name not in alert.by and not alert.labels.get(name, "").strip():
            yield located(alert.slo, f"alert {alert.name} has no {name}; {_REMEDY.get(name, 'say one')}", fleet)
    for name in ANNOTATIONS:
        if not alert.annotations.get(name, "").strip():
            yield located(alert.slo, f"alert {alert.name} has no {name}; {_REMEDY.get(name, 'say one')}", fleet)


_REMEDY = {
    "owner": "write owner: into the objective or its scenario: who is called",
    "action": "write action: into the objective: what whoever is called does first",
    "sla": "write sla: {P1: 5m, P2: 4h} into the fleet: until when somebody has looked",
}


def located(slo: Slo | None, message: str, fleet: Fleet | None = None) -> Located:
    """A mistake at the place of its objective, or of the fleet."""
    if slo is None:
        return Located(fleet.name if fleet else "fleet", 0, 0, "", message)
    file, _, rest = slo.place.partition(":")
    line, _, column = rest.partition(":")
    at = [int(text) if text.isdigit() else 0 for text in (line, column)]
    return Located(file or slo.scenario, at[0], at[1] or min(at[0], 1), f"objective {slo.name}", message)


def _scopes(slo: Slo, cells: tuple[str, ...]) -> tuple[Scope, ...]:
    """What of this objective can be bad as a whole, widest first."""
    if "region" not in cells:
        return (Scope.EVERYWHERE,)
    publishing, viewing = {cell.publish_region for cell in slo.cells}, {cell.region for cell in slo.cells}
    apart = "publish_region" in cells
    found = [Scope.EVERYWHERE] if len(viewing) > 1 and (len(publishing) > 1 or not apart) else []
    views = Counter(publish for publish, _ in {(cell.publish_region, cell.region) for cell in slo.cells})
    if apart and max(views.values()) > 1:
        found.append(Scope.PUBLISH)
    return (*found, Scope.REGION)


def _hold(slo: Slo, chosen: Sound, conditions: tuple[Condition, ...]) -> int:
    """What gives the slowest cell time to show what the fastest has: without it a fault of all pages for the fastest first. Of
    cells with one rate the first alert finds all of them failing: several runs failed before it, one of each since."""
    slow, fast = min(chosen.rates.values()), max(chosen.rates.values())
    if slow == fast or len(_scopes(slo, chosen.cells)) == 1:
        return 0
    soonest = min(failures(fast, slo.budget, c) * HOUR / fast for c in conditions if isinstance(c, Burn | Below))
    wait = int(HOUR / slow * JITTER) + LATE - soonest
    return max(0, -(-int(wait) // (30 * NS)) * 30 * NS)


def _settle(slo: Slo, chosen: Sound) -> int:
    """The parts of one fault leave their windows one run after another, as they came: what is left for the time between two
    runs is no fault of its own."""
    if len(_scopes(slo, chosen.cells)) == 1:
        return 0
    return -(-(int(HOUR / min(chosen.rates.values()) * JITTER) + LATE) // (30 * NS)) * 30 * NS


def _words(slo: Slo, alert: Alert) -> dict[str, str]:
    worst = f"{cells_name(alert.severity)}{of(slo)}"
    cells = " ".join(f'{{{{ label "{label}" . }}}}' for label in alert.cells)
    stage = {
        Severity.P1: f"The budget of {prom(slo.window)} burns so fast that it cannot wait.",
        Severity.P2: f"The budget of {prom(slo.window)} burns faster than it may.",
    }
    promised = f"{format_ratio(slo.target)} of runs over {prom(slo.window)}"
    return {
        "summary": f"{_called(slo)} is broken {_WHERE}"
        if alert.severity is Severity.P1
        else f"{_called(slo)} loses its budget {_WHERE}",
        "description": f"Promised, for {promised}: {slo.meaning}. {stage[alert.severity]} Bad now:"
        f'{{{{ range query `{worst}` | sortByLabel "region" }}}} [{cells}]{{{{ end }}}}',
        "action": slo.action,
    }


def _called(slo: Slo) -> str:
    return slo.name if slo.name == slo.scenario else f"{slo.scenario}: {slo.name}"


def _camel(slo: Slo) -> str:
    """`room-start` and `first-frame`: RoomStartFirstFrame; an objective called as its scenario is not called so twice."""
    scenario, name = (_WORDS.split(text) for text in (slo.scenario, slo.name))
    words = name if name[: len(scenario)] == scenario else [*scenario, *name]
    return "".join(word[:1].upper() + word[1:] for word in words)


def _duration(ns: int) -> str:
    return prom(ns) if ns % (60 * NS) == 0 else f"{ns / NS:g}s"
