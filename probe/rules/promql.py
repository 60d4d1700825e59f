"""What Prometheus evaluates: the recorded series of an objective, and the expression of its alerts.

Names of recorded series are Sloth's (slo:sli_error:ratio_rate5m, slo:objective:ratio, …), for dashboards that know them; labels
are ours. A ratio is of increases over its own window, never a mean of ratios; where nothing ran there is none, and what is not
there is neither good nor bad. Cells that meet an alert's condition are recorded too (`slo:page:cells`): in good times
no series at all.

**One fault, one alert.** Of the cells that are bad, the widest thing that is bad as a whole is named: everything, or whatever one
region publishes, and only the rest by the region that views it. "As a whole" goes by how bad the parts are now, not by whether
each has crossed the threshold: the parts of one fault cross it one run after another, and the first must not page by itself. A
part is as bad where its share of bad runs is above a third of the worst part's, so that a stray failure elsewhere does not turn
a region's fault into everybody's. If any cell is bad, one of the three fires: naming never swallows a page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from probe.model.clock import NS
from probe.model.metrics import PREFIX
from probe.rules.conditions import Alert, Below, Burn, Condition, Scope
from probe.rules.fleet import Severity, Slo, Source
from probe.rules.windows import HOUR, prom

AS_BAD = 3  # a part is as bad as the worst above one in so many of its share
EVERYWHERE = "all"  # the region of what is bad everywhere
DUE = "probe:runs_due:per_hour"  # by scenario, publish_region, region: the inventory
DUE_INTERVAL = 60 * NS  # of its group: what was due adds up from samples
_STAGE = {Severity.P1: "page", Severity.P2: "triage"}
RUNS = f"{PREFIX}objective_runs_total"
RUNS_MADE = f"{PREFIX}runs_total"


def matching(**labels: str) -> str:
    """`{a="b",c="d"}`."""
    return "{" + ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items()) + "}"


def of(slo: Slo) -> str:
    """The matchers of what is recorded about an objective."""
    return matching(scenario=slo.scenario, slo=slo.name)


def by(labels: Iterable[str]) -> str:
    """`by (a, b)`; the whole where there are none."""
    return f"by ({', '.join(labels)})"


def error_name(window: int) -> str:
    """As Sloth names it."""
    return f"slo:sli_error:ratio_rate{prom(window)}"


def cells_name(severity: Severity) -> str:
    """Cells that meet an alert's conditions; by how much is bad there."""
    return f"slo:{_STAGE[severity]}:cells"


def scope_name(severity: Severity, scope: Scope) -> str:
    """What is bad as a whole, by that scope."""
    return f"slo:{_STAGE[severity]}:{scope.value}"


def error_ratio(slo: Slo, cells: tuple[str, ...], window: int) -> str:
    """Bad ÷ all of each cell over a window; nothing where nothing ran."""
    if slo.source is Source.COVERAGE:
        return f"clamp_min({_missing(slo, cells, window)}, 0)\n/\n({_due(slo, cells, window)} > 0)"
    return f"{bad_runs(slo, cells, window)}\n/\n({_increase(slo, cells, window, '=~', 'good|bad')} > 0)"


def bad_runs(slo: Slo, cells: tuple[str, ...], window: int) -> str:
    """How many were bad of each cell over a window."""
    if slo.source is Source.COVERAGE:
        return f"({_missing(slo, cells, window)})"
    return _increase(slo, cells, window, "=", "bad")


def bad_cells(alert: Alert) -> str:
    """The cells that meet any of an alert's conditions; the value is the share of bad runs."""
    assert alert.slo is not None
    return "\nor\n".join(f"(\n  {_met(alert.slo, alert.cells, condition)}\n)" for condition in alert.conditions)


def as_a_whole(alert: Alert, scope: Scope) -> str:
    """What of that scope holds a bad cell, and is as bad in all its parts, of which there are several."""
    assert alert.slo is not None
    slo, wider = alert.slo, ("publish_region",) if scope is Scope.PUBLISH else ()
    parts = tuple(label for label in ("publish_region", "region") if label in alert.cells)
    share = f"max {by(parts)} ({error_name(evidence(alert))}{of(slo)})"
    join = f"on ({', '.join(wider)})"
    as_bad = f"{share} > {join} group_left () (max {by(wider)} ({share}) / {AS_BAD})"
    return (
        f"max {by(wider)} ({cells_name(alert.severity)}{of(slo)})\nand {join}\n"
        f"(\n  count {by(wider)} ({as_bad})\n  ==\n  count {by(wider)} ({share})\n  > 1\n)"
    )


def firing(alert: Alert) -> str:
    """The alert's expression: each scope, the wider first, without what lies within a wider one."""
    assert alert.slo is not None
    slo = alert.slo
    parts: list[str] = []
    without = ""
    for scope in alert.scopes:
        if scope is Scope.REGION:
            named = f"max by (region) (\n  {cells_name(alert.severity)}{of(slo)}{without}\n)"
        elif Scope.REGION not in alert.scopes:  # all regions are counted together: there is nothing narrower
            named = f'label_replace(max by () ({cells_name(alert.severity)}{of(slo)}), "region", "{EVERYWHERE}", "", "")'
        elif scope is Scope.EVERYWHERE:
            named = f'label_replace({scope_name(alert.severity, scope)}{of(slo)}, "region", "{EVERYWHERE}", "", "")'
            without = f"\n  unless on () {_lately(alert, scope)}"
        else:
            named = (
                f"label_replace(\n  {scope_name(alert.severity, scope)}{of(slo)}{without},\n"
                '  "region", "$1", "publish_region", "(.*)"\n)'
            )
            without = f"\n  unless on (publish_region) {_lately(alert, scope)}{without}"
        parts.append(named)
    return "\nor\n".join(parts)


def _lately(alert: Alert, scope: Scope) -> str:
    """What was bad as a whole within `settle`: its parts end one run after another, and the last is no fault of its own."""
    assert alert.slo is not None
    name = f"{scope_name(alert.severity, scope)}{of(alert.slo)}"
    return f"last_over_time({name}[{prom(alert.settle)}])" if alert.settle else name


def windows(conditions: Iterable[Condition]) -> Iterator[int]:
    """Every window over which shares of bad runs are asked for."""
    for condition in conditions:
        match condition:
            case Burn(short=short, long=long):
                yield from (short, long)
            case Below(window=window):
                yield window


def number(value: float) -> str:
    """Without the noise of binary fractions: 1 - 0.995 is `0.005`."""
    return f"{value:.10g}"


def _met(slo: Slo, cells: tuple[str, ...], condition: Condition) -> str:
    match condition:
        case Burn(short=short, long=long, factor=factor, bad=bad, fresh=fresh):
            above = f"> ({number(factor)} * {number(slo.budget)})"
            asked = f"{error_name(short)}{of(slo)} {above}\n  and\n  {error_name(long)}{of(slo)} {above}"
            return asked + _guarded(slo, cells, long, bad) + _guarded(slo, cells, short, fresh)
        case Below(window=window, ratio=ratio, runs=runs, bad=bad):
            asked = f"{error_name(window)}{of(slo)} > (1 - {number(ratio)})" + _guarded(slo, cells, window, bad)
            if runs > max(bad, 1):  # so many bad ones are as many runs
                asked += f"\n  and on ({', '.join(cells)})\n  {_increase(slo, cells, window, '=~', 'good|bad')} > {runs - 0.5:g}"
            return asked
        case _:
            raise TypeError(f"{condition} is not about an objective")


def _guarded(slo: Slo, cells: tuple[str, ...], window: int, bad: int) -> str:
    # increase() extrapolates a few per cent beyond what it saw: a threshold stands between whole numbers.
    return f"\n  and on ({', '.join(cells)})\n  {bad_runs(slo, cells, window)} > {bad - 0.5:g}" if bad > 1 else ""


def evidence(alert: Alert) -> int:
    """The window that tells how bad the parts are. For pages the widest short one: it tells what goes on now, and does not forget
    before the alert has. For triage, where failures are few, the narrowest long one."""
    burns = [c for c in alert.conditions if isinstance(c, Burn)]
    if alert.severity is Severity.P2 and burns:
        return min(burn.long for burn in burns)
    return max([burn.short for burn in burns] + [c.window for c in alert.conditions if isinstance(c, Below)])


def _increase(slo: Slo, cells: tuple[str, ...], window: int, how: str, outcome: str) -> str:
    selector = f'{RUNS}{{mode="scheduled",scenario="{slo.scenario}",slo="{slo.name}",outcome{how}"{outcome}"}}'
    return f"sum {by(cells)} (increase({selector}[{prom(window)}]))"


def _missing(slo: Slo, cells: tuple[str, ...], window: int) -> str:
    """Due and not made. Nobody who speaks is nobody who ran: the inventory knows what is due, and stands for him."""
    due = _due(slo, cells, window)
    made = f"sum {by(cells)} (increase({RUNS_MADE}{matching(mode='scheduled', scenario=slo.scenario)}[{prom(window)}]))"
    return f"{due} - ({made} or {due} * 0)"


def _due(slo: Slo, cells: tuple[str, ...], window: int) -> str:
    per_sample = number(DUE_INTERVAL / HOUR)
    return f"sum {by(cells)} (sum_over_time({DUE}{matching(scenario=slo.scenario)}[{prom(window)}])) * {per_sample}"
