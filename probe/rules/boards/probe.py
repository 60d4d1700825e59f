"""The probe itself: does every agent look, is it well, and does what it finds arrive."""

from __future__ import annotations

from probe.model.metrics import PREFIX
from probe.rules.boards.shared import ANY, NAMES, WINDOW, Shown, marks, ways
from probe.rules.grafana import Board, Row, Variable
from probe.rules.links import Dashboard
from probe.rules.panels import GREEN, RED, YELLOW, Panel, Query, lines, stat, states, values
from probe.rules.selfwatch import EXPECTED

_INFO = f"{PREFIX}self_agent_info"
_REGION = Variable(name="region", label="Region", series=_INFO, of="region")
_HERE = 'region=~"$region"'
_OF_HERE = f"* on (job, instance) group_left (region) ({_INFO}{{{_HERE}}} > 0)"  # an agent's own counters do not name its region


def probe(shown: Shown) -> Board:
    return Board(
        uid=Dashboard.PROBE.value,
        title=f"{shown.fleet.name}: {NAMES[Dashboard.PROBE].lower()}",
        about="Whether agents look, whether they are well, and whether what they find arrives.",
        variables=(_REGION, WINDOW),
        marks=marks(),
        links=ways(Dashboard.PROBE),
        rows=(
            Row(title="Agents", panels=_agents()),
            Row(title="Runs", panels=_runs()),
            Row(title="Health", panels=_health()),
            Row(title="What is delivered", panels=_delivered()),
        ),
    )


def _agents() -> tuple[Panel, ...]:
    return (
        stat(
            "Agents missing",
            f"sum({EXPECTED}{{{_HERE}}}) - (sum(count by (region) ({_INFO}{{{_HERE}}})) or 0 * sum({EXPECTED}{{{_HERE}}}))",
            "Of the inventory.",
            steps=ANY,
            width=6,
        ),
        stat(
            "Refused configurations",
            f"count({PREFIX}self_reload_success{{{_HERE}}} == 0) or 0 * count({PREFIX}self_reload_success{{{_HERE}}})",
            "Agents that run with an older one than their file: /readyz says why.",
            steps=ANY,
            width=6,
        ),
        stat(
            "Youngest agent",
            f"min(time() - {PREFIX}self_start_time_seconds{{{_HERE}}})",
            "Since when. One that is always young is restarted again and again.",
            unit="dtdurations",
            width=6,
        ),
        stat(
            "Workers that ended in a run",
            f"sum(increase({PREFIX}self_worker_crashes_total[$__range]) {_OF_HERE})",
            "Over the time shown.",
            steps=ANY,
            decimals=0,
            width=6,
        ),
        states(
            "Answering",
            "Whether Prometheus reaches each target.",
            Query(expr=f"up and on (job, instance) last_over_time({_INFO}{{{_HERE}}}[1d])", legend="{{instance}}"),
            mappings=values(("0", "down", RED), ("1", "up", GREEN)),
            steps=((None, RED), (1, GREEN)),
            height=6,
        ),
    )


def _runs() -> tuple[Panel, ...]:
    return (
        lines(
            "Runs due and missed",
            "Missed by why: blackout is planned; overlap and budget mean too many; late means the machine was away.",
            Query(expr=f"sum by (region) (increase({PREFIX}self_runs_due_total[$window]) {_OF_HERE})", legend="due {{region}}"),
            Query(
                expr=f"sum by (region, kind) (increase({PREFIX}self_runs_missed_total[$window]) {_OF_HERE})",
                legend="missed {{region}} {{kind}}",
            ),
            unit="short",
            min=0,
        ),
        lines(
            "How late runs begin",
            "95 %, after their time.",
            Query(
                expr=f"histogram_quantile(0.95, sum by (le, scenario) (increase({PREFIX}self_run_late_seconds_bucket[$window])))",
                legend="{{scenario}}",
            ),
            unit="s",
            min=0,
        ),
        lines(
            "Runs under way",
            "By scenario.",
            Query(expr=f"sum by (scenario) ({PREFIX}self_runs_in_flight)", legend="{{scenario}}"),
            Query(expr=f"sum by (region) ({PREFIX}self_workers_ready{{{_HERE}}})", legend="workers that wait, {{region}}"),
            unit="short",
            min=0,
        ),
        lines(
            "Outcomes that are tainted, by what was wrong",
            "They count neither for nor against the platform.",
            Query(
                expr=f"sum by (region, taint) (increase({PREFIX}taints_total{{{_HERE}}}[$window]))", legend="{{region}} {{taint}}"
            ),
            unit="short",
            min=0,
        ),
    )


def _lag(name: str) -> str:
    return f"histogram_quantile(0.99, sum by (le, region) (increase({PREFIX}{name}_bucket{{{_HERE}}}[$window])))"


def _health() -> tuple[Panel, ...]:
    return (
        lines(
            "Lag of the agent's loop",
            "99 %. Above 50 ms timings are not to be trusted.",
            Query(
                expr=_lag("self_agent_lag_seconds"),
                legend="agent {{region}}",
            ),
            Query(
                expr=_lag("self_loop_lag_seconds"),
                legend="in runs {{region}}",
            ),
            unit="s",
            steps=((None, GREEN), (0.05, YELLOW)),
            min=0,
        ),
        lines(
            "Waiting for a CPU",
            "Share of time: runnable and not running; held back by a quota; anybody on the machine.",
            Query(expr=f"max by (region) ({PREFIX}self_run_delay_ratio{{{_HERE}}})", legend="not running {{region}}"),
            Query(expr=f"max by (region) ({PREFIX}self_throttled_ratio{{{_HERE}}})", legend="throttled {{region}}"),
            Query(expr=f"max by (region) ({PREFIX}self_pressure_ratio{{{_HERE}}})", legend="anybody {{region}}"),
            unit="percentunit",
            steps=((None, GREEN), (0.1, YELLOW)),
            min=0,
        ),
        lines(
            "Decoding behind arrival",
            "In runs.",
            Query(expr=f"max by (region) ({PREFIX}self_decode_backlog_seconds{{{_HERE}}})", legend="{{region}}"),
            unit="s",
            min=0,
        ),
        lines(
            "Series in each agent",
            "At 50,000 new ones are refused, and counted.",
            Query(expr=f"{PREFIX}self_series {_OF_HERE}", legend="{{instance}}"),
            Query(
                expr=f"sum by (kind) (increase({PREFIX}self_series_refused_total[$window]) {_OF_HERE})",
                legend="refused: {{kind}}",
            ),
            unit="short",
            min=0,
        ),
    )


def _delivered() -> tuple[Panel, ...]:
    return (
        lines(
            "Waiting on disk",
            "For a collector or a database; 0 in good times.",
            Query(expr=f"sum by (region, kind) ({PREFIX}self_spool_items {_OF_HERE})", legend="{{region}} {{kind}}"),
            Query(expr=f"sum by (region) ({PREFIX}self_store_behind{{{_HERE}}})", legend="{{region}} records"),
            unit="short",
            min=0,
        ),
        lines(
            "Lost",
            "Observations dropped, items of spools lost, errors of the database.",
            Query(
                expr=f"sum by (region, kind) (increase({PREFIX}self_observations_dropped_total[$window]) {_OF_HERE})",
                legend="observations, {{region}} {{kind}}",
            ),
            Query(
                expr=f"sum by (region, kind) (increase({PREFIX}self_spool_dropped_total[$window]) {_OF_HERE})",
                legend="spool, {{region}} {{kind}}",
            ),
            Query(
                expr=f"sum by (region) (increase({PREFIX}self_store_errors_total{{{_HERE}}}[$window]))",
                legend="database, {{region}}",
            ),
            unit="short",
            min=0,
        ),
    )
