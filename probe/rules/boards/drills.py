"""Gates, and what else runs than the schedule: which gate is closed since when, and what smoke tests, ramps and drills found."""

from __future__ import annotations

from probe.model.metrics import PREFIX
from probe.rules.boards.shared import NAMES, PLACE, PLACES, WINDOW, Shown, marks, ways
from probe.rules.grafana import Board, Row
from probe.rules.links import Dashboard
from probe.rules.panels import GREEN, GREY, RED, YELLOW, Panel, Query, lines, states, values


def drills(shown: Shown) -> Board:
    return Board(
        uid=Dashboard.DRILLS.value,
        title=f"{shown.fleet.name}: {NAMES[Dashboard.DRILLS].lower()}",
        about="Gates as they stand, and runs by why they were made.",
        variables=(*PLACES, WINDOW),
        marks=marks(),
        links=ways(Dashboard.DRILLS),
        since="now-24h",
        rows=(
            *((Row(title="Gates", panels=_gates()),) if shown.fleet.gates else ()),
            Row(title="Runs by why they were made", panels=_runs()),
        ),
    )


def _gates() -> tuple[Panel, ...]:
    of = f'{PREFIX}gate_state{{scenario=~"$scenario",verdict'
    by = "by (scenario, gate, publish_region, region, protocol)"
    legend = "{{gate}} {{publish_region}} {{region}} {{protocol}}"
    coded = " or ".join(f'{code} * {of}="{verdict}"}}' for code, verdict in enumerate(("pass", "inconclusive", "warn", "fail")))
    return (
        states(
            "As they stand",
            "What each gate says, overrides included. Inconclusive is not open: too little was seen to say.",
            Query(expr=f"max {by} ({coded})", legend=legend),
            mappings=values(("0", "pass", GREEN), ("1", "inconclusive", GREY), ("2", "warn", YELLOW), ("3", "fail", RED)),
            steps=((None, GREEN), (1, GREY), (2, YELLOW), (3, RED)),
        ),
        lines(
            "Changes",
            "How often each came to say something else. A gate that changes all the time wants a stricter resume.",
            Query(
                expr=f'sum by (gate, verdict) (increase({PREFIX}gate_changes_total{{scenario=~"$scenario"}}[$window]))',
                legend="{{gate}} to {{verdict}}",
            ),
            unit="short",
            min=0,
        ),
        states(
            "Overridden by somebody",
            "Whose word holds in place of the rule's, until it expires; `probe gate` says who and why.",
            Query(expr=f'max {by} ({PREFIX}gate_overridden{{scenario=~"$scenario"}})', legend=legend),
            mappings=values(("0", "by its rule", GREEN), ("1", "overridden", YELLOW)),
            steps=((None, GREEN), (1, YELLOW)),
            width=12,
        ),
    )


def _runs() -> tuple[Panel, ...]:
    runs = f"{PREFIX}runs_total{{{PLACE}"
    return (
        lines(
            "Runs",
            "Objectives read the scheduled ones only; drills and ramps never enter them.",
            Query(expr=f"sum by (mode) (increase({runs}}}[$window]))", legend="{{mode}}"),
            unit="short",
            min=0,
        ),
        lines(
            "Runs that failed",
            "Share by mode: what a drill broke on purpose is not a broken promise.",
            Query(
                expr=f'sum by (mode) (increase({runs},verdict="fail"}}[$window]))'
                f" / (sum by (mode) (increase({runs}}}[$window])) > 0)",
                legend="{{mode}}",
                exemplars=True,
            ),
            unit="percentunit",
            min=0,
            max=1,
        ),
    )
