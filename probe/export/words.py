"""Results in a person's words, shared by report and terminal so that both say the same.

What a server sent may stand in any of them: `printable` takes control characters out (a terminal obeys them), and each
rendering escapes for its own medium.
"""

from __future__ import annotations

from probe.export.figures import outcome_name, phase_reason
from probe.export.results import Evaluation
from probe.model.clock import NS
from probe.model.observation import CutOutcome, Role
from probe.model.outcome import Outcome
from probe.model.verdict import Check, CutResult, SessionResult, Verdict

DECISION = {Verdict.PASS: "go", Verdict.WARN: "go", Verdict.FAIL: "no-go", Verdict.INCONCLUSIVE: "inconclusive"}
_LONGEST = 300


def printable(text: str, limit: int = _LONGEST) -> str:
    """One line without control characters, at most `limit` long."""
    line = "".join(c if c.isprintable() else " " if c in "\t\r\n" else "�" for c in text)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def duration(ns: float | None) -> str:
    """`38 ms`, `1.45 s`, `2 min 5 s`; `–` where it was not measured."""
    if ns is None:
        return "–"
    ms = ns / 1e6
    if ms == 0:
        return "0 s"
    if ms < 10:
        return f"{ms:.1f} ms"
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 100_000:
        return f"{ms / 1000:.2f} s"
    return f"{ms / 60_000:.0f} min {ms / 1000 % 60:.0f} s"


def tick(ns: float) -> str:
    """A round value on an axis: `0`, `200 ms`, `5 s`."""
    if ns == 0:
        return "0"
    return f"{ns / 1e6:g} ms" if ns < NS else f"{ns / NS:g} s"


def in_seconds(value: float | None) -> str:
    return duration(None if value is None else value * NS)


def what_happened(outcome: Outcome | None) -> str:
    """`done`, `failed: ice/timeout`, `skipped: unsupported`; the detail stands elsewhere."""
    phase, reason, _ = phase_reason(outcome)
    where = "/".join(filter(None, (phase, reason)))
    name = outcome_name(outcome).replace("_", " ")
    return f"{name}: {where}" if where else name


def how_it_came_back(cut: CutResult) -> str:
    if cut.outcome is None:
        return "not told"
    if cut.outcome is CutOutcome.FAILED and cut.failure:
        return f"failed: {cut.failure.phase.value}/{cut.failure.reason}"
    if cut.outcome is CutOutcome.OPEN:
        return f"still away after {duration(cut.so_far)}"
    return cut.outcome.value


def measured(check: Check) -> str:
    """The value with its unit: `80 %`, `310 ms`, `3`; `–` where there was none."""
    if check.value is None:
        return "–"
    match check.unit:
        case "ratio":
            return f"{check.value * 100:.4g} %"
        case "seconds":
            return in_seconds(check.value)
        case _:
            return f"{check.value:g} {check.unit}".strip()


def why(check: Check) -> str:
    """What is to be said of a check that did not pass."""
    return check.reason or check.subject or check.name


def reason_of(evaluation: Evaluation) -> str:
    """Why the verdict is what it is, in one sentence, with how many of how many attempts say so."""
    if (cause := evaluation.cause) is not None:
        share = f"{cause.count} of {cause.of}"
        return cause.words if cause.of is None or share in cause.words else f"{cause.words} ({share} attempts)"
    if evaluation.verdict is Verdict.PASS:
        return f"every check passed ({len(evaluation.checks)} of {len(evaluation.checks)})"
    bad = [check for check in evaluation.checks if check.result is evaluation.verdict]
    if not bad:
        return "nothing could be judged"
    more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
    return why(bad[0]) + more


def well(session: SessionResult) -> bool:
    """It started, came back from every cut, and did not crash."""
    lost = any(cut.outcome in (CutOutcome.FAILED, CutOutcome.OPEN) for cut in session.cuts)
    return session.outcome is not None and session.outcome.kind == "done" and session.ending != "crashed" and not lost


def tally(evaluation: Evaluation) -> str:
    """`4 of 5 viewers and 1 of 1 publishers well`."""
    sessions = [s for run in evaluation.runs for s in run.result.sessions]
    parts = []
    for role in (Role.VIEWER, Role.PUBLISHER):
        alike = [s for s in sessions if s.role is role]
        if alike:
            parts.append(f"{sum(well(s) for s in alike)} of {len(alike)} {role.value}{'s' if len(alike) > 1 else ''}")
    return " and ".join(parts) + " well" if parts else "no sessions"
