"""What is replayed is what Prometheus does: the same alerts, the same labels, at the same evaluations but for one or two.

Random histories become counters; promtool evaluates the rules that `probe rules` writes over them, and is asked at many moments
which alerts fire. Moments within two evaluations of a change are not asked about: there the two may differ, and that is said.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from probe.model.clock import NS
from probe.rules.alerts import alerts
from probe.rules.backtest import OURS, aimed
from probe.rules.conditions import Alert
from probe.rules.fleet import Fleet, Severity, Slo
from probe.rules.groups import of_slo, text
from probe.rules.history import History, Seen, Series, due_times
from probe.rules.rivals import Ruleset
from probe.rules.told import Told, ask
from tests.rules.fleets import HOUR, MINUTE, fleet, two_ingests
from tests.tools import requires

SPAN = 7 * HOUR
INTERVAL = 60 * NS
NEAR = 2 * INTERVAL


def made_up(slo: Slo, seed: int) -> History:
    """Each path loses this or that share of its runs in stretches that sometimes overlap and sometimes take all paths."""
    chance = random.Random(seed)
    stretches = []
    for _ in range(7):
        began = chance.randrange(HOUR, SPAN - HOUR)
        ended = began + chance.choice((4, 12, 40, 90)) * MINUTE
        where = chance.choice(("all", "eu", "us", "apac", "publish"))
        stretches.append((began, ended, where, chance.choice((0.04, 0.3, 1.0, 1.0))))
    series = []
    for cell in slo.cells:
        times = due_times(0, SPAN, cell.runs_per_hour, chance.random())
        bad = np.array([chance.random() < 0.003 for _ in times])
        for began, ended, where, loss in stretches:
            if where in ("all", cell.region) or (where == "publish" and cell.publish_region == "eu"):
                bad |= np.array([began <= at < ended and chance.random() < loss for at in times.tolist()])
        outcomes = np.where(bad, Seen.BAD, Seen.GOOD).astype(np.int8)
        outcomes[np.array([chance.random() < 0.02 for _ in times])] = Seen.NONE
        series.append(Series(cell, times, outcomes))
    return History(name=str(seed), began=0, ended=SPAN, judged=0, beats=(), series={slo.name: tuple(series)}, incidents=())


def counters(slo: Slo, history: History) -> Iterator[dict[str, str]]:
    """What agents would have exported, a sample each evaluation."""
    grid = history.grid(INTERVAL)
    for one in history.series[slo.name]:
        for outcome, seen in (("good", Seen.GOOD), ("bad", Seen.BAD)):
            labels = {
                "mode": "scheduled", "scenario": slo.scenario, "slo": slo.name, "outcome": outcome,
                "publish_region": one.cell.publish_region, "region": one.cell.region, "protocol": one.cell.protocol,
            }  # fmt: skip
            named = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
            counted = grid.counted(one.times[one.outcomes == seen]).tolist()
            yield {"series": f"streamprobe_objective_runs_total{{{named}}}", "values": " ".join(map(str, counted))}


def moments(said: Sequence[Told], seed: int) -> list[int]:
    """Random ones, and those close to every change, but not closer than the two may differ."""
    chance = random.Random(seed)
    changes = sorted({at for one in said for at in (one.firing.began, one.firing.ended) if at is not None})
    asked = {chance.randrange(0, SPAN // INTERVAL) * INTERVAL for _ in range(40)}
    asked |= {change + by for change in changes for by in (-NEAR - INTERVAL, NEAR + INTERVAL)}
    return sorted(at for at in asked if 0 <= at < SPAN and all(abs(at - change) > NEAR for change in changes))


def firing(said: Iterable[Told], at: int) -> list[dict[str, object]]:
    """What replay says fires then, as promtool expects it."""
    now = [one for one in said if one.firing.began <= at and (one.firing.ended is None or at < one.firing.ended)]
    samples = []
    for one in now:
        labels = {"region": one.region, "publish_region": one.place.publish_region}
        named = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items() if value)
        samples.append({"labels": f"{{{named}}}", "value": 1})
    return samples


def promtool_agrees(folder: Path, alert: Alert, history: History, seed: int) -> tuple[int, int]:
    """Fails with what promtool says otherwise; returns how often something fired, and how many moments were asked about."""
    slo = alert.slo
    assert slo is not None
    (said,) = ask(history, {OURS: Ruleset(name=OURS, spoken="", alerts=(alert,))}, INTERVAL).values()
    asked = moments(said, seed)
    query = f'count by (region, publish_region) (ALERTS{{alertname="{alert.name}",alertstate="firing"}})'
    tests = [{"expr": query, "eval_time": f"{at // NS}s", "exp_samples": firing(said, at)} for at in asked]
    (folder / "rules.yaml").write_text(text(of_slo(slo, [alert])))
    unit = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": f"{INTERVAL // NS}s",
        "tests": [{"interval": f"{INTERVAL // NS}s", "input_series": list(counters(slo, history)), "promql_expr_test": tests}],
    }
    (folder / "unit.yaml").write_text(json.dumps(unit))
    told = subprocess.run(
        [requires("promtool", package="prometheus"), "test", "rules", "unit.yaml"],
        cwd=folder, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    return len(said), len(asked)


@pytest.mark.parametrize(
    ("made", "slo", "severity", "seed"),
    [
        pytest.param(two_ingests(), 0, Severity.P1, 6, id="scopes"),
        pytest.param(aimed(fleet(), 0.99), 1, Severity.P1, 4, id="protocols"),
        pytest.param(two_ingests(every=6 * MINUTE), 0, Severity.P1, 2, id="few runs, guarded"),
        pytest.param(fleet(), 0, Severity.P2, 3, id="triage"),
    ],
)
def test_an_alert_fires_when_prometheus_says_so_and_with_its_labels(
    tmp_path: Path, made: Fleet, slo: int, severity: Severity, seed: int
) -> None:
    alert = next(a for a in alerts(made) if a.slo is made.slos[slo] and a.severity is severity)
    fired, asked = promtool_agrees(tmp_path, alert, made_up(made.slos[slo], seed), seed)
    assert fired >= 3 and asked >= 30
