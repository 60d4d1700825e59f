"""promtool's unit tests for the rules, made beside them: that each alert does what `--explain` says of it.

Of each scenario: one failed run does nothing; a total loss of one region, of all that one region publishes, and of everything
is told once and by that name, at the time explained and not well before; when it ends, pages end. Runs come as often as the
fleet makes them. What was before is told to Prometheus as one jump of good runs, so that a test is hours long and not days: of
the longest window of an alert where silence is asked for, of the shortest where firing is. Objectives whose rules differ in
nothing but their name are tested once, on as few cells as tell the scopes apart: promtool takes half a millisecond for each
rule and evaluation.

Labels are asked of ALERTS and not of promtool's alert tests: those compare annotations too, and ours name what is bad just then.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from probe.rules.conditions import Alert, Below, Burn, Scope
from probe.rules.explain import noticed, rates
from probe.rules.fleet import Cell, Fleet, Severity, Slo, Source
from probe.rules.groups import OWN, file_of, render
from probe.rules.promql import EVERYWHERE, matching
from probe.rules.selfwatch import WATCHDOG, due, expected
from probe.rules.windows import HOUR, MINUTE

SLACK = 4  # minutes: a scrape, an evaluation of triage, and what increase() reads at its edges
_CLEAN = {Severity.P1: 65, Severity.P2: 125}  # minutes of runs one by one before a loss; what was before those is the jump
_JUMP = 2  # the minute of it
Lost = Callable[[Cell], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One of promtool's input series. `values`: a sample each minute."""

    name: str
    values: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What fires at a minute: the labels of each, which `expr` groups by."""

    at: int
    expr: str
    firing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One history and what is asked of it."""

    name: str
    series: tuple[Series, ...]
    asked: tuple[Asked, ...]


def unit_files(fleet: Fleet, alerts: Sequence[Alert]) -> dict[str, str]:
    """Path → text of each file for `promtool test rules`; it stands below the rule file that it tests."""
    found: defaultdict[str, list[Alert]] = defaultdict(list)
    shapes: set[tuple[object, ...]] = set()
    for alert in alerts:
        if alert.slo is not None and alert.slo.source is Source.RUNS and (shape := _shape(alert)) not in shapes:
            shapes.add(shape)
            found[file_of(alert.slo)].append(replace(alert, slo=replace(alert.slo, cells=_few(alert))))
    files = {name: [case for severity in _CLEAN for case in _cases(fleet, mine, severity)] for name, mine in found.items()}
    files[OWN] = list(_own(fleet, alerts))
    return {
        f"rules/tests/{name}.yaml": render("units.yaml.j2", rules=f"../{name}.yaml", cases=c) for name, c in files.items() if c
    }


def _shape(alert: Alert) -> tuple[object, ...]:
    """What its rules are made from, but for names."""
    slo = alert.slo
    assert slo is not None
    return file_of(slo), alert.severity, alert.cells, alert.scopes, alert.conditions, alert.hold, slo.target, slo.cells


def _few(alert: Alert) -> tuple[Cell, ...]:
    """Two regions at each end, and one protocol; all where cells are pooled, or differ in more than their names."""
    assert alert.slo is not None
    cells = alert.slo.cells
    if len({cell.runs_per_hour for cell in cells}) > 1 or not {"publish_region", "region"} <= set(alert.cells):
        return cells
    publishing, viewing = (sorted({getattr(cell, end) for cell in cells})[-2:] for end in ("publish_region", "region"))
    protocol = min(cell.protocol for cell in cells)
    few = tuple(c for c in cells if c.publish_region in publishing and c.region in viewing and c.protocol == protocol)
    return few if len({cell.region for cell in few}) == len(viewing) else cells


@dataclass(frozen=True, slots=True)
class _Timed:
    """An alert and when, in minutes after a total loss began, it can fire at the soonest and must fire at the latest."""

    alert: Alert
    soonest: int
    latest: int


def _cases(fleet: Fleet, alerts: Sequence[Alert], severity: Severity) -> Iterator[Case]:
    timed = [found for alert in alerts if alert.severity is severity and (found := _timed(fleet, alert))]
    if not timed:
        return
    slos = [found.alert.slo for found in timed if found.alert.slo]
    cells = [cell for slo in slos for cell in slo.cells]
    slowest = min(cell.runs_per_hour for cell in cells)
    after = math.ceil(math.ceil(_CLEAN[severity] * slowest / 60) * 60 / slowest)  # right after a run of the slowest
    stage = "page" if severity is Severity.P1 else "triage"
    one = min(cells, key=lambda cell: (cell.publish_region, cell.region))

    def same_run(cell: Cell) -> bool:
        return (cell.publish_region, cell.region) == (one.publish_region, one.region)

    end = after + int(120 / slowest) + SLACK
    yield Case(
        name=f"{stage}: one failed run does nothing",
        series=_runs({t.alert.slo: _before(t, after, 0, max) for t in timed}, end, same_run, after, after + 60 / slowest),
        asked=tuple(_ask(t.alert, at) for t in timed for at in (after + SLACK, (after + end) // 2, end)),
    )
    for title, lost, told in _faults(slos, severity):
        asked = [t for t in timed if told(t.alert)]
        if not asked:
            continue
        until = after + max(t.latest for t in asked) + SLACK
        over = until + max(_lasting(t.alert) for t in asked) + SLACK if severity is Severity.P1 else until
        yield Case(
            name=f"{stage}: {title}",
            series=_runs({t.alert.slo: _before(t, after, t.latest, min) for t in timed}, over, lost, after, until),
            asked=tuple(question for t in asked for question in _questions(t, after, over, told(t.alert))),
        )


def _questions(timed: _Timed, after: int, over: int, named: dict[str, str]) -> Iterator[Asked]:
    page = timed.alert.severity is Severity.P1
    if page and timed.soonest > SLACK and timed.latest < _CLEAN[Severity.P1]:  # all that decides is told run by run
        yield _ask(timed.alert, after + timed.soonest - SLACK)
    yield _ask(timed.alert, after + timed.latest + SLACK, named)
    if page:
        yield _ask(timed.alert, over)


def _faults(slos: Sequence[Slo], severity: Severity) -> Iterator[tuple[str, Lost, Callable[[Alert], dict[str, str]]]]:
    """What breaks, which cells that takes, and how each alert is to tell it (empty: it is not asked)."""
    regions = sorted({cell.region for slo in slos for cell in slo.cells})
    publishing = sorted({cell.publish_region for slo in slos for cell in slo.cells})
    region, publish = regions[-1], publishing[-1]
    yield (
        f"viewers in {region} lose everything",
        lambda cell: cell.region == region,
        lambda alert: {"region": region} if "region" in alert.cells and _views(alert, region) else {},
    )
    if severity is not Severity.P1:
        return  # both are named in the same way
    yield (
        f"what {publish} publishes is lost",
        lambda cell: cell.publish_region == publish,
        lambda alert: {"region": publish, "publish_region": publish} if _viewed(alert, publish) else {},
    )
    yield (
        "everything is lost",
        lambda cell: True,
        lambda alert: {"region": EVERYWHERE} if Scope.EVERYWHERE in alert.scopes else {},
    )


def _views(alert: Alert, region: str) -> bool:
    return alert.slo is not None and any(cell.region == region for cell in alert.slo.cells)


def _viewed(alert: Alert, publish: str) -> bool:
    """Whether the alert can tell that region's publishing apart: several regions view it, and it is not all there is."""
    assert alert.slo is not None
    views = {cell.region for cell in alert.slo.cells if cell.publish_region == publish}
    return Scope.PUBLISH in alert.scopes and len(views) > 1


def _timed(fleet: Fleet, alert: Alert) -> _Timed | None:
    found = rates(fleet, alert)
    slow, fast = noticed(alert, found[0], 1.0), noticed(alert, found[-1], 1.0)
    if slow is None or fast is None:
        return None
    soonest = (fast.took - HOUR / found[-1]) / MINUTE
    latest = max(slow.took, fast.took) / MINUTE
    assert alert.slo is not None
    slowest = min(cell.runs_per_hour for cell in alert.slo.cells)
    if slowest < found[0]:  # pooled: here all run at the same moment, and not one after another
        soonest, latest = soonest - 60 / slowest, latest + 60 / slowest
    return _Timed(alert, max(0, int(soonest)), math.ceil(latest))


def _before(timed: _Timed, after: int, then: int, which: Callable[[list[int]], int]) -> float:
    """Hours of good runs told at once: what a window holds, `then` minutes after the loss began, of what was before the clean
    runs. Of its longest or its shortest window that is longer than those."""
    longs = [c.long // MINUTE for c in timed.alert.conditions if isinstance(c, Burn) and c.long > after * MINUTE]
    return max(0, which(longs) - after - then) / 60 if longs else 0.0


def _lasting(alert: Alert) -> int:
    """Minutes after which nothing bad is left in a window that must still see it, and the alert is no longer kept."""
    found = [c.short if isinstance(c, Burn) else c.window for c in alert.conditions if isinstance(c, Burn | Below)]
    return (max(found) + alert.keep) // MINUTE


def _runs(before: Mapping[Slo | None, float], end: int, lost: Lost, begin: float, until: float) -> tuple[Series, ...]:
    """Counters of every cell until minute `end`; runs that end after `begin` and no later than `until` are bad where `lost`."""
    made = []
    for slo, jump in before.items():
        assert slo is not None
        for cell in slo.cells:
            labels = {
                "mode": "scheduled", "scenario": slo.scenario, "slo": slo.name, "publish_region": cell.publish_region,
                "region": cell.region, **({"protocol": cell.protocol} if cell.protocol else {}),
            }  # fmt: skip
            good, bad = _counters(cell, end, round(jump * cell.runs_per_hour), lost(cell), begin, until)
            for outcome, values in (("good", good), ("bad", bad)):
                name = f"streamprobe_objective_runs_total{matching(**labels, outcome=outcome)}"
                made.append(Series(name=name, values=_brief(values)))
    return tuple(made)


def _counters(cell: Cell, end: int, jump: int, lost: bool, begin: float, until: float) -> tuple[list[int], list[int]]:
    per_minute = cell.runs_per_hour / 60
    good, bad = [], []
    for minute in range(end + 1):
        ran = int(minute * per_minute + 1e-9)
        failed = max(0, int(min(minute, until) * per_minute + 1e-9) - int(begin * per_minute + 1e-9)) if lost else 0
        good.append(ran - failed + (jump if minute >= _JUMP else 0))
        bad.append(failed)
    return good, bad


def _brief(values: Sequence[int]) -> str:
    """In promtool's notation: 5, 5, 5, 6 is `5x2 6`."""
    out: list[str] = []
    first = 0
    for i in range(1, len(values) + 1):
        if i == len(values) or values[i] != values[first]:
            out.append(f"{values[first]}x{i - first - 1}" if i - first > 1 else str(values[first]))
            first = i
    return " ".join(out)


def _ask(alert: Alert, at: float, named: dict[str, str] | None = None) -> Asked:
    firing = f'ALERTS{{alertname="{alert.name}",alertstate="firing"}}'
    return Asked(
        at=round(at),
        expr=f"count by (region, publish_region) ({firing})",
        firing=(matching(**named),) if named else (),
    )


def _own(fleet: Fleet, alerts: Sequence[Alert]) -> Iterator[Case]:
    """An agent that dies, and one that answers and makes no runs: of the region that would be noticed last."""
    names = {alert.name: alert for alert in alerts if alert.slo is None}
    yield Case(name="the watchdog always fires", series=(), asked=(_ask(names[WATCHDOG], 5, {"region": EVERYWHERE}),))
    found = due(fleet)
    if not found:
        return
    region = min(found, key=lambda key: found[key])[2]
    (window,) = {c.window // MINUTE for a in alerts if a.name == "RegionSilent" for c in a.conditions if hasattr(c, "window")}
    fell = 2 * window
    end = fell + window + SLACK
    for name, dead in (("RegionSilent", True), ("RegionStale", False)):
        other = "RegionStale" if dead else "RegionSilent"
        series = []
        for place in sorted(expected(fleet)):
            gone = place == region
            info = f"1x{fell - 1} stale" if gone and dead else f"1x{end}"
            series.append(
                Series(name=f'streamprobe_self_agent_info{{instance="{place}",job="probe",region="{place}"}}', values=info)
            )
        for (scenario, publish, place), rate in sorted(found.items()):
            gone = place == region
            values = [int(min(minute, fell if gone else end) * rate / 60 + 1e-9) for minute in range(end + 1)]
            counted = _brief(values[:fell]) + " stale" if gone and dead else _brief(values)
            labels = matching(
                mode="scheduled", scenario=scenario, publish_region=publish, region=place, verdict="pass",
                instance=place, job="probe",
            )  # fmt: skip
            series.append(Series(name=f"streamprobe_runs_total{labels}", values=counted))
        yield Case(
            name=f"{region} {'is no longer heard' if dead else 'makes no more runs'}",
            series=tuple(series),
            asked=(
                _ask(names[name], fell - 1),
                _ask(names[name], end, {"region": region}),
                _ask(names[other], end),
            ),
        )
