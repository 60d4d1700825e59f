"""What the probe alerts about itself: that nobody looks, that nothing new is seen, that what is seen does not count.

Silence goes by the inventory, never by the agents' own series: an agent that was never started, or whose series have been
forgotten, has none to be absent. So the fleet records who is expected and what is due, and an alert fires for what is expected
and does not come. A region that nobody sees pages: its own network's outage looks just like that. All else about the probe is
triaged, since no viewer feels it; the watchdog fires always, and whoever waits for it outside learns that Prometheus is dead.

Chosen not to alert on: a refused configuration, records or traces that wait for a database or a collector that is away. No
figure is wrong for it, and where a run is not made for it `RunsMissing` tells; they are on the probe's dashboard. Two objectives
may say the same and more (coverage, taint_ratio): where every scenario has one, ours stands back.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from probe.model.metrics import PREFIX
from probe.rules.conditions import Alert, Below, Condition, Kind, Silent
from probe.rules.fleet import Fleet, Severity, Source
from probe.rules.promql import DUE, matching, number
from probe.rules.windows import HOUR, MINUTE, at_least, prom

EXPECTED = "probe:agents:expected"  # by region
SILENT_SHARE = 0.1  # of the runs due: fewer is silence
SILENT_RUNS = 5  # due before silence is told
MISSING_SHARE = 0.5
TAINTED = 0.2  # of outcomes
TAINT_WINDOW, TAINT_OUTCOMES = HOUR, 10
WATCHDOG = "Watchdog"
_INFO = f"{PREFIX}self_agent_info"
_MADE = f"{PREFIX}runs_total"
_SLOT = f"{PREFIX}self_runs_due_total"
_MISSED = f"{PREFIX}self_runs_missed_total"
_OUTCOMES = f"{PREFIX}outcomes_total"
_HERE = f"on (instance, job) group_left (region) (0 * {_INFO} + 1)"  # an agent's own counters do not name its region


def due(fleet: Fleet) -> dict[tuple[str, str, str], float]:
    """Runs an hour by (scenario, publish_region, region), of schedules without pauses: others may be silent by plan."""
    found: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    for agent in fleet.agents:
        for beat in agent.beats:
            if beat.share >= 1:
                found[beat.scenario, beat.publish_region, agent.region] += beat.runs_per_hour
    return dict(found)


def expected(fleet: Fleet) -> dict[str, int]:
    """Agents by region."""
    return dict(Counter(agent.region for agent in fleet.agents))


def self_alerts(fleet: Fleet) -> Iterator[Alert]:
    """All about the probe itself; of a fleet without agents only the watchdog."""
    if fleet.agents:
        yield from _silence(fleet)
        yield _fewer(fleet)
        if due(fleet) and not _promised(fleet, Source.COVERAGE, ""):
            yield _missing(fleet)
        if not _promised(fleet, Source.RUNS, "taint_ratio"):
            yield _tainted()
        yield _lost()
    if fleet.drills:
        yield _overdue()
    yield _watchdog()


def _silence(fleet: Fleet) -> Iterator[Alert]:
    window = _silent_window(fleet)
    known = f"({EXPECTED} and {EXPECTED} offset {prom(window)})"  # who was not expected yet cannot have been heard
    made = f"sum by (region) (increase({_MADE}{matching(mode='scheduled')}[{prom(window)}])) > 0.5"
    present = f"count by (region) ({_INFO})"
    half = prom(window // 2)  # what was due since is under way: of an agent that is new, or back, the first run takes its time
    asked = f"sum by (region) (increase({_SLOT}[{half}] offset {half}) * {_HERE}) > 0.5"
    paused = f'sum by (region) (increase({_MISSED}{{kind="blackout"}}[{prom(window)}]) * {_HERE}) > 0.5'
    conditions = (Silent(window=window, share=SILENT_SHARE),)
    yield _alert(
        "RegionSilent",
        Kind.SILENCE,
        Severity.P1,
        ("region",),
        f"{known}\nunless on (region) ({made})\nunless on (region) {present}",
        "nobody looks at the platform from {{ $labels.region }}",
        f"No agent of {{{{ $labels.region }}}} has been heard for {prom(window)}. Whether viewers there can watch, nobody knows.",
        "see whether the region's network or only the agent's host is down; look at the platform from there by other means",
        conditions,
    )
    yield _alert(
        "RegionStale",
        Kind.STALE,
        Severity.P1,
        ("region",),
        f"(\n  sum by (region) ({DUE} and {DUE} offset {prom(window)})\n  or\n  {asked}\n)\nand on (region) {present}\n"
        f"and on (region) count by (region) ({_INFO} offset {half})\n"
        f"unless on (region) ({made})\nunless on (region) ({paused})",
        "figures of {{ $labels.region }} are old: its agent answers, and makes no runs",
        f"Runs were due in {{{{ $labels.region }}}} over {prom(window)} and none was made. Dashboards show its past.",
        "read the agent's /readyz and log: why runs are due and not begun; restart it if it says nothing",
        conditions,
    )


def _fewer(fleet: Fleet) -> Alert:
    return _alert(
        "AgentsMissing",
        Kind.SILENCE,
        Severity.P2,
        ("region",),
        f"{EXPECTED} > on (region) count by (region) ({_INFO})",
        "fewer agents speak in {{ $labels.region }} than the inventory has",
        f"The region is still seen, by those that are left. In the inventory: {_inventory(fleet)}. Heard:"
        "{{ range query `" + _INFO + '` | sortByLabel "instance" }} {{ label "region" . }} {{ label "instance" . }};{{ end }}',
        "find the agent that is down: its host, its log; or take it out of the inventory",
        (),
        hold=_silent_window(fleet),
    )


def _inventory(fleet: Fleet) -> str:
    agents = sorted((agent.region, agent.name) for agent in fleet.agents)
    return ", ".join(f"{name} in {region}" for region, name in agents)


def _missing(fleet: Fleet) -> Alert:
    slowest = min(due(fleet).values())
    window = at_least(max(HOUR, int(10 * HOUR / slowest)))
    labels = ("scenario", "publish_region", "region")
    by = ", ".join(labels)
    made = f"sum by ({by}) (increase({_MADE}{matching(mode='scheduled')}[{prom(window)}]))"
    enough = f"{made} >= on ({by}) {DUE} * {number(MISSING_SHARE * window / HOUR)}"
    paused = f'sum by (region) (increase({_MISSED}{{kind="blackout"}}[{prom(window)}]) * {_HERE}) > 0.5'
    silent = 'ALERTS{alertname=~"RegionSilent|RegionStale",alertstate="firing"}'
    return _alert(
        "RunsMissing",
        Kind.SILENCE,
        Severity.P2,
        labels,
        f"({DUE} and {DUE} offset {prom(window)})\nunless on ({by}) ({enough})\nunless on (region) ({paused})\n"
        f"unless on (region) {silent}",
        "most runs of {{ $labels.scenario }} from {{ $labels.publish_region }} to {{ $labels.region }} are not made",
        f"Less than half of those due over {prom(window)}. Objectives go by what is left.",
        "look at streamprobe_self_runs_missed_total of the agent: overlap, budget, late; give it fewer runs or more room",
        (Silent(window=window, share=MISSING_SHARE),),
    )


def _tainted() -> Alert:
    window = prom(TAINT_WINDOW)
    asked = matching(mode="scheduled")[:-1]
    every = f"sum by (region) (increase({_OUTCOMES}{asked}}}[{window}]))"
    tainted = f'sum by (region) (increase({_OUTCOMES}{asked},tainted="true"}}[{window}]))'
    return _alert(
        "ProbeTainted",
        Kind.TAINT,
        Severity.P2,
        ("region",),
        f"{tainted} / ({every} > {TAINT_OUTCOMES - 0.5:g}) > {number(TAINTED)}",
        "the probe is unwell in {{ $labels.region }}: much of what it sees does not count",
        f"Above {TAINTED:.0%} of outcomes over {window} were measured while the probe's own machine was starved. They are left"
        " out of every ratio, so that objectives go by fewer runs.",
        "give the agent's machine more CPU, or the agent fewer runs at once",
        (Below(window=TAINT_WINDOW, ratio=1 - TAINTED, runs=TAINT_OUTCOMES),),
    )


def _lost() -> Alert:
    dropped = f'increase({PREFIX}self_observations_dropped_total{{kind="metrics"}}[1h])'
    refused = f"increase({PREFIX}self_series_refused_total[1h])"
    return _alert(
        "ProbeFiguresLost",
        Kind.TAINT,
        Severity.P2,
        ("region",),
        f"sum by (region) (({dropped} or {refused}) * {_HERE}) > 0.5",
        "the probe loses figures in {{ $labels.region }}: objectives there may be wrong",
        "Observations were dropped before they were counted, or series beyond the limit were refused.",
        "give the agent fewer scenarios, or more agents; see streamprobe_self_series",
        (),
    )


def _overdue() -> Alert:
    return _alert(
        "DrillOverdue",
        Kind.DRILL,
        Severity.P2,
        ("drill",),
        f"min by (drill) ({PREFIX}drill_overdue) > 0",  # agents with records of their own: one that saw it done is enough
        "drill {{ $labels.drill }} is overdue",
        "It was not done as often as the calendar says, or not before a campaign. An invalid, inconclusive or aborted one is not"
        " done: it showed nothing.",
        "probe drill list --due says whose it is; run it, or move the campaign",
        (),
        hold=HOUR,
    )


def _watchdog() -> Alert:
    return _alert(
        WATCHDOG,
        Kind.WATCHDOG,
        Severity.P2,
        (),
        "vector(1)",
        "always fires: whoever does not hear it must look for Prometheus and Alertmanager",
        "A dead man's switch. It goes to somebody outside, who calls when it stops.",
        "nothing while it fires; where it stopped, see whether Prometheus runs and reaches Alertmanager",
        (),
    )


def _alert(
    name: str,
    kind: Kind,
    severity: Severity,
    by: tuple[str, ...],
    expr: str,
    summary: str,
    description: str,
    action: str,
    conditions: tuple[Condition, ...],
    hold: int = 0,
) -> Alert:
    words = {"summary": f"probe: {summary}", "description": description, "action": action}
    return Alert(
        name=name, kind=kind, severity=severity, slo=None, by=by, conditions=conditions, hold=hold, expr=expr, annotations=words
    )


def _silent_window(fleet: Fleet) -> int:
    """Long enough that the slowest region would have been heard several times."""
    rates: defaultdict[str, float] = defaultdict(float)
    for agent in fleet.agents:
        rates[agent.region] += sum(beat.runs_per_hour for beat in agent.beats)
    slowest = min((rate for rate in rates.values() if rate), default=60.0)
    return at_least(max(10 * MINUTE, int(SILENT_RUNS * HOUR / slowest)))


def _promised(fleet: Fleet, source: Source, indicator: str) -> bool:
    """Whether every scenario that is run has an objective of that kind."""
    run = {beat.scenario for agent in fleet.agents for beat in agent.beats}
    kept = {slo.scenario for slo in fleet.slos if slo.source is source and indicator in ("", slo.indicator)}
    return run <= kept
