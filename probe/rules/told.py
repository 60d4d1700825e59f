"""Rulesets asked about a history: which alert fired where and when, and what of it reaches somebody.

Groups are walked one after the other and all rulesets are asked about a group together, since they ask for the same windows: a
month of a fleet then takes little memory and each window is counted once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from probe.model.clock import NS
from probe.rules.closings import closings
from probe.rules.conditions import Alert, Silent
from probe.rules.fleet import Severity
from probe.rules.gathered import Cell, gathered
from probe.rules.history import About, Beats, History, Place, Seen, Series, attendance, grouped, health, tally
from probe.rules.inhibition import needs_a_room, says_no_room
from probe.rules.promql import EVERYWHERE, evidence
from probe.rules.replay import INTERVAL, Firing, Grid, Shares, Tally, merged, met, spans
from probe.rules.rivals import Ruleset

REGROUPED = {Severity.P1: 300 * NS, Severity.P2: 86_400 * NS}  # what resolves and returns within it is nothing new to anybody


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One alert of one group, firing once. `region` is the label: with the objective it is what Alertmanager groups by, for all
    rulesets alike."""

    alert: str
    slo: str
    region: str
    severity: Severity
    about: About
    place: Place
    shadow: bool
    firing: Firing


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What one person is told once: everything of one objective and place until it has been quiet for a while."""

    slo: str
    region: str
    about: About
    places: tuple[Place, ...]
    alerts: tuple[str, ...]
    began: int
    ended: int | None


def ask(history: History, rulesets: Mapping[str, Ruleset], interval: int = INTERVAL) -> dict[str, list[Told]]:
    """What each ruleset says over the history, evaluated every `interval` ns."""
    grid = history.grid(interval)
    out: dict[str, list[Told]] = {key: [] for key in rulesets}
    wanted: dict[tuple[str, tuple[str, ...], bool], list[tuple[str, Alert]]] = {}
    for key, ruleset in rulesets.items():
        for alert in ruleset.alerts:
            if alert.slo is None and alert.conditions:
                out[key] += _of_probe(history, grid, alert)
            elif alert.slo is not None:
                wanted.setdefault((alert.slo.name, alert.cells or alert.by, ruleset.naive), []).append((key, alert))
        if ruleset.in_a_row:
            out[key] += _rows(history, grid, ruleset)
        out[key] += _gates(history, grid, ruleset)
    for (slo, labels, naive), asking in wanted.items():
        bad: list[list[Cell]] = [[] for _ in asking]
        for values, series in grouped(history.series.get(slo, ()), labels).items():
            counted = tally(grid, series, naive=naive)
            named = dict(zip(labels, values, strict=True))
            for found, (_, alert) in zip(bad, asking, strict=True):
                found.append(Cell(named, met(alert, counted), _share(alert, counted)))
        for found, (key, alert) in zip(bad, asking, strict=True):
            out[key] += _told(alert, found, grid)
    return out


def _of_probe(history: History, grid: Grid, alert: Alert) -> Iterator[Told]:
    """What the probe says of itself: of runs that were due, and of runs while it was unwell."""
    counted = attendance if any(isinstance(condition, Silent) for condition in alert.conditions) else health
    groups: dict[tuple[str, ...], list[Beats]] = {}
    for beat in history.beats:
        groups.setdefault(tuple(str(getattr(beat, label, "")) for label in alert.by), []).append(beat)
    cells = [
        Cell(dict(zip(alert.by, values, strict=True)), met(alert, counted(grid, beats)), np.zeros(0))
        for values, beats in groups.items()
    ]
    yield from _told(alert, cells, grid)


def _share(alert: Alert, counted: Tally) -> Shares:
    """Of a cell's bad runs over the window that tells how bad parts are; nothing where no alert asks."""
    return counted.bad_share(evidence(alert)) if len(alert.scopes) > 1 else np.zeros(0)


def _told(alert: Alert, cells: Sequence[Cell], grid: Grid) -> Iterator[Told]:
    slo = alert.slo
    for labels, where, flags in gathered(alert, cells, grid.interval):
        every = {**alert.labels, **labels}
        for firing in spans(flags, grid, alert.hold, alert.keep):
            yield Told(
                alert=alert.name,
                slo=slo.name if slo else "probe",
                region=every.get("region", ""),
                severity=alert.severity,
                about=About.PROBE if slo is None or slo.service == "probe" else About.PLATFORM,
                place=where,
                shadow=alert.shadow,
                firing=firing,
            )


def _rows(history: History, grid: Grid, ruleset: Ruleset) -> Iterator[Told]:
    for slo in ruleset.slos:
        for series in history.series.get(slo.name, ()):
            cell = series.cell
            for firing in in_a_row(series, grid, ruleset.in_a_row):
                yield Told(
                    alert=f"InARow/{slo.name}",
                    slo=slo.name,
                    region=cell.region,
                    severity=Severity.P1,
                    about=About.PLATFORM,
                    place=Place(publish_region=cell.publish_region, region=cell.region, protocol=cell.protocol),
                    shadow=False,
                    firing=firing,
                )


def _gates(history: History, grid: Grid, ruleset: Ruleset) -> Iterator[Told]:
    for scenario, gate in ruleset.gates:
        for labels, firing in closings(gate, [slo for slo in ruleset.slos if slo.scenario == scenario], history, grid):
            yield Told(
                alert=gate.name,
                slo=f"{scenario}/{gate.name}",
                region=labels.get("region", ""),
                severity=Severity.P1,
                about=About.PLATFORM,
                place=Place(**labels),
                shadow=False,
                firing=firing,
            )


def in_a_row(series: Series, grid: Grid, count: int) -> list[Firing]:
    """From the `count`th failure one after the other until the next success; tainted runs count as they ended."""
    bad = np.isin(series.outcomes, (Seen.BAD, Seen.TAINTED_BAD))
    kept = bad | np.isin(series.outcomes, (Seen.GOOD, Seen.TAINTED_GOOD))
    times, bad = series.times[kept], bad[kept]
    edges = np.flatnonzero(np.diff(np.concatenate(([0], bad.astype(np.int8), [0]))))
    out = []
    for first, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if stop - first >= count:
            began = _seen(grid, int(times[first + count - 1]))
            out.append(Firing(began, began, _seen(grid, int(times[stop])) if stop < len(times) else None))
    return out


def _seen(grid: Grid, at: int) -> int:
    """The first evaluation that knows of what happened at `at`."""
    return grid.began - (grid.began - at) // grid.interval * grid.interval


def notices(said: Iterable[Told], severity: Severity, *, shadow: bool = False, since: int = 0) -> list[Notice]:
    """What reaches somebody from Unix ns `since` on, in order: alerts of one objective and region are one notice, until they
    have been quiet for what `REGROUPED` says."""
    groups: dict[tuple[str, str], list[Told]] = {}
    for one in said:
        if one.severity is severity and one.shadow is shadow and one.firing.began >= since:
            groups.setdefault((one.slo, one.region), []).append(one)
    out = [notice for (slo, region), group in groups.items() for notice in _notices(slo, region, group, REGROUPED[severity])]
    return sorted(out, key=lambda n: (n.began, n.slo, n.region))


def _notices(slo: str, region: str, group: Sequence[Told], quiet: int) -> Iterator[Notice]:
    for span in merged([one.firing for one in group], quiet):
        within = [
            one for one in group if span.began <= one.firing.began and (span.ended is None or one.firing.began < span.ended)
        ]
        yield Notice(
            slo=slo,
            region=region,
            about=within[0].about,
            places=tuple(dict.fromkeys(one.place for one in within)),
            alerts=tuple(dict.fromkeys(one.alert for one in within)),
            began=span.began,
            ended=span.ended,
        )


def heard(said: Iterable[Told], alerts: Sequence[Alert]) -> list[Told]:
    """What is left where a page that rooms do not start keeps quiet what follows from it, as `inhibition` tells Alertmanager to:
    what outlasts the page begins when that ends."""
    scenarios = {alert.name: alert.slo.scenario for alert in alerts if alert.slo is not None}
    starts = {alert.name for alert in alerts if says_no_room(alert) and not alert.shadow}
    viewers = {alert.name for alert in alerts if needs_a_room(alert)}
    every = list(said)
    pages = [one for one in every if one.alert in starts]
    out = []
    for one in every:
        louder = [page for page in pages if one.alert in viewers and scenarios[page.alert] == scenarios[one.alert]]
        left = _left(one.firing, [page.firing for page in louder if _within(one, page)])
        if left is not None:
            out.append(replace(one, firing=left))
    return out


def _within(one: Told, page: Told) -> bool:
    """Whether it is of the page's place; everywhere holds every place."""
    return page.region == EVERYWHERE or (one.region, one.place.publish_region) == (page.region, page.place.publish_region)


def _left(firing: Firing, louder: Sequence[Firing]) -> Firing | None:
    """From the first moment on at which nothing louder fires; None where there is none."""
    began = firing.began
    for other in merged(louder):
        if other.began <= began and (other.ended is None or began < other.ended):
            if other.ended is None or (firing.ended is not None and firing.ended <= other.ended):
                return None
            began = other.ended
    return replace(firing, began=began)


def quieted(tickets: Iterable[Notice], pages: Sequence[Notice]) -> list[Notice]:
    """Tickets that are left where a page keeps quiet what is about the same objective and region while both fire."""
    return [ticket for ticket in tickets if not any(_alike(ticket, page) for page in pages)]


def _alike(ticket: Notice, page: Notice) -> bool:
    overlap = (page.ended is None or page.ended > ticket.began) and (ticket.ended is None or ticket.ended > page.began)
    return overlap and (ticket.slo, ticket.region) == (page.slo, page.region)
