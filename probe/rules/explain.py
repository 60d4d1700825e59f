"""What each alert does, said before it does it: what it takes, how soon it notices, how soon it is over, how often it is wrong.

Times are worked out by replaying the alert's own conditions (`detect`) on runs as dense as the fleet makes them, in the thinnest
and in the densest cell: worst case, a loss that begins right after a good run, and evenly spread. How often chance alone would
page is a sum over the conditions (`sound.false_pages`), of an objective that fails exactly as often as it may: an upper bound,
since conditions share their failures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from probe.model.clock import NS
from probe.rules.chance import failures, false_pages
from probe.rules.conditions import Alert, Below, Burn, Condition, Kind, Silent
from probe.rules.detect import Detection, detect
from probe.rules.fleet import Fleet, Severity
from probe.rules.groups import INTERVALS
from probe.rules.selfwatch import due
from probe.rules.sound import sound
from probe.rules.windows import prom
from probe.scenario.units import format_ratio

LOSSES = (1.0, 0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """Of one cadence. Seconds; None: it never fires. `failures`: bad runs by then."""

    runs_per_hour: float
    loss: float
    after: float | None = None
    failures: int | None = None
    reset: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One alert, in words and figures. `chance`: pages in 30 days by chance alone, at most; None where that is no question."""

    alert: str
    severity: Severity
    shadow: bool
    slo: str
    scenario: str
    fires: tuple[str, ...]  # any of these
    names: tuple[str, ...]  # what it can name, the widest first
    noticed: tuple[Noticed, ...]
    chance: float | None
    why: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """For JSON; absent is absent."""
        return {key: value for key, value in asdict(self).items() if value not in (None, "")}


def explained(fleet: Fleet, alerts: Sequence[Alert]) -> tuple[Explained, ...]:
    """All of them, in order."""
    return tuple(_explained(fleet, alert) for alert in alerts)


def in_words(alert: Alert, condition: Condition) -> str:
    """What a condition asks."""
    match condition:
        case Burn(short=short, long=long, factor=factor, bad=bad, fresh=fresh):
            budget = alert.slo.budget if alert.slo else 0.0
            share = _percent(factor * budget)
            guard = f", {bad} failures at least" if bad else ""
            guard += f", {fresh} of them in the last {prom(short)}" if fresh else ""
            return f"above {share} bad over {prom(short)} and {prom(long)} ({factor:g} × {_percent(budget)}){guard}"
        case Below(window=window, ratio=ratio, runs=runs, bad=bad):
            guard = f", {bad} failures at least" if bad else f", of {runs} at least"
            return f"below {_percent(ratio)} good over {prom(window)}{guard}"
        case Silent(window=window, share=share):
            return f"fewer than {_percent(share)} of the runs due over {prom(window)}"


def rates(fleet: Fleet, alert: Alert) -> tuple[float, ...]:
    """Runs an hour of the thinnest and of the densest of its cells; of a silence, of what is due."""
    if alert.slo is not None:
        found = set(sound(alert.slo).rates.values())
    elif alert.kind in (Kind.SILENCE, Kind.STALE) and alert.conditions:
        found = set(due(fleet).values())
    else:
        found = set()
    return tuple(sorted({min(found), max(found)})) if found else ()


def noticed(alert: Alert, rate: float, loss: float) -> Detection | None:
    """What the alert does about that loss in a cell of that many runs an hour, as often as its rules are evaluated."""
    # A detection goes by these only: objectives of one shape and cadence are worked out once.
    shape = (alert.severity, alert.slo.budget if alert.slo else 0.0, alert.conditions, alert.hold, alert.keep, rate, loss)
    if shape not in _DETECTED:
        _DETECTED[shape] = detect(alert, rate, loss, interval=INTERVALS[alert.severity])
    return _DETECTED[shape]


_DETECTED: dict[tuple[object, ...], Detection | None] = {}


def _explained(fleet: Fleet, alert: Alert) -> Explained:
    slo = alert.slo
    held = f", for {prom(alert.hold)}" if alert.hold else ""
    return Explained(
        alert=alert.name,
        severity=alert.severity,
        shadow=alert.shadow,
        slo=slo.name if slo else "probe",
        scenario=slo.scenario if slo else "",
        fires=tuple(in_words(alert, condition) + held for condition in alert.conditions) or (_ELSE[alert.kind] + held,),
        names=tuple(scope.value for scope in alert.scopes) if slo else alert.by,
        noticed=tuple(_all_noticed(fleet, alert)),
        chance=_chance(alert) if slo and alert.severity is Severity.P1 else None,
        why=(*(sound(slo).because(alert.severity) if slo else ()), *_kept(alert)),
    )


def _kept(alert: Alert) -> Iterator[str]:
    if alert.keep:
        yield f"over once it has not been so for {prom(alert.keep)}: what comes back by then is the same one"


_ELSE = {
    Kind.SILENCE: "fewer agents are heard than the inventory has",
    Kind.TAINT: "figures were dropped before they were counted",
    Kind.DRILL: "a drill was not done by its time",
    Kind.WATCHDOG: "always",
}


def _all_noticed(fleet: Fleet, alert: Alert) -> Iterator[Noticed]:
    if not alert.conditions:
        return
    for rate in rates(fleet, alert):
        for loss in LOSSES if alert.slo else LOSSES[:1]:
            found = noticed(alert, rate, loss)
            if found is None:
                yield Noticed(runs_per_hour=rate, loss=loss)
                continue
            yield Noticed(runs_per_hour=rate, loss=loss, after=found.took / NS, failures=found.failures, reset=found.reset / NS)


def _chance(alert: Alert) -> float:
    slo = alert.slo
    assert slo is not None
    total = 0.0
    for condition in alert.conditions:
        if isinstance(condition, Burn | Below):
            window = condition.long if isinstance(condition, Burn) else condition.window
            for rate in sound(slo).rates.values():
                total += false_pages(rate, slo.budget, window, failures(rate, slo.budget, condition))
    return total


def _percent(share: float) -> str:
    return format_ratio(round(share, 10))
