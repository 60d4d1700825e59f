"""One run, or what it was part of. Metrics hold no run's id, so it is found by its trace: exemplars are points of it, the agent
has its report and the collector its spans.
"""

from __future__ import annotations

from probe.model.metrics import PREFIX
from probe.rules.boards.shared import MODE, NAMES, PLACES, PROTOCOL, RUN, VIEWERS, WINDOW, Shown, marks, ways
from probe.rules.grafana import Board, Row, Variable
from probe.rules.links import Dashboard
from probe.rules.panels import Panel, Query, heat, lines, text

_TRACE = Variable(name="trace", label="Trace id")


def run(shown: Shown) -> Board:
    return Board(
        uid=Dashboard.RUN.value,
        title=f"{shown.fleet.name}: {NAMES[Dashboard.RUN].lower()}",
        about="Around one run: what it did at that time, and the ways to its report and its trace.",
        variables=(*PLACES, PROTOCOL, MODE, _TRACE, WINDOW),
        marks=marks(),
        links=ways(Dashboard.RUN),
        since="now-30m",
        rows=(
            Row(title="Report and trace", panels=(_leads(shown), _verdicts())),
            Row(title="Its sessions", panels=_sessions()),
            Row(title="The probe meanwhile", panels=_probe()),
        ),
    )


def _leads(shown: Shown) -> Panel:
    links = shown.fleet.links
    regions = dict.fromkeys(agent.region for agent in shown.fleet.agents)
    lines_ = ["Points in these panels are runs: each carries its trace id. Put one in above, then:", ""]
    if links.runs:
        lines_ += [
            f"- report, at the agent of {region}: [{region}]({links.runs.replace('${region}', region)}?trace_id=$trace)"
            for region in regions
        ]
    else:
        lines_ += ["- its report: `/runs?trace_id=$trace` of the agent that made it"]
    if links.traces:
        lines_ += [f"- its [trace]({links.traces.replace('${trace_id}', '$trace')})"]
    lines_ += ["", "By command: `probe trace REQUEST-ID` for a request of it."]
    return text("Ways", "\n".join(lines_), width=8, height=8)


def _verdicts() -> Panel:
    return lines(
        "Runs by verdict",
        "Points are single runs.",
        Query(
            expr=f"sum by (scenario, publish_region, region, verdict) (increase({PREFIX}runs_total{{{RUN}}}[$window]))",
            legend="{{scenario}} {{publish_region}} → {{region}} {{verdict}}",
            exemplars=True,
        ),
        unit="short",
        width=16,
        min=0,
    )


def _sessions() -> tuple[Panel, ...]:
    return (
        heat(
            "First frame",
            "Each point a start.",
            Query(
                expr=f"sum by (le) (increase({PREFIX}first_frame_seconds_bucket{{{VIEWERS}}}[$window]))",
                legend="{{le}}",
                format="heatmap",
                exemplars=True,
            ),
            unit="s",
        ),
        heat(
            "End-to-end latency",
            "Each point a frame: leaving the publisher to decoded at the viewer.",
            Query(
                expr=f"sum by (le) (increase({PREFIX}e2e_latency_seconds_bucket{{{VIEWERS}}}[$window]))",
                legend="{{le}}",
                format="heatmap",
                exemplars=True,
            ),
            unit="s",
        ),
        lines(
            "Stages, the mean of each",
            "Of every session that has the stage.",
            Query(
                expr=f"sum by (protocol, stage) (increase({PREFIX}stage_seconds_sum{{{RUN}}}[$window])) /"
                f" (sum by (protocol, stage) (increase({PREFIX}stage_seconds_count{{{RUN}}}[$window])) > 0)",
                legend="{{protocol}} {{stage}}",
            ),
            unit="s",
            min=0,
        ),
        lines(
            "Frames by what they were",
            "Kinds overlap: every verified frame was decoded.",
            Query(
                expr=f"sum by (protocol, kind) (increase({PREFIX}frames_total{{{VIEWERS}}}[$window]))",
                legend="{{protocol}} {{kind}}",
            ),
            unit="short",
            min=0,
        ),
    )


def _probe() -> tuple[Panel, ...]:
    return (
        lines(
            "Taints, by what was wrong",
            "Outcomes that count neither for nor against the platform.",
            Query(
                expr=f"sum by (region, taint) (increase({PREFIX}taints_total{{{RUN}}}[$window]))", legend="{{region}} {{taint}}"
            ),
            unit="short",
            min=0,
        ),
        lines(
            "Error of the clocks",
            "Between the publisher's and the viewer's: no latency is known better than this.",
            Query(
                expr=f"max by (publish_region, region) ({PREFIX}clock_error_seconds{{{RUN}}})",
                legend="{{publish_region}} → {{region}}",
            ),
            unit="s",
            min=0,
        ),
    )
