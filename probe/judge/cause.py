"""The common factor of what failed, in words and as fields.

A cell is an attempt, a cut of it or its crash, with attributes (role, protocol, region, edge, service, cut). Among the
attributes that *all* failing cells share, those are chosen, one after another, that leave out most of what went well, until
leaving out more is not possible: "of WHEP viewers all 3 failed, HLS was fine" names whep; when everything failed nothing needs
naming. Phase and reason are told where they are the same for all, else the most frequent are. Where failing cells share nothing
that sets them apart the largest kind of failure is told, with its count: no cleverness beyond that.
"3 of 5" counts attempts: a
viewer that started well and crashed later is two cells and one viewer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from probe.judge.indicators import edge_requests
from probe.judge.sums import UNPLANNED, crash_taints, ended_unplanned, failure_of, heard_sound
from probe.model.observation import CutOutcome
from probe.model.outcome import Aborted, Cancelled, Failed, Skipped
from probe.model.stage import Phase
from probe.model.verdict import RunResult, SessionResult, StepResult

ATTRIBUTES = ("region", "edge", "protocol", "ingest", "role", "device", "service", "cut")
_SESSION_KINDS = frozenset({"publish", "view"})
_SILENCE = Failed(Phase.PLAYING, "frozen", "no sound")  # only that it is one counts


@dataclass(frozen=True, slots=True)
class Cause:
    """`fields`: some of region, edge, protocol, ingest, role, device, service, cut, phase, reason, taint, sound. Of the `of`
    attempts that share what sets the bad ones apart `count` were bad; None: it is no common factor of attempts."""

    words: str
    fields: dict[str, str] = field(default_factory=dict)
    count: int | None = None
    of: int | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One attempt: what it was, and the failure it came to (None: it went well). An attribute may have several values."""

    attributes: dict[str, frozenset[str]]
    failure: Failed | None
    optional: bool = False
    who: tuple[str, str] = ("", "")  # the attempt it is of: run, session or step

    def has(self, name: str, value: str) -> bool:
        return value in self.attributes.get(name, ())


def cells(result: RunResult) -> list[Cell]:
    """Every untainted attempt of a run that was done or failed: steps of services, starts, cuts, and stays that crashed."""
    out = []
    for step in result.steps:
        failure = failure_of(step.outcome)
        if (
            step.kind in _SESSION_KINDS
            or step.taints
            or (failure is None and (step.outcome is None or step.outcome.kind != "done"))
        ):
            continue
        out.append(
            Cell(_known(region=result.began.region, service=step.service, cut=""), failure, step.optional, _who(result, step))
        )
    for session in result.sessions:
        out.extend(_of_session(result, session))
    return out


def _of_session(result: RunResult, session: SessionResult) -> list[Cell]:
    about, who = _about(session), _who(result, session)
    out = []
    failure = failure_of(session.outcome)
    if session.started is not None or (failure is not None and not session.taints):
        out.append(Cell({**about, "edge": _edges(session, failed=failure is not None)}, failure, session.optional, who))
    for cut in session.cuts:
        if cut.kind != UNPLANNED and cut.outcome is not None and not cut.taints:
            failed = cut.failure if cut.outcome is CutOutcome.FAILED else None
            out.append(Cell({**about, "cut": frozenset({cut.kind})}, failed, session.optional, who))
    if ended_unplanned(session) and session.ended_by is not None and not crash_taints(result, session):
        edge = _edges(session, failed=True)
        out.append(Cell({**about, "edge": edge}, session.ended_by, session.optional, who))
    return out


def _who(result: RunResult, what: SessionResult | StepResult) -> tuple[str, str]:
    return result.began.run, what.session if isinstance(what, SessionResult) else f"step {what.step}"


def _about(session: SessionResult) -> dict[str, frozenset[str]]:
    device = session.device if session.device != "default" else ""
    return _known(region=session.region, protocol=session.protocol, role=session.role.value, ingest=session.ingest, device=device)


def _known(**values: str) -> dict[str, frozenset[str]]:
    return {name: frozenset({value}) for name, value in values.items() if value}


def _edges(session: SessionResult, *, failed: bool) -> frozenset[str]:
    """Edges that answered badly, where it failed and any did; else all that answered, or the one address it was bound to."""
    requests = [r for r in edge_requests(session) if r.edge]
    bad = frozenset(r.edge for r in requests if r.failure is not None or r.status >= 400)
    bound = frozenset(filter(None, [session.facts.get("address")]))
    return bad if failed and bad else frozenset(r.edge for r in requests) or bound


def common_cause(results: Sequence[RunResult], *, optional: bool = False) -> Cause | None:
    """What the untainted failures have in common; None where there are none. `optional`: of optional ones alone."""
    everything = [cell for result in results for cell in cells(result)]
    failing = [c for c in everything if c.failure is not None and c.optional == optional]
    if not failing:
        return None
    fields = _common(everything, failing)
    phases = Counter(c.failure.phase.value for c in failing if c.failure is not None)
    pairs = Counter((c.failure.phase.value, c.failure.reason) for c in failing if c.failure is not None)
    (phase, reason), most = max(pairs.items(), key=lambda item: item[1])
    count, of = _attempts(failing), _attempts(_matching(everything, fields))
    words = f"{count} of {of} {_subject(fields)} failed"
    if len(pairs) == 1:
        fields |= {"phase": phase, "reason": reason}
        words += f": {phase}/{reason}"
        details = {c.failure.detail for c in failing if c.failure is not None and c.failure.detail}
        if len(details) == 1:
            words += f" ({details.pop()})"
    else:
        if len(phases) == 1:
            fields["phase"] = phase
        words += f", most often ({most}) {phase}/{reason}"
    return Cause(words, fields, count, of)


def silent_cause(results: Sequence[RunResult]) -> Cause | None:
    """What the viewers that saw but did not hear have in common; None where everybody heard. Of optional ones nobody asks."""
    everything = [
        Cell({**_about(s), "edge": _edges(s, failed=False)}, None if heard else _SILENCE, who=_who(result, s))
        for result in results
        for s in result.sessions
        if not s.optional and (heard := heard_sound(result, s)) is not None
    ]
    failing = [cell for cell in everything if cell.failure is not None]
    if not failing:
        return None
    fields = _common(everything, failing)
    count, of = _attempts(failing), _attempts(_matching(everything, fields))
    words = f"{count} of {of} {_subject(fields)} saw the picture and heard no sound"
    return Cause(words, {**fields, "sound": "none"}, count, of)


def _common(everything: list[Cell], failing: list[Cell]) -> dict[str, str]:
    """The attributes that set what failed apart, and who it was."""
    fields = _set_apart(everything, failing)
    shared = {name: found for name in ATTRIBUTES if len(found := _shared(failing, name)) == 1}
    # Who it was is told even where it sets nothing apart: "whep viewers", "auth steps".
    named = ("role",) if {"protocol", "ingest"} & fields.keys() else ("service", "protocol", "role") if not fields else ()
    return fields | {name: next(iter(shared[name])) for name in named if name in shared}


def _matching(everything: list[Cell], fields: dict[str, str]) -> list[Cell]:
    return [c for c in everything if all(c.has(k, v) for k, v in fields.items())]


def _attempts(cells: list[Cell]) -> int:
    return len({c.who for c in cells})


def _shared(failing: list[Cell], name: str) -> frozenset[str]:
    return frozenset.intersection(*(c.attributes.get(name, frozenset()) for c in failing))


def _set_apart(everything: list[Cell], failing: list[Cell]) -> dict[str, str]:
    """Attributes that all failing cells share, as many as are needed to leave out what went well."""
    fields: dict[str, str] = {}
    matching = everything
    while len(matching) > len(failing):
        best: tuple[int, str, str] | None = None
        for name in ATTRIBUTES:
            for value in sorted(_shared(failing, name)):
                left = sum(1 for c in matching if c.has(name, value))
                if left < len(matching) and (best is None or left < best[0]):
                    best = (left, name, value)
        if best is None:
            break
        fields[best[1]] = best[2]
        matching = [c for c in matching if c.has(best[1], best[2])]
    return fields


def _subject(fields: dict[str, str]) -> str:
    """`whep viewers of what rtmp published in eu at edge-b after a rebind`."""
    who = f"{fields['role']}s" if "role" in fields else "sessions" if "protocol" in fields else "attempts"
    words = [fields[name] for name in ("protocol", "service") if name in fields]
    words.append("steps" if "service" in fields and "role" not in fields else who)
    if "ingest" in fields and fields.get("role") == "viewer":
        words.append(f"of what {fields['ingest']} published")
    elif "ingest" in fields and "protocol" not in fields:
        words.append(f"of {fields['ingest']}")
    for name, before in (("device", "on"), ("region", "in"), ("edge", "at"), ("cut", "after a")):
        if name in fields:
            words.append(f"{before} {fields[name]}")
    return " ".join(words)


def why_inconclusive(results: Sequence[RunResult]) -> Cause | None:
    """What kept an answer away: the run's own end, the probe's health, or what could not be supported."""
    for result in results:
        match result.outcome:
            case None:
                return Cause("the record ends before the run did")
            case Cancelled():
                return Cause("the run was cancelled")
            case Aborted(detail):
                return Cause(f"the probe gave up: {detail}" if detail else "the probe gave up")
            case _:
                pass
    told: list[SessionResult | StepResult] = [s for r in results for s in r.sessions]
    told += [s for r in results for s in r.steps]
    outcomes = [(x.outcome, x.taints) for x in told]
    for outcome, _ in outcomes:
        if isinstance(outcome, Aborted):
            return Cause(f"the probe itself broke: {outcome.detail}" if outcome.detail else "the probe itself broke")
    taints = Counter(t for outcome, found in outcomes if isinstance(outcome, Failed) for t in found)
    taints.update(t for r in results for s in r.sessions for c in s.cuts if c.outcome is CutOutcome.FAILED for t in c.taints)
    if taints:
        taint = max(sorted(taints), key=lambda name: taints[name])
        return Cause(f"the probe was unwell ({', '.join(sorted(taints))}) while attempts failed", {"taint": taint})
    skipped = [o for o, _ in outcomes if isinstance(o, Skipped) and o.reason != "not_reached"]
    if skipped:
        first = skipped[0]
        return Cause(f"{first.reason}: {first.detail}" if first.detail else first.reason, {"reason": first.reason})
    return None
