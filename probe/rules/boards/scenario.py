"""One scenario: is its promise kept, which part of the way fails, where, and with what."""

from __future__ import annotations

from probe.model.metrics import PREFIX
from probe.rules.boards.shared import (
    BUDGET,
    BURN,
    GOOD,
    MODE,
    NAMES,
    OBJECTIVE,
    PLACES,
    PROTOCOL,
    RUN,
    SLO,
    VIEWERS,
    WINDOW,
    Shown,
    marks,
    ways,
)
from probe.rules.budget import REMAINING
from probe.rules.grafana import Board, Row
from probe.rules.links import Dashboard
from probe.rules.panels import Column, Panel, Query, heat, lines, stat, table

_OBJECTIVE_RUNS = f'{PREFIX}objective_runs_total{{mode="scheduled",{OBJECTIVE}'
_WHERE = "{{publish_region}} → {{region}}"


def scenario(shown: Shown) -> Board:
    return Board(
        uid=Dashboard.SCENARIO.value,
        title=f"{shown.fleet.name}: {NAMES[Dashboard.SCENARIO].lower()}",
        about="One scenario: which promise, which phase, which stage, where.",
        variables=(*PLACES, PROTOCOL, SLO, MODE, WINDOW),
        marks=marks(),
        links=ways(Dashboard.SCENARIO),
        rows=(
            Row(title="Promises", panels=_promises()),
            Row(title="What fails", panels=_failures(shown)),
            Row(title="Starting", panels=_starting()),
            *((Row(title="The journey's steps", panels=_steps()),) if shown.steps else ()),
            *((Row(title="Coming back", panels=_cuts()),) if shown.cuts else ()),
        ),
    )


def _promises() -> tuple[Panel, ...]:
    bad = f'sum by (slo, publish_region, region, protocol) (increase({_OBJECTIVE_RUNS},outcome="bad"}}[$window]))'
    every = f'sum by (slo, publish_region, region, protocol) (increase({_OBJECTIVE_RUNS},outcome=~"good|bad"}}[$window]))'
    return (
        stat(
            "Least budget left",
            f'min({REMAINING}{{scenario=~"$scenario",slo=~"$slo"}})',
            "Of the objectives chosen, over all regions.",
            unit="percentunit",
            steps=BUDGET,
        ),
        stat(
            "Burns",
            f"max(slo:current_burn_rate:ratio{{{OBJECTIVE}}})",
            "Times as fast as it may.",
            unit="none",
            steps=BURN,
            decimals=1,
        ),
        stat(
            "Bad runs",
            f'sum(increase({_OBJECTIVE_RUNS},outcome="bad"}}[$__range]))',
            "Over the time shown.",
            decimals=0,
        ),
        stat(
            "Runs judged",
            f'sum(increase({_OBJECTIVE_RUNS},outcome=~"good|bad"}}[$__range]))',
            "Good or bad, over the time shown; inconclusive ones are left out.",
            decimals=0,
        ),
        stat(
            "Inconclusive",
            f'sum(increase({_OBJECTIVE_RUNS},outcome="inconclusive"}}[$__range]))',
            "Runs that could not be judged: the probe was unwell, or nothing was measured.",
            decimals=0,
        ),
        stat(
            "Runs",
            f"sum(increase({PREFIX}runs_total{{{RUN}}}[$__range]))",
            "Made over the time shown, of the modes chosen.",
            decimals=0,
        ),
        lines(
            "Bad runs, by objective and place",
            "Share of the runs that were judged. Nothing drawn: nothing was judged there.",
            Query(expr=f"{bad} / ({every} > 0)", legend="{{slo}} " + _WHERE + " {{protocol}}"),
            unit="percentunit",
            width=24,
            min=0,
            max=1,
        ),
    )


def _failures(shown: Shown) -> tuple[Panel, ...]:
    failures = f"{PREFIX}failures_total{{{RUN}}}"
    outcomes = f'{PREFIX}outcomes_total{{{RUN},tainted="false"'
    return (
        lines(
            "Failures by phase",
            "The layer that did not answer. What comes after it on the way was never tried.",
            Query(expr=f"sum by (phase) (increase({failures}[$window]))", legend="{{phase}}", exemplars=True),
            unit="short",
            links=shown.failed_runs(),
            min=0,
        ),
        table(
            "Most frequent failures",
            "Over the time shown, the first first. A reason is one of a closed list; its runbook says what it means.",
            (
                *(
                    Column(title=title, label=label)
                    for label, title in (
                        ("phase", "phase"),
                        ("reason", "reason"),
                        ("role", "role"),
                        ("protocol", "protocol"),
                        ("publish_region", "published in"),
                        ("region", "viewed in"),
                    )
                ),
                Column(
                    title="failures",
                    query=f"sort_desc(topk(20, sum by (phase, reason, role, protocol, publish_region, region)"
                    f" (increase({failures}[$__range]))))",
                    unit="short",
                ),
            ),
            width=12,
            height=8,
        ),
        lines(
            "Publishers that started",
            "Share of untainted attempts, by the region published in and protocol.",
            Query(
                expr=_started(outcomes, "publish_region, protocol", 'role="publisher"'),
                legend="{{publish_region}} {{protocol}}",
            ),
            unit="percentunit",
            steps=GOOD,
            min=0,
            max=1,
        ),
        lines(
            "Viewers that started",
            "Share of untainted attempts, by place and protocol.",
            Query(
                expr=_started(outcomes, "publish_region, region, protocol", 'role="viewer",protocol=~"$protocol"'),
                legend=_WHERE + " {{protocol}}",
            ),
            unit="percentunit",
            steps=GOOD,
            min=0,
            max=1,
        ),
    )


def _started(outcomes: str, by: str, whose: str) -> str:
    done = f'sum by ({by}) (increase({outcomes},{whose},outcome="done"}}[$window]))'
    return f'{done} / (sum by ({by}) (increase({outcomes},{whose},outcome=~"done|failed"}}[$window])) > 0)'


def _starting() -> tuple[Panel, ...]:
    frames = f"{PREFIX}first_frame_seconds_bucket{{{VIEWERS}}}"
    starts = f"scalar(sum(increase({PREFIX}first_frame_seconds_count{{{VIEWERS}}}[$window])) > 0)"
    return (
        heat(
            "First frame",
            "Intent to play to first verified frame. A point is a run: click it for its report or trace.",
            Query(expr=f"sum by (le) (increase({frames}[$window]))", legend="{{le}}", format="heatmap", exemplars=True),
            unit="s",
        ),
        lines(
            "First frame, 95 % and half of viewers",
            "Of starts that were done; those that failed are above, as failures.",
            Query(
                expr=f"histogram_quantile(0.95, sum by (le, protocol) (increase({frames}[$window])))",
                legend="95 % {{protocol}}",
                exemplars=True,
            ),
            Query(
                expr=f"histogram_quantile(0.5, sum by (le, protocol) (increase({frames}[$window])))", legend="half {{protocol}}"
            ),
            unit="s",
            min=0,
        ),
        lines(
            "Stages of a start",
            "The mean start, cut into its stages: they add up. `probe` is our own share.",
            Query(
                expr=f"sum by (stage) (increase({PREFIX}stage_seconds_sum{{{VIEWERS}}}[$window])) / {starts}", legend="{{stage}}"
            ),
            unit="s",
            stacked=True,
            min=0,
        ),
        lines(
            "From going live to watchable",
            "Publisher started to the first viewer of a protocol that could start, 95 %.",
            Query(
                expr=f"histogram_quantile(0.95, sum by (le, protocol) (increase({PREFIX}available_seconds_bucket{{{RUN},"
                'protocol=~"$protocol"}[$window])))',
                legend="{{protocol}}",
            ),
            unit="s",
            min=0,
        ),
    )


def _steps() -> tuple[Panel, ...]:
    steps = f'{PREFIX}steps_total{{{RUN},kind!~"publish|view|cut|wait",tainted="false"'
    return (
        lines(
            "Steps that were done",
            "Share of those tried. After the first that fails the rest is skipped and not counted.",
            Query(
                expr=f'sum by (service, step) (increase({steps},outcome="done"}}[$window])) /'
                f' (sum by (service, step) (increase({steps},outcome=~"done|failed"}}[$window])) > 0)',
                legend="{{service}} {{step}}",
            ),
            unit="percentunit",
            steps=GOOD,
            min=0,
            max=1,
        ),
        lines(
            "How long steps take",
            "95 % of those that were done.",
            Query(
                expr=f"histogram_quantile(0.95, sum by (le, service, step) (increase({PREFIX}step_seconds_bucket{{{RUN},"
                'kind!~"publish|view|cut|wait"}[$window])))',
                legend="{{service}} {{step}}",
                exemplars=True,
            ),
            unit="s",
            min=0,
        ),
    )


def _cuts() -> tuple[Panel, ...]:
    cuts = f'{PREFIX}reconnects_total{{{VIEWERS},kind!="unplanned",tainted="false"}}'
    seconds = f"{PREFIX}reconnect_seconds_bucket{{{VIEWERS}}}"
    return (
        lines(
            "How cuts ended",
            "Unaffected: a buffer bridged it. Resumed: the same session. Restarted: a new one. Failed: not back in time.",
            Query(expr=f"sum by (kind, outcome) (increase({cuts}[$window]))", legend="{{kind}} {{outcome}}"),
            unit="short",
            min=0,
        ),
        lines(
            "Back after a cut",
            "The path's return to the first new frame, 95 %.",
            Query(
                expr=f"histogram_quantile(0.95, sum by (le, protocol, kind) (increase({seconds}[$window])))",
                legend="{{protocol}} {{kind}}",
                exemplars=True,
            ),
            unit="s",
            min=0,
        ),
    )
