"""Every dashboard of a fleet, as files of Grafana's provisioning; and whether each of their panels can show anything.

Made from what rules are made from: inventory, objectives, alerts and the table of metrics. So a scenario without a cut has no
panel about coming back, and no panel asks for a series that nobody makes: that is checked of the queries as they are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from probe.rules.boards.audience import audience
from probe.rules.boards.drills import drills
from probe.rules.boards.edges import edges
from probe.rules.boards.overview import overview
from probe.rules.boards.probe import probe
from probe.rules.boards.run import run
from probe.rules.boards.scenario import scenario
from probe.rules.boards.shared import Shown
from probe.rules.conditions import Alert
from probe.rules.fleet import Fleet
from probe.rules.grafana import Board, dumped
from probe.rules.groups import Group
from probe.rules.queries import Known, asked, exported, problems

FOLDER = "dashboards"


def dashboards(fleet: Fleet, alerts: Sequence[Alert]) -> dict[str, str]:
    """Path below the output folder → JSON."""
    return {f"{FOLDER}/{board.uid}.json": dumped(board) for board in boards(fleet, alerts)}


def boards(fleet: Fleet, alerts: Sequence[Alert]) -> tuple[Board, ...]:
    shown = Shown.of(fleet, tuple(alerts))
    made = [overview(shown), scenario(shown), run(shown), audience(shown), drills(shown), probe(shown)]
    return (*made, edges(shown)) if shown.edges else tuple(made)


def unanswered(made: Sequence[Board], alerts: Sequence[Alert], recorded: Mapping[str, frozenset[str]]) -> list[str]:
    """Every query that nobody can answer, in words with its place. `recorded`: series of recording rules → their labels."""
    known: Known = {**exported(), **recorded, "ALERTS": _alerted(alerts)}
    out = []
    for board in made:
        for where, query in board.queries():
            out += [f"{where}: {problem}" for problem in problems(query, known)]
    return out


def recorded(groups: Iterable[Group]) -> dict[str, frozenset[str]]:
    """Series of recording rules → the labels that they can have: those a rule gives or groups by, else those of what it reads."""
    rules = [rule for group in groups for rule in group.rules if rule.record]
    made: dict[str, frozenset[str]] = {rule.record: frozenset() for rule in rules}
    for _ in range(2):  # what is read may be recorded by a later group
        for rule in rules:
            found = asked(rule.expr)
            read = () if found.groups else (made.get(selector.name, frozenset()) for selector in found.selectors)
            made[rule.record] = made[rule.record].union(found.groups, rule.labels, *read)
    return made


def _alerted(alerts: Sequence[Alert]) -> frozenset[str]:
    """Labels of the series that Prometheus makes of alerts."""
    return frozenset({"alertname", "alertstate", "shadow"}.union(*({*alert.by, *alert.labels} for alert in alerts)))
