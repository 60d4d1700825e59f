"""Starts, messages, gifts and payments of a drill's runs, by what they met: before, meanwhile or after the faults. Pure.

Of whole runs that began every few seconds. A start belongs to the phase in which it was over (before anything was touched) or
begun (after all was back); what met the fault at all is meanwhile. A step is told by its own time, not its run's: a room that
opened before may lose its gift meanwhile.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from probe.drill.core.cohorts import Cohort
from probe.drill.core.marks import Marks
from probe.drill.core.score import AgainScore, LossScore, RoomScore, Spread, StartScore, When
from probe.export.figures import spread
from probe.judge.indicators import room_start
from probe.model.clock import NS
from probe.model.observation import Role
from probe.model.outcome import Done, Failed
from probe.model.verdict import RunResult, SessionResult, StepResult

KEPT = 400  # samples of a distribution
_ORDER: tuple[When, ...] = ("before", "meanwhile", "after")
_SERVICES = ("chat", "gift", "payment")
_TWICE = frozenset({"counted_twice", "charged_twice"})
_UNCOUNTED = frozenset({"not_counted", "not_charged"})


def spread_of(seconds: Iterable[float]) -> Spread | None:
    """Landmarks and samples; None of nothing. Above KEPT samples every one at equal ranks, so that the largest stays."""
    ordered = sorted(seconds)
    found = spread(ordered)
    if found is None:
        return None
    count = len(ordered)
    kept = ordered if count <= KEPT else [ordered[count * (i + 1) // KEPT - 1] for i in range(KEPT)]
    return Spread(n=found.n, p50=_us(found.p50), p95=_us(found.p95), max=_us(found.max), samples=[_us(value) for value in kept])


def _us(value: float) -> float:
    return round(value, 6)


def starts(results: Iterable[RunResult], marks: Marks, meant: Callable[[Cohort], bool]) -> list[StartScore]:
    """Viewers' starts by phase and cohort."""
    found: defaultdict[tuple[When, Cohort], list[SessionResult]] = defaultdict(list)
    for result in results:
        for session in result.sessions:
            if session.role is Role.VIEWER:
                found[marks.when(session.began, _decided(session, marks)), Cohort.of(session)].append(session)
    return [_start(when, cohort, found[when, cohort], meant(cohort)) for when, cohort in sorted(found, key=_key)]


def _key(one: tuple[When, Cohort]) -> tuple[Cohort, int]:
    return one[1], _ORDER.index(one[0])


def _decided(session: SessionResult, marks: Marks) -> int:
    """When it was known how the start went."""
    known = session.started if session.started is not None else session.ended
    return known if known is not None else marks.ended


def _start(when: When, cohort: Cohort, sessions: Sequence[SessionResult], meant: bool) -> StartScore:
    clean = [s for s in sessions if not s.taints]
    failed = [s.outcome for s in clean if isinstance(s.outcome, Failed)]
    done = [s for s in clean if isinstance(s.outcome, Done) or (s.outcome is None and s.started is not None)]
    tainted = len(sessions) - len(clean)
    return StartScore(
        when=when,
        region=cohort.region,
        protocol=cohort.protocol,
        device=cohort.device,
        ingest=cohort.ingest or None,
        meant=meant,
        done=len(done),
        failed=len(failed),
        tainted=tainted,
        other=len(clean) - len(done) - len(failed),
        first_frame=spread_of(s.took / NS for s in done if s.took is not None),
        reasons=dict(Counter(f"{one.phase}/{one.reason}" for one in failed).most_common()),
    )


def rooms(results: Iterable[RunResult], marks: Marks) -> list[RoomScore]:
    """Room starts by phase and viewing region."""
    found: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for result in results:
        outcome, taints = room_start(result)
        known = [s.started for s in result.sessions if s.role is Role.VIEWER and s.started is not None]
        ended = min(known) if isinstance(outcome, Done) and known else result.ended if result.ended is not None else marks.ended
        when = marks.when(result.began.at, ended)
        kind = "other"
        if isinstance(outcome, Done | Failed):
            kind = "tainted" if taints else outcome.kind
        found[result.began.region, _ORDER.index(when)][kind] += 1
    return [
        RoomScore(
            when=_ORDER[when], region=region, done=of["done"], failed=of["failed"], tainted=of["tainted"], other=of["other"]
        )
        for (region, when), of in sorted(found.items())
    ]


def again(results: Sequence[RunResult], marks: Marks) -> list[AgainScore]:
    """By region and protocol where a start failed meanwhile: the first start to succeed that was not over before the restore."""
    if marks.restored is None:
        return []
    viewers = [s for r in results for s in r.sessions if s.role is Role.VIEWER and not s.taints]
    stopped = {
        (s.region, s.protocol)
        for s in viewers
        if isinstance(s.outcome, Failed) and marks.when(s.began, _decided(s, marks)) == "meanwhile"
    }
    out = []
    for region, protocol in sorted(stopped):
        back = [
            s.started
            for s in viewers
            if (s.region, s.protocol) == (region, protocol) and s.started is not None and s.started > marks.restored
        ]
        if back:
            out.append(AgainScore(region=region, protocol=protocol, took=_us((min(back) - marks.restored) / NS)))
    return out


def losses(results: Iterable[RunResult], marks: Marks) -> list[LossScore]:
    """What was sent and lost, or taken twice, by phase, service and region; no line where no step was reached."""
    found: defaultdict[tuple[str, str, int], list[StepResult]] = defaultdict(list)
    for result in results:
        for step in result.steps:
            if step.service in _SERVICES and isinstance(step.outcome, Done | Failed):
                ended = step.began + (step.took or 0)
                when = _ORDER.index(marks.when(step.began, ended))
                found[step.service, result.began.region, when].append(step)
    return [_loss(*key, steps) for key, steps in sorted(found.items())]


def _loss(service: str, region: str, when: int, steps: Sequence[StepResult]) -> LossScore:
    clean = [step.outcome for step in steps if not step.taints]
    reasons = [outcome.reason for outcome in clean if isinstance(outcome, Failed)]

    def of(names: Collection[str]) -> int:
        return sum(reason in names for reason in reasons)

    unseen, twice, uncounted = of({"not_seen"}), of(_TWICE), of(_UNCOUNTED)
    return LossScore(
        when=_ORDER[when],
        service=service,
        region=region,
        done=len(clean) - len(reasons),
        never_seen=unseen,
        twice=twice,
        not_counted=uncounted,
        failed=len(reasons) - unseen - twice - uncounted,
        tainted=len(steps) - len(clean),
    )
