"""Journals: a drill of ours as Chaos Toolkit would tell it, and one of theirs as we judge it. Pure.

Theirs says `completed` and not deviated where the injected fault failed, so that nothing was proven, and where a rollback
failed, so that something may be left. Read here, the first is invalid and the second not restored, whatever exit code it had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from probe.drill.core.facts import Checked, Did, DrillBegan, DrillEnded, DrillFact, FaultDid, Verdict
from probe.drill.toolkit.writing import MODULE, NOT_RESTORED, WEAKNESS

_STATUS = {
    Verdict.PASS: "completed",
    Verdict.WEAKNESS: "completed",
    Verdict.INVALID: "failed",
    Verdict.INCONCLUSIVE: "failed",
    Verdict.NOT_RESTORED: "failed",
    Verdict.ABORTED: "aborted",
}
_MOST = 1000  # activities of a journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a journal comes to. `started`, `ended`: as it says, empty where it does not."""

    title: str
    verdict: Verdict
    reason: str
    started: str = ""
    ended: str = ""


def judged(journal: Mapping[str, Any]) -> Told:
    """A journal of theirs, or ours, by our rules. Raises ValueError where it is none."""
    experiment = journal.get("experiment")
    if not isinstance(experiment, Mapping) or "status" not in journal:
        raise ValueError("is no Chaos Toolkit journal: it has no experiment or no status")
    verdict, reason = _judged(journal)
    return Told(
        title=str(experiment.get("title", ""))[:200],
        verdict=verdict,
        reason=reason,
        started=str(journal.get("start", ""))[:40],
        ended=str(journal.get("end", ""))[:40],
    )


def _judged(journal: Mapping[str, Any]) -> tuple[Verdict, str]:
    status = journal.get("status")
    states = journal.get("steady_states")
    before, after = ((states.get(key) if isinstance(states, Mapping) else None) for key in ("before", "after"))
    rollbacks, runs = _runs(journal.get("rollbacks")), _runs(journal.get("run"))
    actions = [run for run in runs if _activity(run).get("type") == "action"]
    if failed := _failed(rollbacks):
        return Verdict.NOT_RESTORED, f"rollback {failed!r} failed; what it was to put back may still be broken"
    if isinstance(before, Mapping) and before.get("steady_state_met") is False:
        return Verdict.ABORTED, "the steady state was not met before anything was touched"
    if status in ("interrupted", "aborted"):
        if actions and not rollbacks:
            return Verdict.NOT_RESTORED, f"{status} after an action, and no rollback was run"
        return Verdict.ABORTED, str(status)
    if whole := next((run for run in actions if _ours(run) and run.get("status") != "succeeded"), None):
        return _of_ours(whole)
    if failed := _failed(actions):
        return Verdict.INVALID, f"action {failed!r} failed, so its fault was never there; the journal says {status}"
    if not actions:
        return Verdict.INVALID, "no action was run"
    seen = [run for run in runs if _ours(run) or (_activity(run).get("type") == "probe" and _met(run))]
    if journal.get("deviated"):
        return Verdict.WEAKNESS, "the steady state was not met again after the method"
    if not isinstance(after, Mapping) or after.get("steady_state_met") is not True:
        return Verdict.INCONCLUSIVE, "the steady state was not asked after the method"
    if not seen:
        return (
            Verdict.INVALID,
            "nothing in it shows that the fault was there: no probe of the method was held against a tolerance",
        )
    return Verdict.PASS, "the steady state was met before and after, and the fault was seen"


def journal(facts: Sequence[DrillFact], experiment: Mapping[str, Any]) -> dict[str, Any]:
    """A drill's facts as a journal of `experiment`. Raises ValueError where the drill never began or is not over."""
    began = next((fact for fact in facts if isinstance(fact, DrillBegan)), None)
    ended = next((fact for fact in facts if isinstance(fact, DrillEnded)), None)
    if began is None or ended is None:
        raise ValueError("is not the account of a whole drill: its beginning or its end is missing")

    def wall(at: int) -> str:
        return (datetime.fromtimestamp(began.wall_unix_ns / 1e9, UTC) + timedelta(microseconds=(at - began.at) / 1e3)).isoformat()

    steady = [fact for fact in facts if isinstance(fact, Checked) and fact.part == "steady"]
    injected = [fact.at for fact in facts if isinstance(fact, FaultDid) and fact.did is Did.INJECTING]
    states: dict[str, Any] = {
        "before": _state([fact for fact in steady if not injected or fact.at < injected[0]]),
        "after": _state([fact for fact in steady if injected and fact.at > injected[0]]),
        "during": [],
    }
    return {
        "chaoslib-version": "stream-probe " + began.probe_version,
        "experiment": dict(experiment),
        "start": wall(began.at),
        "status": _STATUS[ended.verdict],
        "deviated": ended.verdict is Verdict.WEAKNESS,
        "steady_states": states,
        "run": _activities(facts, wall, Did.INJECTING, Did.SEEN_INJECTED, "action"),
        "rollbacks": _activities(facts, wall, Did.RESTORING, Did.SEEN_RESTORED, "action"),
        "end": wall(ended.at),
        "duration": round((ended.at - began.at) / 1e9, 6),
        "stream-probe": {"verdict": str(ended.verdict), "reason": ended.reason},
    }


def _activities(facts: Sequence[DrillFact], wall: Any, begins: Did, ends: Did, kind: str) -> list[dict[str, Any]]:
    """Each fault from `begins` to what it came to. One that was never seen through has failed."""
    out = []
    for fact in facts:
        if not (isinstance(fact, FaultDid) and fact.did is begins):
            continue
        later = [f for f in facts if isinstance(f, FaultDid) and f.fault == fact.fault and f.at >= fact.at]
        end = next((f for f in later if f.did in (ends, Did.GONE, Did.FAILED)), None)
        run: dict[str, Any] = {
            "activity": {
                "type": kind,
                "name": fact.fault,
                "provider": {"type": "python", "module": "probe.drill", "func": fact.kind},
            },
            "start": wall(fact.at),
            "status": "succeeded" if end is not None and end.did is not Did.FAILED else "failed",
            "output": end.detail if end is not None else "never observed",
        }
        if end is not None:
            run |= {"end": wall(end.at), "duration": round((end.at - fact.at) / 1e9, 6)}
            if ends is Did.SEEN_INJECTED and end.did is ends:
                run["tolerance_met"] = True
        out.append(run)
    return out


def _state(checks: Sequence[Checked]) -> dict[str, Any] | None:
    """The last word on each condition."""
    last = {(fact.condition, fact.region): fact for fact in checks}
    if not last:
        return None
    probes = [
        {
            "activity": {"type": "probe", "name": fact.condition, "tolerance": True},
            "status": "succeeded" if fact.met is not None else "failed",
            "output": fact.value,
            "tolerance_met": fact.met is True,
        }
        for fact in last.values()
    ]
    return {"steady_state_met": all(fact.met is True for fact in last.values()), "probes": probes}


def _runs(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value[:_MOST] if isinstance(one, Mapping)] if isinstance(value, list) else []


def _activity(run: Mapping[str, Any]) -> Mapping[str, Any]:
    activity = run.get("activity")
    return activity if isinstance(activity, Mapping) else {}


def _ours(run: Mapping[str, Any]) -> bool:
    """A whole drill of ours was this action, and it passed: it fails for every other verdict."""
    provider = _activity(run).get("provider")
    return isinstance(provider, Mapping) and provider.get("module") == MODULE and provider.get("func") == "run"


def _of_ours(run: Mapping[str, Any]) -> tuple[Verdict, str]:
    """The verdict of a drill that did not pass, from the words it failed with."""
    raised = run.get("exception")
    said = " ".join("".join(one for one in raised if isinstance(one, str)).split()) if isinstance(raised, list) else ""
    for words, verdict in ((NOT_RESTORED, Verdict.NOT_RESTORED), (WEAKNESS, Verdict.WEAKNESS)):
        if f": {words}: " in said:
            return verdict, said[:200]
    return Verdict.INCONCLUSIVE, said[:200] or "the drill did not pass, and does not say why"


def _met(run: Mapping[str, Any]) -> bool:
    """Whether a probe was within its tolerance; their runner asks that in the hypothesis only. What needs more than a
    comparison is not taken for seen."""
    if run.get("tolerance_met") is not None:
        return run["tolerance_met"] is True
    tolerance, output = _activity(run).get("tolerance"), run.get("output")
    value = output.get("status") if isinstance(output, Mapping) else output
    if isinstance(tolerance, list):
        return value in tolerance
    return tolerance is not None and not isinstance(tolerance, Mapping) and value == tolerance


def _failed(runs: Sequence[Mapping[str, Any]]) -> str:
    """The name of the first that did not do its work. The toolkit calls an HTTP 500 and an exit code of 1 succeeded."""
    for run in runs:
        output = run.get("output")
        status = output.get("status") if isinstance(output, Mapping) else None
        refused = isinstance(status, int) and (
            status != 0 if isinstance(output, Mapping) and "stdout" in output else status >= 400
        )
        if run.get("status") != "succeeded" or refused:
            return str(_activity(run).get("name", "?"))[:100]
    return ""
