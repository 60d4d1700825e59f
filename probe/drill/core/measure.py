"""What a drill showed: its facts and everything its runs observed → a Score. Pure; put together here, worked out in the files
beside it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from probe.drill.core.cohorts import Cohort, Lived, lived
from probe.drill.core.facts import Checked, DrillBegan, DrillEnded, DrillFact
from probe.drill.core.file import Drill
from probe.drill.core.marks import FaultMarks, Marks, marks, seconds, since
from probe.drill.core.noticed import alarms, conditions, detection, mitigation
from probe.drill.core.score import (
    BlastScore,
    BudgetScore,
    CohortScore,
    CommandScore,
    FaultScore,
    HealthScore,
    HitScore,
    Score,
    StartScore,
)
from probe.drill.core.spending import ASSUMES, days, spending
from probe.drill.core.starting import again, losses, rooms, spread_of, starts
from probe.drill.core.timeline import strip_of
from probe.export.figures import rfc3339
from probe.judge.fold import fold
from probe.model.clock import NS
from probe.model.observation import CutOutcome, HealthSample, Observation, RunBegan
from probe.model.verdict import RunResult
from probe.plan import Plan


class Done(Protocol):
    """One thing done and its undo, in words."""

    @property
    def do(self) -> str: ...
    @property
    def undo(self) -> str: ...


class Prepared(Protocol):
    """What is told of a fault that was made concrete: a Prepared of faults.base, which does IO and is not imported here."""

    @property
    def klass(self) -> StrEnum: ...
    @property
    def targets(self) -> tuple[str, ...]: ...
    @property
    def of(self) -> int: ...
    @property
    def commands(self) -> Sequence[Done]: ...
    @property
    def restored_by(self) -> str: ...


def measure(
    facts: Sequence[DrillFact],
    observations: Iterable[Observation],
    drill: Drill,
    *,
    plans: Mapping[str, Plan],
    stays: Collection[str],
    prepared: Mapping[str, Prepared] | None = None,
    regions: int = 0,
) -> Score:
    """`observations` of all runs, in any order. `plans`: one of the runs of each region. `stays`: run ids of those held open for
    the whole drill. `prepared`: by the fault's name in the file. `regions`: how many the scenario has, with traffic or not.
    Raises ValueError where the facts hold no beginning."""
    at = marks(facts)
    began = next(fact for fact in facts if isinstance(fact, DrillBegan))
    ended = next((fact for fact in facts if isinstance(fact, DrillEnded)), None)
    results = results_of(observations)
    whole = [result for result in results if result.began.run not in stays]
    meant = _Meant(drill, at, results)
    everybody = lived([result for result in results if result.began.run in stays], at)
    begun = starts(whole, at, meant)
    told = [fact for fact in facts if isinstance(fact, Checked)]
    mitigated, untold = mitigation(told, at)
    return Score(
        drill=drill.drill,
        description=drill.description,
        run=began.run,
        owner=began.owner,
        scenario=began.scenario,
        regions=list(began.regions),
        tags=list(drill.tags),
        began=rfc3339(began.wall_unix_ns),
        seconds=seconds(at.ended - at.began),
        probe_version=began.probe_version,
        target=", ".join(dict.fromkeys(result.began.target for result in results)),
        release=", ".join(dict.fromkeys(result.release for result in results if result.release)) or None,
        verdict=ended.verdict.value if ended is not None else "inconclusive",
        reason=ended.reason if ended is not None else "the record ends before the drill did",
        injected_at=since(at, at.seen),
        restored_at=since(at, at.restored),
        detection=detection(facts, at),
        mitigation=mitigated,
        mitigation_untold=untold,
        faults=[_fault(fault, at, (prepared or {}).get(fault.name)) for fault in at.faults],
        conditions=conditions(told, at),
        alarms=alarms(facts, at),
        cohorts=cohorts(everybody, meant),
        starts=begun,
        rooms=rooms(whole, at),
        first_frame_again=again(whole, at),
        losses=losses(whole, at),
        blast=blast(everybody, begun, meant),
        strip=strip_of(results, stays, at),
        budget=_budget(whole, plans, regions, at),
        budget_assumes=ASSUMES,
        resolution=_resolution(drill),
        health=_health(results),
    )


def results_of(observations: Iterable[Observation]) -> list[RunResult]:
    """Of each run whose beginning was seen, in order of beginning."""
    by_run: defaultdict[str, list[Observation]] = defaultdict(list)
    for fact in observations:
        by_run[fact.run].append(fact)
    found = [fold(facts) for facts in by_run.values() if any(isinstance(fact, RunBegan) for fact in facts)]
    return sorted(found, key=lambda result: result.began.at)


# -- what was meant to be hit


class _Meant:
    """Whether a cohort is one that the drill is to hit: of its regions, and, where all it breaks is the path of viewers of some
    protocols (`clients:hls`), of those."""

    def __init__(self, drill: Drill, at: Marks, results: Sequence[RunResult]) -> None:
        self.regions = list(drill.regions) or sorted({result.began.region for result in results})
        protocols = {session.protocol for result in results for session in result.sessions}
        hit = [target.partition(":")[2] for fault in at.faults for target in fault.targets]
        only = hit and all(name in protocols for name in hit)
        self.protocols = sorted(set(hit)) if only else []

    def __call__(self, cohort: Cohort) -> bool:
        return cohort.region in self.regions and (not self.protocols or cohort.protocol in self.protocols)


def blast(everybody: Sequence[Lived], begun: Sequence[StartScore], meant: _Meant) -> BlastScore:
    """Who was hit, inside and outside. Outside a failed start counts where none had failed before the fault: a cohort that was
    unwell already was not this drill's doing."""
    inside = [one for one in everybody if meant(one.cohort)]
    outside = [one for one in everybody if not meant(one.cohort)]
    unwell = {_who(start) for start in begun if start.when == "before" and start.failed}
    tried: Counter[Cohort] = Counter()
    failed: Counter[Cohort] = Counter()
    for start in begun:
        if not start.meant and start.when != "before" and _who(start) not in unwell:
            tried[_who(start)] += start.done + start.failed
            failed[_who(start)] += start.failed
    hits = []
    for cohort in sorted({one.cohort for one in outside} | set(tried)):
        viewers = [one for one in outside if one.cohort == cohort]
        hit = sum(one.hit for one in viewers)
        if hit or failed[cohort]:
            hits.append(
                HitScore(
                    region=cohort.region,
                    protocol=cohort.protocol,
                    device=cohort.device,
                    viewers=hit,
                    of_viewers=sum(not one.tainted for one in viewers),
                    starts_failed=failed[cohort],
                    of_starts=tried[cohort],
                )
            )
    return BlastScore(
        meant_regions=meant.regions,
        meant_protocols=meant.protocols,
        hit_inside=sum(one.hit for one in inside),
        of_inside=sum(not one.tainted for one in inside),
        hit_outside=sum(one.hit for one in outside),
        of_outside=sum(not one.tainted for one in outside),
        outside=hits,
    )


def _who(start: StartScore) -> Cohort:
    return Cohort(start.region, start.protocol, start.device, start.ingest or "")


# -- what viewers lived through


def cohorts(everybody: Sequence[Lived], meant: _Meant) -> list[CohortScore]:
    """One line of each cohort."""
    by: defaultdict[Cohort, list[Lived]] = defaultdict(list)
    for one in everybody:
        by[one.cohort].append(one)
    return [_cohort(cohort, by[cohort], meant(cohort)) for cohort in sorted(by)]


def _cohort(cohort: Cohort, viewers: Sequence[Lived], meant: bool) -> CohortScore:
    clean = [one for one in viewers if not one.tainted]
    counts = Counter(one.outcome for one in clean)
    watched = sum(one.watched for one in viewers)
    return CohortScore(
        region=cohort.region,
        protocol=cohort.protocol,
        device=cohort.device,
        ingest=cohort.ingest or None,
        meant=meant,
        viewers=len(viewers),
        unaffected=counts[CutOutcome.UNAFFECTED],
        resumed=counts[CutOutcome.RESUMED],
        restarted=counts[CutOutcome.RESTARTED],
        failed=counts[CutOutcome.FAILED],
        open=counts[CutOutcome.OPEN],
        untold=counts[None],
        tainted=len(viewers) - len(clean),
        back_before_restore=sum(one.early and one.hit for one in clean),
        outage=spread_of(one.outage / NS for one in viewers if one.outage is not None),
        reconnect=spread_of(one.reconnect / NS for one in viewers if one.reconnect is not None),
        without_picture=seconds(sum(one.dark for one in viewers)) if watched else None,
        watched=seconds(watched) if watched else None,
        tainted_seconds=seconds(sum(one.unsure for one in viewers)),
    )


# -- the rest


def _fault(fault: FaultMarks, at: Marks, prepared: Prepared | None) -> FaultScore:
    def between(low: int | None, high: int | None) -> float | None:
        return None if low is None or high is None else seconds(max(0, high - low))

    back = None if fault.vanished else fault.back
    return FaultScore(
        name=fault.name,
        kind=fault.kind,
        klass=prepared.klass.value if prepared is not None else None,
        targets=list(fault.targets or (prepared.targets if prepared is not None else ())),
        of=prepared.of if prepared is not None else None,
        commands=[CommandScore(do=one.do, undo=one.undo) for one in prepared.commands] if prepared is not None else [],
        restored_by=(prepared.restored_by or None) if prepared is not None else None,
        injecting_at=since(at, fault.injecting),
        seen_injected_at=since(at, fault.seen),
        restoring_at=since(at, fault.restoring),
        seen_restored_at=since(at, back),
        gone_at=since(at, fault.back if fault.vanished else None),
        inject_seen_in=between(fault.injected, fault.seen),
        restore_seen_in=between(fault.restoring, fault.back),
        undone_by=fault.by or None,
        trouble=list(dict.fromkeys(fault.trouble)),
    )


def _budget(whole: Sequence[RunResult], plans: Mapping[str, Plan], regions: int, at: Marks) -> list[BudgetScore]:
    if at.injecting is None:
        return []
    return [
        BudgetScore(
            slo=one.objective.name,
            indicator=one.objective.indicator,
            target=one.objective.target,
            window_days=days(one.objective),
            good=one.good,
            bad=one.bad,
            inconclusive=one.inconclusive,
            spent=one.share,
        )
        for one in spending(whole, plans, regions, at.injecting, at.ended)
    ]


def _resolution(drill: Drill) -> list[str]:
    every = drill.traffic.starts.every / NS if drill.traffic.starts is not None else None
    return [
        "outage and reconnect: to the frame",
        "time without a picture: to the frame where an outage or a freeze was told, else to the second",
        "time to detect: as often as alerts and gates are asked; time to mitigate: as conditions were read, while it was broken "
        "over the last 10 s",
        "starts by phase and first frame again: " + (f"a run every {every:g} s" if every is not None else "no runs were started"),
    ]


def _health(results: Iterable[RunResult]) -> HealthScore:
    """Looks of all runs. Runs of one process look at the same machine, each for itself."""
    samples = [sample for result in results for sample in result.health]
    return HealthScore(
        samples=len(samples),
        tainted_samples=sum(bool(sample.taints) for sample in samples),
        taints=dict(Counter(taint for sample in samples for taint in sample.taints).most_common()),
        loop_lag_max=_most(samples, "loop_lag"),
        decode_backlog_max=_most(samples, "decode_backlog"),
        run_delay_max=_most(samples, "run_delay"),
        throttled_max=_most(samples, "throttled"),
        pressure_max=_most(samples, "pressure"),
    )


def _most(samples: Iterable[HealthSample], name: str) -> float | None:
    return max((value for sample in samples if (value := getattr(sample, name)) is not None), default=None)
