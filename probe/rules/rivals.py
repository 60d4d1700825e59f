"""What others page by, on the same runs: static thresholds as teams write them first, and Sloth's shapes.

Sloth (https://sloth.dev, its default windows for 30 days are the SRE workbook's, chapter 5, table 5-8): page on 5m and 1h or 30m
and 6h, ticket on 2h and 1d or 6h and 3d, no `for`, no least number of failures. One specification is one label set, so there are
two readings: an objective as a whole (`sloth`), and one specification for each region and protocol (`sloth-split`).
Static: success below 95 % over 5 minutes by region, and 3 failures in a row of a cell.
An objective that says `page: false` pages nowhere: Sloth can be told so too, and nobody puts a threshold on it.
None of them knows of taint or of an inventory. They read the same runs: whoever alerts on single viewers has it noisier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from probe.model.clock import NS
from probe.rules.conditions import Alert, Below, Burn, Condition, Kind
from probe.rules.fleet import Severity, Slo, Source
from probe.scenario.indicators import INDICATORS, Unit
from probe.scenario.schema import Gate

MINUTE, HOUR, DAY = 60 * NS, 3600 * NS, 86_400 * NS
CELL = ("publish_region", "region", "protocol")
_PAGES = ((5 * MINUTE, HOUR, 0.02), (30 * MINUTE, 6 * HOUR, 0.05))  # short, long, share of the budget spent in the long one
_TICKETS = ((2 * HOUR, DAY, 0.1), (6 * HOUR, 3 * DAY, 0.1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruleset:
    """Something that decides when to page. `naive`: it counts tainted runs too. `inhibits`: its pages keep its tickets of the
    same thing quiet, and that of a room start what follows from it. `in_a_row`: so many failures of a cell, one after the other,
    page, for each of `slos`; 0: none do. `gates`: a closed one counts as a page; with the scenario of each, whose objectives are
    among `slos`."""

    name: str
    spoken: str
    alerts: tuple[Alert, ...] = ()
    naive: bool = False
    inhibits: bool = False
    in_a_row: int = 0
    gates: tuple[tuple[str, Gate], ...] = ()
    slos: tuple[Slo, ...] = ()


def sloth(slos: Sequence[Slo]) -> Ruleset:
    """An alert an objective, whatever the region."""
    alerts = tuple(alert for slo in slos for alert in _sloth(slo, ()))
    return Ruleset(name="sloth", spoken="Sloth's windows, an objective as a whole", alerts=alerts, naive=True)


def sloth_split(slos: Sequence[Slo]) -> Ruleset:
    """An alert an objective, region and protocol."""
    alerts = tuple(alert for slo in slos for alert in _sloth(slo, CELL))
    return Ruleset(name="sloth-split", spoken="Sloth's windows, each region and protocol", alerts=alerts, naive=True)


def threshold(slos: Sequence[Slo]) -> Ruleset:
    """Success below 95 % over 5 minutes."""
    below = Below(window=5 * MINUTE, ratio=0.95, runs=1)
    alerts = tuple(_alert(f"Below95/{slo.name}", Severity.P1, slo, ("region",), (below,)) for slo in _successes(slos))
    return Ruleset(name="below-95", spoken="success below 95 % over 5 minutes, by region", alerts=alerts, naive=True)


def in_a_row(slos: Sequence[Slo]) -> Ruleset:
    """Three failures one after the other."""
    return Ruleset(
        name="3-in-a-row", spoken="3 failures in a row of a cell", naive=True, in_a_row=3, slos=tuple(_successes(slos))
    )


RIVALS: dict[str, tuple[Callable[[Sequence[Slo]], Ruleset], ...]] = {
    "static": (threshold, in_a_row),
    "sloth": (sloth, sloth_split),
}


def _successes(slos: Sequence[Slo]) -> list[Slo]:
    """Objectives on whether something succeeded: what a static threshold is put on."""
    found = [s for s in slos if s.service != "probe" and s.source is Source.RUNS and INDICATORS[s.indicator].unit is Unit.RATIO]
    return [slo for slo in found if slo.page]


def _sloth(slo: Slo, by: tuple[str, ...]) -> list[Alert]:
    def burns(pairs: Sequence[tuple[int, int, float]]) -> tuple[Condition, ...]:
        return tuple(Burn(short=short, long=long, factor=share * slo.window / long) for short, long, share in pairs)

    page = [_alert(f"Sloth/{slo.name}", Severity.P1, slo, by, burns(_PAGES))] if slo.page else []
    return [*page, _alert(f"SlothTicket/{slo.name}", Severity.P2, slo, by, burns(_TICKETS))]


def _alert(name: str, severity: Severity, slo: Slo, by: tuple[str, ...], conditions: tuple[Condition, ...]) -> Alert:
    return Alert(name=name, kind=Kind.BURN, severity=severity, slo=slo, by=by, conditions=conditions, expr="")


def at_target(slo: Slo, target: float | None) -> Slo:
    """The same promise at another target; None: at its own. What the probe promises of itself stays as it is."""
    return slo if target is None or slo.service == "probe" else replace(slo, target=target)
