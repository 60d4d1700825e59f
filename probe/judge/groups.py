"""Checks on sessions, by step × protocol (× broadcast): did they start, stay, sound, come back?

Each group needs at least one untainted outcome. Told as if everything mattered: what an optional group's failure is worth is
for whoever reads them to say (`softened`). The grid's cells are judged by the same functions, so that a cell and the checks of
its viewers cannot disagree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from probe.judge.fold import came_back
from probe.judge.sums import crash_taints, ended_unplanned, heard_sound, interruptions, left_open, sums
from probe.model.clock import NS
from probe.model.observation import Role
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Outcome, Skipped
from probe.model.verdict import Check, CutResult, RunResult, SessionResult, Verdict, worst


@dataclass(frozen=True, slots=True)
class Group:
    step: str
    protocol: str
    of: str  # whose broadcast, where there are several
    sessions: tuple[SessionResult, ...]

    @property
    def name(self) -> str:
        return f"{self.step}/{self.protocol}" + (f" of {self.of}" if self.of else "")

    @property
    def optional(self) -> bool:
        return self.sessions[0].optional


def groups(sessions: Sequence[SessionResult]) -> list[Group]:
    """Optional viewers of a protocol are a group of their own: they must not stand in for those that are not."""
    several = len({s.of for s in sessions if s.role is Role.VIEWER}) > 1

    def key(session: SessionResult) -> tuple[str, str, str, bool]:
        of = session.of if several and session.role is Role.VIEWER else ""
        return session.step, session.protocol, of, session.optional

    keys = dict.fromkeys(key(s) for s in sessions)
    return [Group(*named[:3], tuple(s for s in sessions if key(s) == named)) for named in keys]


def checks_of(result: RunResult, group: Group) -> list[Check]:
    """Every check on a group of `result`, not softened."""
    return [_start(group), *_stays(result, group), *_sound(result, group), *_cuts(group)]


def softened(verdict: Verdict, optional: bool) -> Verdict:
    """What is optional fails nothing: its failure is a warning, its absence nothing at all."""
    if not optional:
        return verdict
    return Verdict.WARN if verdict is Verdict.FAIL else Verdict.PASS


def _start(group: Group) -> Check:
    found = sums(group.sessions)
    told = [worth(s.outcome, bool(s.taints), s.taints) for s in group.sessions]
    verdict = worst([v for v, _, _ in told])
    reasons = Counter((reason, phase) for v, reason, phase in told if v is verdict and reason)
    if verdict is Verdict.PASS and not found.measured and group.sessions[0].role is Role.VIEWER:
        # A publisher that started while the probe was unwell is proven by whoever saw it.
        verdict = Verdict.INCONCLUSIVE
        reasons = Counter({("no untainted outcome", ""): 1})
    (reason, phase), count = reasons.most_common(1)[0] if reasons else (("", ""), 0)
    return Check(
        name=f"start {group.name}",
        subject=group.step,
        result=verdict,
        value=found.ratio,
        unit="ratio",
        threshold=">= 100%",
        n=found.measured,
        min_n=1,
        reason=f"{count} of {len(group.sessions)}: {reason}" if len(group.sessions) > 1 and reason else reason,
        phase=phase,
    )


def _stays(result: RunResult, group: Group) -> list[Check]:
    """One check on how the sessions that started ended; none where none did."""
    started = [s for s in group.sessions if s.started is not None and isinstance(s.outcome, Done)]
    if not started:
        return []
    bad = [(s, crash_taints(result, s)) for s in started if ended_unplanned(s)]
    clean = [s for s, taints in bad if not taints]
    healed = [cut for s in started for cut in interruptions(s) if not cut.taints]
    away = [cut for s in started for cut in left_open(s) if not cut.taints]
    n = sum(1 for s in started if s.ended is not None) - (len(bad) - len(clean))
    if clean:
        why = Counter(f"{s.ended_by.phase}/{s.ended_by.reason}" if s.ended_by else "ended" for s in clean).most_common(1)[0][0]
        verdict, reason = Verdict.FAIL, f"{len(clean)} of {len(started)} ended unplanned: {why}"
    elif bad:
        taints = ", ".join(sorted(frozenset().union(*(taints for _, taints in bad))))
        verdict = Verdict.INCONCLUSIVE
        reason = f"{len(bad)} of {len(started)} ended unplanned, while the probe was unwell ({taints})"
    elif any(s.ended is None for s in started):
        verdict, reason = Verdict.INCONCLUSIVE, "still playing when the record ends"
    elif away or healed:
        verdict = Verdict.WARN
        reason = "; ".join(
            [f"{len(away)} of {len(started)} were ended with the picture away, for {_longest(away):.3g} s by then"] * bool(away)
            + [f"interrupted {len(healed)} times, and came back"] * bool(healed)
        )
    else:
        verdict, reason = Verdict.PASS, ""
    return [
        Check(
            name=f"stay {group.name}",
            subject=group.step,
            result=verdict,
            value=(n - len(clean)) / n if n else None,
            unit="ratio",
            threshold=">= 100%",
            n=n,
            reason=reason,
            phase=_phase(clean),
        )
    ]


def _sound(result: RunResult, group: Group) -> list[Check]:
    """One check on who heard the sound marks; none where none were sent or too little was watched."""
    told = [heard for s in group.sessions if (heard := heard_sound(result, s)) is not None]
    if not told:
        return []
    silent = told.count(False)
    return [
        Check(
            name=f"sound {group.name}",
            subject=group.step,
            result=Verdict.WARN if silent else Verdict.PASS,
            value=told.count(True) / len(told),
            unit="ratio",
            threshold=">= 100%",
            n=len(told),
            reason=f"{silent} of {len(told)} saw the picture and heard no sound" if silent else "",
        )
    ]


def _longest(cuts: Sequence[CutResult]) -> float:
    return max((cut.so_far or 0 for cut in cuts), default=0) / NS


def _phase(sessions: Sequence[SessionResult]) -> str:
    return next((s.ended_by.phase.value for s in sessions if s.ended_by is not None), "")


def _cuts(group: Group) -> list[Check]:
    """One check per cut: did everybody come back?"""
    steps = dict.fromkeys(cut.step for s in group.sessions for cut in s.cuts if cut.step)
    return [_cut(group, step) for step in steps]


def _cut(group: Group, step: str) -> Check:
    cuts = [cut for s in group.sessions for cut in s.cuts if cut.step == step]
    measured = [back for cut in cuts if not cut.taints and (back := came_back(cut)) is not None]
    failed = [cut for cut in cuts if came_back(cut) is False]
    clean = [cut for cut in failed if not cut.taints]
    untold = [cut for cut in cuts if cut.outcome is None]
    failure = next((cut.failure for cut in clean or failed if cut.failure is not None), None)
    why = f": {failure.phase}/{failure.reason}" if failure is not None else ""
    if clean:
        verdict, reason = Verdict.FAIL, f"{len(clean)} of {len(cuts)} did not come back{why}"
    elif failed:
        taints = sorted(frozenset().union(*(cut.taints for cut in failed)))
        verdict = Verdict.INCONCLUSIVE
        reason = f"{len(failed)} of {len(cuts)} did not come back{why}, while the probe was unwell ({', '.join(taints)})"
    elif untold:
        verdict, reason = Verdict.INCONCLUSIVE, f"{len(untold)} of {len(cuts)} had not come back when the record ends"
    elif not measured and group.sessions[0].role is Role.VIEWER:
        verdict, reason = Verdict.INCONCLUSIVE, "no untainted outcome"
    else:  # a publisher that came back while the probe was unwell is proven by whoever saw it, as its start is
        verdict, reason = Verdict.PASS, ""
    return Check(
        name=f"reconnect {step} {group.name}",
        subject=step,
        result=verdict,
        value=sum(measured) / len(measured) if measured else None,
        unit="ratio",
        threshold=">= 100%",
        n=len(measured),
        min_n=1,
        reason=reason,
        phase=failure.phase.value if failure is not None else "",
    )


# -- one outcome


def worth(outcome: Outcome | None, tainted: bool, taints: frozenset[str]) -> tuple[Verdict, str, str]:
    """What one outcome is worth: verdict, reason, phase."""
    match outcome:
        case Done():
            return Verdict.PASS, "", ""
        case Failed(phase, reason, detail):
            words = f"{phase}/{reason}" + (f": {detail}" if detail else "")
            if tainted:
                return Verdict.INCONCLUSIVE, f"{words}, while the probe was unwell ({', '.join(sorted(taints))})", phase.value
            return Verdict.FAIL, words, phase.value
        case Skipped(reason, detail):
            return Verdict.INCONCLUSIVE, f"skipped: {reason}" + (f": {detail}" if detail else ""), ""
        case Cancelled():
            return Verdict.INCONCLUSIVE, "cancelled", ""
        case Aborted(detail):
            return Verdict.INCONCLUSIVE, f"aborted: {detail}" if detail else "aborted", ""
        case None:
            return Verdict.INCONCLUSIVE, "still in flight when the record ends", ""
