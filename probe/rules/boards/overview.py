"""Are promises kept, where not, and who knows of it: objectives by region, their budgets, what alerts, what was measured."""

from __future__ import annotations

from probe.model.metrics import PREFIX
from probe.rules.boards.shared import (
    ANY,
    BUDGET,
    BURN,
    MEASURED,
    NAMES,
    OBJECTIVE,
    PLACE,
    PLACES,
    SLO,
    WINDOW,
    Shown,
    chosen,
    marks,
    ways,
)
from probe.rules.budget import COPY, COVERAGE, REMAINING
from probe.rules.fleet import Source
from probe.rules.grafana import Board, Row
from probe.rules.links import Dashboard
from probe.rules.panels import GREEN, RED, YELLOW, Column, Panel, Query, lines, stat, states, table
from probe.rules.promql import number
from probe.rules.review import METRIC
from probe.rules.windows import DAY, prom

_SLO = 'scenario=~"$scenario",slo=~"$slo"'
_REMAINING = f"{REMAINING}{{{_SLO}}}"
_BURNING = f"slo:current_burn_rate:ratio{{{OBJECTIVE}}}"
_SCHEDULED = f'mode="scheduled",{PLACE}'
_WHERE = "{{publish_region}} → {{region}}"


def overview(shown: Shown) -> Board:
    return Board(
        uid=Dashboard.OVERVIEW.value,
        title=f"{shown.fleet.name}: {NAMES[Dashboard.OVERVIEW].lower()}",
        about="Promises by region: what is left of each budget, how fast it burns, and what else happened then.",
        variables=(*PLACES, SLO, WINDOW),
        marks=marks(),
        links=ways(Dashboard.OVERVIEW),
        since="now-24h",
        rows=(
            Row(title="Now", panels=_now(shown)),
            Row(title="Promises by region", panels=_promises(shown)),
            Row(title="What was measured", panels=_measured()),
            Row(title="Alerts and runbooks", panels=_told(shown)),
        ),
    )


def _now(shown: Shown) -> tuple[Panel, ...]:
    agents = len(shown.fleet.agents)
    return (
        stat("Pages", shown.firing("P1"), "Alerts of P1 that fire. Empty: no rules are evaluated.", steps=ANY, width=3),
        stat(
            "To triage",
            shown.firing("P2"),
            "Alerts of P2 that fire, but for the watchdog.",
            steps=((None, GREEN), (1, YELLOW)),
            width=3,
        ),
        stat(
            "Budgets spent",
            f"count({_REMAINING} <= 0) or 0 * count({_REMAINING})",
            "Objectives that have failed more than they may over their window.",
            steps=ANY,
        ),
        stat(
            "Least budget left",
            f"min({_REMAINING})",
            "Of the objective that has least, over all regions.",
            unit="percentunit",
            steps=BUDGET,
        ),
        stat(
            "Runs in an hour",
            f"sum(increase({PREFIX}runs_total{{{_SCHEDULED}}}[1h]))",
            "Scheduled runs made in the last hour: what all figures here rest on.",
            decimals=0,
        ),
        stat(
            "Agents that report",
            f"count({PREFIX}self_agent_info)",
            f"The inventory has {agents}.",
            steps=((None, RED), (agents, GREEN)),
            width=3,
        ),
        *_closed(shown),
    )


def _closed(shown: Shown) -> tuple[Panel, ...]:
    if not shown.fleet.gates:
        return ()
    gates = f'{PREFIX}gate_state{{scenario=~"$scenario",verdict="fail"}}'
    return (stat("Gates closed", f"sum({gates})", "Their owners' actions are on.", steps=ANY, width=3, decimals=0),)


def _promises(shown: Shown) -> tuple[Panel, ...]:
    by_region = _remaining_by_region(shown)
    to_scenario = chosen(Dashboard.SCENARIO, scenario="${__data.fields.scenario}", slo="${__data.fields.objective}")
    to_region = f"{to_scenario}&var-region=${{__data.fields.region}}"
    return (
        table(
            "Objectives",
            "Promised over the whole window, what is left of the budget, how fast it burns at the worst place (1: as fast as it"
            " may), and on how many of the runs due that stands.",
            (
                Column(title="scenario", label="scenario"),
                Column(title="objective", label="slo", link=to_scenario),
                Column(title="promised", query=f"max by (scenario, slo) (slo:objective:ratio{{{_SLO}}})", unit="percentunit"),
                Column(title="days", query=f"max by (scenario, slo) (slo:time_period:days{{{_SLO}}})", unit="none"),
                Column(title="budget left", query=f"min by (scenario, slo) ({_REMAINING})", unit="percentunit", steps=BUDGET),
                Column(title="burns", query=f"max by (scenario, slo) ({_BURNING})", unit="none", steps=BURN),
                Column(
                    title="measured", query=f"max by (scenario, slo) ({COVERAGE}{{{_SLO}}})", unit="percentunit", steps=MEASURED
                ),
            ),
            width=13,
        ),
        table(
            "Budget left, by region",
            "Of what is viewed there; a region alone is delivery, all of them are ingest or the control plane.",
            (
                Column(title="scenario", label="scenario"),
                Column(title="objective", label="slo", link=to_region),
                Column(title="region", label="region"),
                Column(title="budget left", query=by_region, unit="percentunit", steps=BUDGET),
            ),
            width=11,
        ),
        states(
            "Where budgets burn",
            "Each objective at each place: green below 1 (as fast as it may), red where an hour of it pages.",
            Query(
                expr=f"max by (scenario, slo, publish_region, region) ({_BURNING})",
                legend="{{slo}} " + _WHERE,
            ),
            steps=BURN,
            decimals=1,
            height=10,
        ),
        lines(
            "Budget left, over time",
            "Below 0: more has failed than may.",
            Query(expr=f"min by (scenario, slo) ({_REMAINING})", legend="{{scenario}} {{slo}}"),
            unit="percentunit",
            steps=BUDGET,
            max=1,
        ),
        lines(
            "How fast budgets burn",
            "1: as fast as it may. Of a budget of 30 days 14.4 for an hour pages, and 6 for six.",
            Query(
                expr=f"max by (slo, publish_region, region, protocol) ({_BURNING})",
                legend="{{slo}} " + _WHERE + " {{protocol}}",
            ),
            unit="none",
            steps=BURN,
            min=0,
        ),
    )


def _remaining_by_region(shown: Shown) -> str:
    """What `REMAINING` is, for each region apart: objectives have windows of their own, and a query has one."""
    windows = sorted({slo.window for slo in shown.fleet.slos if slo.source is Source.RUNS})
    by = "by (scenario, slo, region)"
    parts = []
    for window in windows:
        counted = f'sum {by} (increase({COPY}{{{_SLO},region=~"$region",outcome{{}}}}[{prom(window)}]))'
        bad, every = counted.replace("{}", '="bad"'), counted.replace("{}", '=~"good|bad"')
        days = f"slo:time_period:days == {number(window / DAY)}"
        parts.append(
            f"1 - {bad} / ({every} > 0) / on (scenario, slo) group_left () (slo:error_budget:ratio and on (scenario, slo) {days})"
        )
    return " or ".join(parts)


def _measured() -> tuple[Panel, ...]:
    runs = f"{PREFIX}runs_total{{{_SCHEDULED}}}"
    outcomes = f"{PREFIX}outcomes_total{{{_SCHEDULED}"
    return (
        lines(
            "Runs by verdict",
            "Each stands for a broadcast with its viewers. Inconclusive: too little was measured to say.",
            Query(expr=f"sum by (verdict) (increase({runs}[$window]))", legend="{{verdict}}", exemplars=True),
            unit="short",
            stacked=True,
            min=0,
        ),
        lines(
            "Runs that failed, by place",
            "Share with verdict fail. A publishing region in every viewing one is its ingest; one viewing region is delivery.",
            Query(
                expr=f'sum by (publish_region, region) (increase({runs[:-1]},verdict="fail"}}[$window])) /'
                f" (sum by (publish_region, region) (increase({runs}[$window])) > 0)",
                legend=_WHERE,
            ),
            unit="percentunit",
            min=0,
            max=1,
        ),
        lines(
            "Measured while the probe was unwell",
            "Share of outcomes that are tainted: they count neither for nor against the platform.",
            Query(
                expr=f'sum by (region) (increase({outcomes},tainted="true"}}[$window])) /'
                f" (sum by (region) (increase({outcomes}}}[$window])) > 0)",
                legend="{{region}}",
            ),
            unit="percentunit",
            steps=((None, GREEN), (0.05, YELLOW), (0.2, RED)),
            min=0,
        ),
        lines(
            "Failures by phase",
            "Where sessions and steps failed: the first layer that did not answer.",
            Query(
                expr=f"sum by (phase) (increase({PREFIX}failures_total{{{_SCHEDULED}}}[$window]))",
                legend="{{phase}}",
                exemplars=True,
            ),
            unit="short",
            min=0,
        ),
    )


def _told(shown: Shown) -> tuple[Panel, ...]:
    names = ("alertname", "severity", "owner", "slo", "region")
    return (
        table(
            "Alerts that fire",
            "The watchdog always does: without it nothing here is looked at.",
            (
                *(Column(title="alert" if name == "alertname" else name, label=name) for name in names),
                Column(title="firing", query=f'max by ({", ".join(names)}) (ALERTS{{alertstate="firing"}})', unit="none"),
            ),
            width=14,
            height=8,
        ),
        table(
            "Runbooks overdue for review",
            "How long a text is due to be read through; negative: it is not yet. Never read through since 1970.",
            (
                Column(title="runbook", label="runbook"),
                Column(
                    title="overdue",
                    query=f"time() - {METRIC}",
                    unit="dtdurations",
                    steps=((None, GREEN), (0, YELLOW), (30 * 86_400, RED)),
                ),
            ),
            width=10,
            height=8,
        ),
    )
