"""Dashboards as data, and as the JSON that Grafana provisions.

The data source is a variable, so that a dashboard can be imported anywhere; uids never change, and panels are numbered in their
order, so that the same fleet makes the same files. Tests hold the JSON against Grafana's published types
(grafana-foundation-sdk), since a field it does not know is silently nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from probe.rules.panels import COLUMNS, LETTERS, Json, Panel, Query

SCHEMA = 39  # dashboards of Grafana 11; 12 reads them
SOURCE: Json = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A choice at the top: values of a label `of` a series, one of `choices` (durations), or free text. `chosen`: at first."""

    name: str
    label: str
    series: str = ""
    of: str = ""
    choices: tuple[str, ...] = ()
    chosen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An annotation: `expr` is 1 while it lasts, or with `at_value` the time of an instant in ms."""

    name: str
    expr: str
    title: str
    tags: tuple[str, ...]
    colour: str
    at_value: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    uid: str
    title: str
    about: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    marks: tuple[Mark, ...] = ()
    links: tuple[Json, ...] = ()
    since: str = "now-6h"

    def panels(self) -> Iterator[Panel]:
        for row in self.rows:
            yield from row.panels

    def queries(self) -> Iterator[tuple[str, str]]:
        """Every query with where it stands: panels', marks', variables'."""
        for panel in self.panels():
            for query in panel.queries:
                yield f"{self.title} / {panel.title}", query.expr
        for mark in self.marks:
            yield f"{self.title} / mark {mark.name}", mark.expr
        for variable in self.variables:
            if variable.series:
                yield f"{self.title} / variable {variable.name}", variable.series


def dumped(board: Board) -> str:
    """As a file of Grafana's provisioning."""
    return json.dumps(_board(board), indent=1, ensure_ascii=False) + "\n"


def _board(board: Board) -> Json:
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.about,
        "tags": ["stream-probe"],
        "schemaVersion": SCHEMA,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": board.since, "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source(), *(_variable(one) for one in board.variables)]},
        "annotations": {"list": [_mark(one) for one in board.marks]},
        "links": list(board.links),
        "panels": list(_laid_out(board.rows)),
    }


def _laid_out(rows: Iterable[Row]) -> Iterator[Json]:
    """Left to right, wrapped, each row of panels as high as its highest."""
    number, y = 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            "panels": [],
        }
        y, x, highest = y + 1, 0, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                y, x, highest = y + highest, 0, 0
            number += 1
            yield _panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": panel.height})
            x, highest = x + panel.width, max(highest, panel.height)
        y += highest


def _panel(panel: Panel, number: int, place: Json) -> Json:
    out: Json = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "gridPos": place,
        "options": panel.options,
        "fieldConfig": {"defaults": panel.defaults, "overrides": list(panel.overrides)},
        "transformations": list(panel.transformations),
        "links": list(panel.links),
    }
    if panel.queries:
        out |= {"datasource": SOURCE, "targets": [_target(query, LETTERS[at]) for at, query in enumerate(panel.queries)]}
    return out


def _target(query: Query, letter: str) -> Json:
    return {
        "refId": letter,
        "datasource": SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": query.instant,
        "range": not query.instant,
        "exemplar": query.exemplars,
        "format": query.format,
        "editorMode": "code",
    }


def _source() -> Json:
    return {
        "name": "source",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
        "refresh": 1,
        "regex": "",
    }


def _variable(one: Variable) -> Json:
    shared: Json = {"name": one.name, "label": one.label, "hide": 0, "skipUrlSync": False}
    if one.series:
        query = f"label_values({one.series}, {one.of})"
        return {
            **shared,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": query, "refId": one.name},
            "refresh": 2,
            "sort": 1,
            "regex": "",
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": [one.chosen or "All"], "value": [one.chosen or "$__all"]},
        }
    if one.choices:
        chosen = one.chosen or one.choices[0]
        return {
            **shared,
            "type": "interval",
            "query": ",".join(one.choices),
            "auto": False,
            "refresh": 2,
            "current": {"text": chosen, "value": chosen},
            "options": [{"text": choice, "value": choice, "selected": choice == chosen} for choice in one.choices],
        }
    return {**shared, "type": "textbox", "query": one.chosen, "current": {"text": one.chosen, "value": one.chosen}}


def _mark(one: Mark) -> Json:
    return {
        "name": one.name,
        "datasource": SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": one.colour,
        "expr": one.expr,
        "step": "30s",
        "titleFormat": one.title,
        "textFormat": "",
        "tagKeys": ",".join(one.tags),
        "useValueForTime": one.at_value,
    }
