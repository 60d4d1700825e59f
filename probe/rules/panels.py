"""Grafana panels as data: figures, lines, states, heat maps, tables.

Only what ours have in common: a query is Prometheus', and what a panel says stands in its description. Grafana's own model is
much larger; how ours becomes its JSON is `grafana`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Steps = Sequence[tuple[float | None, str]]  # from this value on, this colour; the first from None

COLUMNS = 24
GREEN, YELLOW, RED, BLUE, GREY = "green", "yellow", "red", "blue", "text"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """`legend` as Grafana fills it in: {{region}}. `exemplars`: with points that lead to traces; of histograms' buckets."""

    expr: str
    legend: str = ""
    instant: bool = False
    exemplars: bool = False
    format: str = "time_series"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel; `about` says what it shows and how to read it."""

    kind: str
    title: str
    about: str
    queries: tuple[Query, ...] = ()
    width: int = 12
    height: int = 8
    defaults: Json = field(default_factory=dict)
    overrides: tuple[Json, ...] = ()
    options: Json = field(default_factory=dict)
    transformations: tuple[Json, ...] = ()
    links: tuple[Json, ...] = ()


def stat(title: str, query: str, about: str, *, unit: str = "short", steps: Steps = (), width: int = 4, **more: Any) -> Panel:
    """One figure, as it is now."""
    return Panel(
        kind="stat",
        title=title,
        about=about,
        queries=(Query(expr=query, instant=True, legend=more.pop("legend", "")),),
        width=width,
        height=4,
        defaults={"unit": unit, "color": {"mode": "thresholds"}, "thresholds": thresholds(steps), **more},
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "textMode": "auto",
            "orientation": "auto",
            "wideLayout": True,
            "showPercentChange": False,
            "percentChangeColorMode": "standard",
        },
    )


def lines(
    title: str,
    about: str,
    *queries: Query,
    unit: str,
    steps: Steps = (),
    width: int = 12,
    stacked: bool = False,
    links: Sequence[Json] = (),
    **more: Any,
) -> Panel:
    """Over time. `steps` also draws the thresholds as lines; `more` goes to the fields: min, max, decimals."""
    return Panel(
        kind="timeseries",
        title=title,
        about=about,
        queries=queries,
        width=width,
        links=tuple(links),
        defaults={
            "unit": unit,
            "color": {"mode": "palette-classic"},
            "thresholds": thresholds(steps),
            "custom": {
                "drawStyle": "line",
                "lineInterpolation": "linear",
                "lineWidth": 1,
                "fillOpacity": 40 if stacked else 5,
                "showPoints": "auto",
                "pointSize": 5,
                "spanNulls": 3_600_000,
                "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
                "thresholdsStyle": {"mode": "dashed" if steps else "off"},
            },
            **more,
        },
        options={
            "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


def states(title: str, about: str, query: Query, *, mappings: Sequence[Json] = (), steps: Steps = (), **more: Any) -> Panel:
    """A row for each series, coloured by its value over time."""
    return Panel(
        kind="state-timeline",
        title=title,
        about=about,
        queries=(query,),
        width=more.pop("width", COLUMNS),
        height=more.pop("height", 8),
        defaults={
            "color": {"mode": "thresholds"},
            "thresholds": thresholds(steps),
            "mappings": list(mappings),
            "custom": {"fillOpacity": 80, "lineWidth": 0},
            **more,
        },
        options={
            "mergeValues": True,
            "showValue": "auto",
            "rowHeight": 0.9,
            "alignValue": "left",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
            "tooltip": {"mode": "single", "sort": "none"},
        },
    )


def heat(title: str, about: str, query: Query, *, unit: str, width: int = 12) -> Panel:
    """A histogram over time; points of it lead to traces."""
    return Panel(
        kind="heatmap",
        title=title,
        about=about,
        queries=(query,),
        width=width,
        defaults={"custom": {"scaleDistribution": {"type": "linear"}}},
        options={
            "calculate": False,
            "yAxis": {"unit": unit, "axisPlacement": "left"},
            "color": {
                "mode": "scheme",
                "scheme": "Oranges",
                "steps": 64,
                "exponent": 0.5,
                "fill": "dark-orange",
                "reverse": False,
            },
            "cellGap": 1,
            "showValue": "never",
            "legend": {"show": True},
            "exemplars": {"color": "rgba(31,120,193,0.9)"},
            "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
            "filterValues": {"le": 1e-9},
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table: a label, or a query's value. `link`: where its cells lead."""

    title: str
    label: str = ""
    query: str = ""
    unit: str = ""
    steps: Steps = ()
    link: str = ""


def table(title: str, about: str, columns: Sequence[Column], *, width: int = COLUMNS, height: int = 10) -> Panel:
    """Series side by side, joined by the labels that they share; a row for each set of labels."""
    asked = [column for column in columns if column.query]
    names = {f"Value #{LETTERS[at]}" if len(asked) > 1 else "Value": column for at, column in enumerate(asked)}
    names |= {column.label: column for column in columns if column.label}
    order = {name: list(columns).index(column) for name, column in names.items()}
    return Panel(
        kind="table",
        title=title,
        about=about,
        queries=tuple(Query(expr=column.query, instant=True, format="table") for column in asked),
        width=width,
        height=height,
        defaults={"custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}, "thresholds": thresholds(())},
        overrides=tuple(_of_column(column) for column in columns),
        options={"showHeader": True, "cellHeight": "sm", "sortBy": []},
        transformations=(
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "renameByName": {name: column.title for name, column in names.items()},
                    "indexByName": order,
                },
            },
        ),
    )


def _of_column(column: Column) -> Json:
    properties: list[Json] = []
    if column.unit:
        properties.append({"id": "unit", "value": column.unit})
    if column.steps:
        properties.append({"id": "thresholds", "value": thresholds(column.steps)})
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-background", "mode": "basic"}})
    if column.link:
        properties.append({"id": "links", "value": [{"title": f"Open {column.title}", "url": column.link, "targetBlank": False}]})
    return {"matcher": {"id": "byName", "options": column.title}, "properties": properties}


def text(title: str, content: str, *, width: int = COLUMNS, height: int = 4) -> Panel:
    """Markdown."""
    return Panel(kind="text", title=title, about="", width=width, height=height, options={"mode": "markdown", "content": content})


def values(*pairs: tuple[str, str, str]) -> tuple[Json, ...]:
    """Mappings of single values: (value, what it is called, colour)."""
    return tuple(
        {"type": "value", "options": {value: {"text": name, "color": colour, "index": at}}}
        for at, (value, name, colour) in enumerate(pairs)
    )


def thresholds(steps: Steps) -> Json:
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps or ((None, GREEN),)]}
