"""A gate's question as PromQL: every term's value, samples and runs in one query, over what all agents export.

One vector comes back, each sample with `term` (its number in the gate, `when` first) and `part` (value, n, made), joined by `or`,
so that a gate costs one request and all of it is of one moment. `increase` extrapolates: of a ratio that cancels out, counts are
rounded. Quantiles are `histogram_quantile`'s, interpolated within a bucket, where an agent's own are samples; a threshold at a
bucket's edge decides the same. What no metric says exactly is refused rather than asked for something similar.

Only mode `scheduled` is asked for: ramps and drills are no grounds for a decision.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from probe.judge.reading import terms
from probe.model.metrics import PREFIX
from probe.scenario.gates import Term
from probe.scenario.indicators import INDICATORS, Unit
from probe.scenario.schema import Gate, Objective
from probe.scenario.units import format_duration

Ask = Callable[[str, str], str]  # metric, its matchers → the increase over the window by the gate's labels
_SERVICES = frozenset({"auth", "room", "payment", "chat", "gift", "moderation"})
_MEASURED = 'outcome=~"done|failed",tainted="false"'
_BACK = "unaffected|resumed|restarted"
_BUCKETS = {
    "first_frame": "first_frame_seconds", "reconnect_seconds": "reconnect_seconds", "outage_seconds": "outage_seconds",
    "e2e_latency": "e2e_latency_seconds",
}  # fmt: skip
PARTS = ("value", "n", "made")


def unfit(gate: Gate, objectives: Sequence[Objective]) -> str:
    """Why Prometheus cannot be asked what the gate asks; empty where it can."""
    for term, window in terms(gate):
        if window is None:
            return f"from: prometheus needs a window: {term.indicator}[10m]"
        if term.quantile == "max":
            return f"{term.indicator}.max is in no histogram; ask for .p99"
        if term.indicator == "room_start" and _slo("room_start", objectives) is None:
            return "Prometheus counts room starts by objective: add one on room_start to the scenario"
        if _ratio(term.indicator, objectives) is None and term.indicator not in (*_BUCKETS, "failures", "attempts"):
            return f"no metric says {term.indicator} exactly; take it from the agent's own runs"
    return ""


def query(gate: Gate, scenario: str, objectives: Sequence[Objective]) -> str:
    """The whole question. The gate is one that `unfit` has nothing against."""
    asked = []
    for number, (term, window) in enumerate(terms(gate)):
        assert window is not None
        found = dict(zip(PARTS, _parts(gate, term, window, scenario, objectives), strict=True))
        for part, expression in found.items():
            labelled = f'label_replace({expression}, "part", "{part}", "", "")'
            asked.append(f'label_replace({labelled}, "term", "{number}", "", "")')
    return " or ".join(asked)


def _parts(gate: Gate, term: Term, window: int, scenario: str, objectives: Sequence[Objective]) -> tuple[str, str, str]:
    of = f'scenario={_quoted(scenario)},mode="scheduled"'
    span = promql_duration(window)

    def ask(metric: str, matchers: str, labels: Sequence[str] = gate.by) -> str:
        name = "" if metric.startswith("{") else PREFIX + metric
        inside = f"{metric.strip('{}')},{of}" if not name else of
        selector = f"{name}{{{inside}{',' + matchers if matchers else ''}}}"
        return f"sum by ({', '.join(labels)}) (increase({selector}[{span}]))"

    made = ask("runs_total", "", [label for label in gate.by if label != "protocol"])
    if term.indicator in _BUCKETS:
        name = _BUCKETS[term.indicator]
        share = int(term.quantile[1:]) / 100
        value = f"histogram_quantile({share:g}, {ask(f'{name}_bucket', '', [*gate.by, 'le'])})"
        return value, ask(f"{name}_count", ""), made
    if term.indicator == "attempts":
        return f"round({ask('attempts_total', '')})", ask("attempts_total", ""), made
    if term.indicator == "failures":
        both = f'{{__name__=~"{PREFIX}(outcomes|steps)_total"}}'
        own = 'kind!~"publish|view",tainted="false"'
        failed, told = f'{own},outcome="failed"', f'{own},outcome=~"done|failed"'
        return f"round({ask(both, failed)})", ask(both, told), made
    ratio = _ratio(term.indicator, objectives)
    assert ratio is not None
    metric, counted, of_all = ratio
    good, total = ask(metric, counted), ask(metric, of_all)
    # A part that never was is no series: 0 of all, unless there is nothing at all.
    return f"(({good}) or (0 * {total})) / ({total} > 0)", total, made


def _ratio(indicator: str, objectives: Sequence[Objective]) -> tuple[str, str, str] | None:
    """(metric, matchers of what is counted, matchers of all) of an indicator that is a ratio of events."""
    viewers = 'role="viewer"'
    match indicator:
        case "room_start":
            slo = f"slo={_quoted(_slo(indicator, objectives) or '')}"
            return "objective_runs_total", f'{slo},outcome="good"', f'{slo},outcome=~"good|bad"'
        case "start" | "publisher_start":
            role = f'role="{"viewer" if indicator == "start" else "publisher"}",tainted="false"'
            return "outcomes_total", f'{role},outcome="done"', f'{role},outcome=~"done|failed"'
        case "reconnect":
            of = f'{viewers},tainted="false"'
            return "reconnects_total", f'{of},outcome=~"{_BACK}"', f'{of},outcome=~"{_BACK}|failed"'
        case "crash_free":
            return "sessions_ended_total", f'{viewers},kind="planned"', viewers
        case "edge_errors":
            return "edge_requests_total", 'class=~"4xx|5xx|none"', ""
        case "taint_ratio":
            return "outcomes_total", 'tainted="true"', ""
        case _ if indicator in _SERVICES and INDICATORS[indicator].unit is Unit.RATIO:
            of = f'service="{indicator}",kind!~"publish|view"'
            return "steps_total", f'{of},outcome="done",tainted="false"', f"{of},{_MEASURED}"
    return None


def _slo(indicator: str, objectives: Sequence[Objective]) -> str | None:
    return next((one.name for one in objectives if one.indicator == indicator), None)


def promql_duration(ns: int) -> str:
    """`1m30s`; whole milliseconds."""
    text = format_duration(ns)
    return text if re.fullmatch(r"([0-9]+(ms|[smhd]))+", text) else f"{max(1, ns // 1_000_000)}ms"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
