"""Rule files: what is recorded of each objective, in the order in which alerts read it, and the alerts.

A file for each scenario and one for the probe itself. Rules of one group are evaluated one after another at the same moment, so
that an alert sees the series recorded just before it. Pages are looked at every 30 seconds; triage, whose windows are days and
cost the most, every two minutes. Sloth's metadata (slo:objective:ratio and so on) is recorded for dashboards that know it.
Only what something reads is recorded: a window that no alert asks for is none of ours.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from probe.model.clock import NS
from probe.rules import budget
from probe.rules.conditions import Alert, Burn, Scope
from probe.rules.fleet import Fleet, Severity, Slo, Source
from probe.rules.promql import (
    DUE,
    DUE_INTERVAL,
    as_a_whole,
    bad_cells,
    cells_name,
    error_name,
    error_ratio,
    number,
    of,
    scope_name,
)
from probe.rules.promql import windows as asked_windows
from probe.rules.selfwatch import EXPECTED, due, expected
from probe.rules.windows import DAY, prom

INTERVALS = {Severity.P1: 30 * NS, Severity.P2: 120 * NS}
OWN = "probe"  # the file of what the probe alerts about itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A recording rule, or an alerting one. `hold` ns is Prometheus' `for`, `keep` its `keep_firing_for`."""

    record: str = ""
    alert: str = ""
    expr: str
    hold: int = 0
    keep: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rules evaluated in this order, every `interval` ns (0: as Prometheus does by itself)."""

    name: str
    interval: int = 0
    rules: tuple[Rule, ...]


def rule_files(fleet: Fleet, alerts: Sequence[Alert]) -> dict[str, str]:
    """Path → text of every rule file, with `/` whatever the machine."""
    return {f"rules/{name}.yaml": text(groups) for name, groups in grouped(fleet, alerts).items()}


def grouped(fleet: Fleet, alerts: Sequence[Alert]) -> dict[str, list[Group]]:
    """Groups by the file they stand in: a scenario's name, or OWN."""
    files: defaultdict[str, list[Group]] = defaultdict(list)
    own = [alert for alert in alerts if alert.slo is None]
    files[OWN] = [
        *_inventory(fleet),
        Group(name="probe alerts", interval=INTERVALS[Severity.P1], rules=tuple(map(_alerting, own))),
    ]
    for slo in fleet.slos:
        files[file_of(slo)] += of_slo(slo, [alert for alert in alerts if alert.slo is slo])
    return dict(files)


def of_slo(slo: Slo, alerts: Sequence[Alert]) -> Iterator[Group]:
    """What is recorded of an objective, and its alerts."""
    recorded: set[int] = set()
    for alert in sorted(alerts, key=lambda a: a.severity.value):
        rules = []
        for window in asked_windows(alert.conditions):
            if window not in recorded:
                recorded.add(window)
                rules.append(_recording(slo, error_name(window), error_ratio(slo, alert.cells, window)))
        rules.append(_recording(slo, cells_name(alert.severity), bad_cells(alert)))
        if Scope.REGION in alert.scopes:
            whole = [scope for scope in alert.scopes if scope is not Scope.REGION]
            rules += [_recording(slo, scope_name(alert.severity, scope), as_a_whole(alert, scope)) for scope in whole]
        rules.append(_alerting(alert))
        stage = "page" if alert.severity is Severity.P1 else "triage"
        yield Group(name=f"{slo.scenario} {slo.name} {stage}", interval=INTERVALS[alert.severity], rules=tuple(rules))
    copied = (_recording(slo, budget.COPY, budget.copy(slo)),)
    yield Group(name=f"{slo.scenario} {slo.name} copy", interval=budget.STEP, rules=copied)
    yield Group(name=f"{slo.scenario} {slo.name} promise", interval=budget.INTERVAL, rules=tuple(_promise(slo, alerts)))


def series(fleet: Fleet, alerts: Sequence[Alert]) -> int:
    """How many series all of it makes in Prometheus in good times; a fault adds two for each alert and one for each bad cell."""
    count = sum(len(rule_group.rules) for rule_group in _inventory(fleet)) + 2  # the watchdog's ALERTS and ALERTS_FOR_STATE
    for slo in fleet.slos:
        mine = [alert for alert in alerts if alert.slo is slo]
        if mine:
            cells = len({tuple(str(getattr(cell, label)) for label in mine[0].cells) for cell in slo.cells})
            windows = {window for alert in mine for window in asked_windows(alert.conditions)}
            count += cells * (len(windows) + 1) + len(list(_promise(slo, mine))) + _copies(fleet, slo)
    return count


def _copies(fleet: Fleet, slo: Slo) -> int:
    """Series of the copy that budgets are reckoned from: of each agent that measures the objective, by outcome."""
    regions = {cell.region for cell in slo.cells}
    beating = [a for a in fleet.agents if a.region in regions and any(beat.scenario == slo.scenario for beat in a.beats)]
    return len(beating) * (1 if slo.source is Source.COVERAGE else 2)


def text(groups: Iterable[Group]) -> str:
    """A rule file."""
    return render("rules.yaml.j2", groups=list(groups))


def file_of(slo: Slo) -> str:
    """The file that an objective's rules stand in."""
    return slo.scenario if slo.scenario != OWN else f"{OWN}-scenario"


def render(template: str, **values: object) -> str:
    """A template of YAML filled: `text` quotes, `duration` writes ns as Prometheus does."""
    return _environment().get_template(template).render(**values)


def _promise(slo: Slo, alerts: Sequence[Alert]) -> Iterator[Rule]:
    yield _recording(slo, "slo:objective:ratio", f"vector({number(slo.target)})")
    yield _recording(slo, "slo:error_budget:ratio", f"vector({number(slo.budget)})")
    yield _recording(slo, "slo:time_period:days", f"vector({number(slo.window / DAY)})")
    yield from (_recording(slo, name, expr) for name, expr in budget.rules(slo))
    shorts = [condition.short for alert in alerts for condition in alert.conditions if isinstance(condition, Burn)]
    if shorts:
        yield _recording(slo, "slo:current_burn_rate:ratio", f"{error_name(min(shorts))}{of(slo)} / {number(slo.budget)}")


def _inventory(fleet: Fleet) -> Iterator[Group]:
    rules = [
        Rule(
            record=DUE,
            expr=f"vector({number(rate)})",
            labels={"scenario": scenario, "publish_region": publish, "region": region},
        )
        for (scenario, publish, region), rate in sorted(due(fleet).items())
    ]
    rules += [
        Rule(record=EXPECTED, expr=f"vector({count})", labels={"region": region})
        for region, count in sorted(expected(fleet).items())
    ]
    if rules:
        yield Group(name="probe inventory", interval=DUE_INTERVAL, rules=tuple(rules))


def _recording(slo: Slo, name: str, expr: str) -> Rule:
    return Rule(record=name, expr=expr, labels={"scenario": slo.scenario, "slo": slo.name})


def _alerting(alert: Alert) -> Rule:
    return Rule(
        alert=alert.name, expr=alert.expr, hold=alert.hold, keep=alert.keep, labels=alert.labels, annotations=alert.annotations
    )


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # it is YAML; every text in it is quoted by `text`
    )
    environment.filters["text"] = lambda value: json.dumps(value, ensure_ascii=False)  # YAML reads every JSON string
    environment.filters["duration"] = prom
    return environment
