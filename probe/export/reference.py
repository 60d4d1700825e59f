"""The page about the metrics, made from the table: `probe schema metrics`, kept as deploy/metrics.md, held equal by a test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from probe.export.figures import FRAME_KINDS
from probe.export.spool import LOST
from probe.export.zeros import CACHE_STATES, CLASSES, OUTCOMES, TAINTS
from probe.model.metrics import LABELS, MAX_COLLAPSIBLE, MAX_SERIES, METRICS, OTHER, PREFIX, Metric, MetricKind
from probe.model.observation import CutOutcome, Role
from probe.model.stage import Phase, Stage
from probe.model.verdict import Verdict

_SELF = f"{PREFIX}self_"
_HEAD = f"""# Metrics

Made by `probe schema metrics` from `probe/model/metrics.py`; not to be edited.

Every name begins with `{PREFIX}`, units are base units, counters end in `_total`. Each counter that a scenario can bring forth
exists at 0 before its first run, since a counter born at 1 never alerts. What could not be measured is absent, never 0.
No label holds a URL, a time, a room or a run: those are found through exemplars, whose `trace_id` leads to the run.

`/metrics` serves the classic text and, where it is asked for, OpenMetrics with exemplars. By OTLP the same names are sent:
counters as cumulative sums that start when the process did, histograms with these buckets, exemplars with their trace id; the
resource says `service.name` stream-probe, `service.instance.id` the agent, `streamprobe.region` where it stands.

There are at most {MAX_SERIES:,} series in one process (`{_SELF}series`); what would begin one more is refused and counted
(`{_SELF}series_refused_total`).
"""


def reference() -> str:
    """The page, Markdown."""
    platform = [metric for metric in METRICS.values() if not metric.name.startswith(_SELF)]
    itself = [metric for metric in METRICS.values() if metric.name.startswith(_SELF)]
    parts = [
        _HEAD,
        "## What is measured\n",
        _table(platform),
        "## The probe itself\n",
        "What waits on disk for a collector or a database is accounted for, by `kind`: "
        f"`{_SELF}spool_passed_total` put + recovered = done + all of `{_SELF}spool_dropped_total` + `{_SELF}spool_items`.\n",
        _table(itself),
        "## Labels\n",
        _labels(),
        "## Buckets\n",
        _buckets(),
    ]
    return "\n".join(parts)


def _table(metrics: Iterable[Metric]) -> str:
    lines = ["| metric | type | labels | what |", "| --- | --- | --- | --- |"]
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        lines.append(f"| `{metric.name}` | {metric.kind.value} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"


def _labels() -> str:
    meanings = _meanings()
    lines = ["| label | what it holds |", "| --- | --- |"]
    used = {label for metric in METRICS.values() for label in metric.labels}
    lines += [f"| `{label}` | {meanings[label]} |" for label in sorted(used & LABELS)]
    return "\n".join(lines) + "\n"


def _buckets() -> str:
    lines = ["| metric | upper bounds |", "| --- | --- |"]
    for metric in METRICS.values():
        if metric.kind is MetricKind.HISTOGRAM:
            lines.append(f"| `{metric.name}` | {' '.join(f'{bound:g}' for bound in metric.buckets)} |")
    return "\n".join(lines) + "\n"


def _meanings() -> Mapping[str, str]:
    return {
        "scenario": "The scenario's name.",
        "mode": "Why it ran: `scheduled` (objectives read only these), `smoke`, `ramp`, `drill`, `adhoc`.",
        "publish_region": "Where the stream came from.",
        "region": "Where this agent stands and views.",
        "role": _one_of(role.value for role in Role),
        "protocol": "What the session speaks: `whip`, `hls`, …",
        "ingest": "What the publisher that a viewer watches speaks, or a publisher itself; empty where it is nobody's of ours.",
        "join": "`mid_stream`, or `at_go_live` where the viewer waited for the broadcast; empty for publishers.",
        "device": "The imitated device's name in the scenario.",
        "service": "The platform's service that a step asks: `auth`, `room`, `chat`, `gift`, `payment`, `moderation`, …",
        "step": "The step's name in the scenario.",
        "stage": _one_of(stage.value for stage in Stage),
        "phase": "Where a failure happened: " + _one_of(phase.value for phase in Phase),
        "reason": "Why, together with `phase` one of a closed list of pairs; on `failures_total` alone.",
        "rendition": f"The rendition's name; at most {MAX_COLLAPSIBLE} of a scenario, then `{OTHER}`.",
        "drill": "The drill's or rehearsal's name, or `tag:` and a tag of which any one will do.",
        "edge": f"The server that answered, by what it calls itself; at most {MAX_COLLAPSIBLE} of a scenario, then `{OTHER}`.",
        "cache": "What the edge said of its cache: " + _one_of((*CACHE_STATES, OTHER)),
        "class": "Of requests, the status: " + _one_of(CLASSES) + " Of what was lost, why: " + _one_of(LOST)
        + " `busy`, `unencodable`, or how it was refused: `http_400`, …",
        "kind": "By metric. Of sessions: the frames had to carry our code (`code`) or merely move (`moving`). Of frames: "
        + _one_of(FRAME_KINDS) + " Of cuts, steps, sinks and spools: which.",
        "outcome": "Of attempts and steps: " + _one_of(OUTCOMES) + " Of reconnects: " + _one_of(c.value for c in CutOutcome)
        + " Of runs against objectives: `good`, `bad`, `inconclusive`."
        + " Of actions: `done`, `failed`, `given_up` (by age), `superseded` (the gate changed again).",
        "tainted": "`true` where the probe itself was unwell: such outcomes are in no ratio.",
        "taint": _one_of(TAINTS),
        "verdict": _one_of(verdict.value for verdict in Verdict),
        "slo": "The objective's name.",
        "gate": "The gate's name.",
    }  # fmt: skip


def _one_of(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values) + "."
