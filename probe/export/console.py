"""What a terminal and a CI log show. Nothing is printed here: strings and renderables are handed to the command line.

Markup is never parsed from data (rich would obey `[red]` in a server's answer): cells are `Text`.
"""

from __future__ import annotations

from typing import Protocol

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from probe.export import figures
from probe.export.compared_words import headline, ranked, words_of
from probe.export.figures import Redact, phase_reason
from probe.export.grid import grid_text
from probe.export.results import Evaluation, JudgedRun
from probe.export.words import (
    DECISION,
    duration,
    how_it_came_back,
    in_seconds,
    measured,
    printable,
    reason_of,
    tally,
    well,
    what_happened,
    why,
)
from probe.model.comparison import Change
from probe.model.observation import Role
from probe.model.outcome import Failed
from probe.model.verdict import Check, SessionResult, Verdict

_STYLE = {Verdict.PASS: "bold green", Verdict.WARN: "bold yellow", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "bold magenta"}
_CHANGE = {Change.WORSE: "red", Change.CANNOT_TELL: "yellow", Change.BETTER: "green"}
MANY = 50
_MOST_COMPARED = 8


def verdict_line(evaluation: Evaluation, redact: Redact) -> str:
    """`no-go (fail): a viewer on hls saw only black; 3 of 5 viewers and 1 of 1 publisher well`."""
    words = f"{DECISION[evaluation.verdict]} ({evaluation.verdict.value}): {reason_of(evaluation)}; {tally(evaluation)}"
    return printable(redact(words))


def plain_lines(evaluation: Evaluation, redact: Redact) -> list[str]:
    """One fact a line, for logs: steps, sessions, checks that did not pass, the verdict last."""
    lines: list[str] = []
    for run in evaluation.runs:
        began = run.result.began
        lines.append(
            f"run {began.run} scenario={began.scenario} region={began.region} trace={began.trace_id} verdict={run.verdict.value}"
        )
        lines += [f"  {line}" for line in grid_text(run.matrix)]
        for step in run.result.steps:
            detail = _detail(phase_reason(step.outcome)[2])
            lines.append(f"  step {step.step}: {what_happened(step.outcome)} in {duration(step.took)}{detail}")
        for session in _shown(run):
            lines.append(f"  {session.role.value} {session.name} {session.protocol}: {', '.join(_session_words(session))}")
        hidden = len(run.result.sessions) - len(_shown(run))
        if hidden:
            lines.append(f"  and {hidden} more sessions, all well")
        lines += [
            f"  check {check.name}: {check.result.value}: {why(check)}{_wanted(check)}"
            for check in run.checks
            if check.result is not Verdict.PASS
        ]
    lines += _compared(evaluation)
    return [*(printable(redact(line)) for line in lines), verdict_line(evaluation, redact)]


def summary(evaluation: Evaluation, redact: Redact) -> RenderableType:
    """The table for a terminal, and the verdict under it."""

    def text(value: str, style: str = "") -> Text:
        return Text(printable(redact(value)), style=style)

    parts: list[RenderableType] = []
    for run in evaluation.runs:
        parts += [*(text(line) for line in grid_text(run.matrix)), _sessions(run, text)]
        steps = [step for step in run.result.steps if not (step.outcome and step.outcome.kind == "done")]
        for step in steps:
            style = "red" if isinstance(step.outcome, Failed) else "dim"
            parts.append(text(f"step {step.step}: {what_happened(step.outcome)}{_detail(phase_reason(step.outcome)[2])}", style))
        for check in run.checks:
            if check.result is not Verdict.PASS:
                parts.append(text(f"{check.result.value}: {why(check)}{_wanted(check)}", _STYLE[check.result]))
        if run.result.taints:
            parts.append(text(f"the probe was unwell: {', '.join(sorted(run.result.taints))}", "magenta"))
        parts.append(text(f"trace {run.result.began.trace_id}", "dim"))
    parts += [text(line, _CHANGE.get(evaluation.comparison.found.change, "") if evaluation.comparison else "")
              for line in _compared(evaluation)]  # fmt: skip
    line = Text(DECISION[evaluation.verdict].upper(), style=_STYLE[evaluation.verdict])
    line.append(f"  {printable(redact(reason_of(evaluation)))}; {tally(evaluation)}", style="default")
    return Group(*parts, line)


def _compared(evaluation: Evaluation) -> list[str]:
    """The whole of the comparison, and each indicator that is worse, looks so or is better; the report has the rest."""
    if evaluation.comparison is None:
        return []
    found = evaluation.comparison.found
    told = [one for one in ranked(found) if one.suspicious or one.change in (Change.WORSE, Change.BETTER)]
    told = told[1:] if found.change in (Change.WORSE, Change.CANNOT_TELL) else told  # the headline says the first
    lines = [f"compared: {headline(found)}", *(f"  {words_of(one, found)}" for one in told[:_MOST_COMPARED])]
    hidden = len(told) - _MOST_COMPARED
    return [*lines, *([f"  and {hidden} more"] if hidden > 0 else []), *(f"  {note}" for note in found.notes)]


class _TextMaker(Protocol):
    def __call__(self, value: str, style: str = "") -> Text: ...


def _sessions(run: JudgedRun, text: _TextMaker) -> Table:
    began = run.result.began
    table = Table(
        title=text(f"{began.scenario} · {began.publish_region} → {began.region}"), title_justify="left", box=None, pad_edge=False
    )
    table.add_column("session")
    table.add_column("via")
    for name in ("start", "latency", "frozen", "outage", "reconnect"):
        table.add_column(name, justify="right")
    table.add_column("how it went")
    for session in _shown(run):
        latency = figures.latency(session)
        frozen = sum(f.took for f in figures.counted_freezes(session, figures.W3C))
        outages = [cut.outage for cut in session.cuts if cut.outage is not None]
        back = [cut.reconnect for cut in session.cuts if cut.reconnect is not None]
        style = "" if well(session) else "red" if isinstance(session.outcome, Failed) or session.ending == "crashed" else "yellow"
        table.add_row(
            text(session.name, style),
            text(session.protocol),
            text(duration(session.took)),
            text(in_seconds(latency.p50) if latency else "–"),
            text(duration(frozen) if session.role is Role.VIEWER and session.started is not None else "–"),
            text(duration(max(outages)) if outages else "–"),
            text(duration(max(back)) if back else "–"),
            text(_went(session), style),
        )
    hidden = len(run.result.sessions) - len(_shown(run))
    if hidden:
        table.add_row(text(f"and {hidden} more, all well", "dim"))
    return table


def _shown(run: JudgedRun) -> list[SessionResult]:
    sessions = run.result.sessions
    return list(sessions) if len(sessions) <= MANY else [s for s in sessions if not well(s)]


def _went(session: SessionResult) -> str:
    said = [what_happened(session.outcome)]
    said += [f"{cut.kind}: {how_it_came_back(cut)}" for cut in session.cuts]
    if session.ending == "crashed" and session.ended_by and not any(cut.failure == session.ended_by for cut in session.cuts):
        said.append(f"crashed: {session.ended_by.phase.value}/{session.ended_by.reason}")
    if session.taints:
        said.append(f"tainted: {', '.join(sorted(session.taints))}")
    return "; ".join(said)


def _session_words(session: SessionResult) -> list[str]:
    said = [_went(session) + _detail(phase_reason(session.outcome)[2])]
    if session.took is not None:
        said.append(f"start {duration(session.took)}")
    if (latency := figures.latency(session)) is not None:
        said.append(f"latency {in_seconds(latency.p50)} ± {in_seconds(figures.clock_error(session))}")
    for cut in session.cuts:
        if cut.outage is not None:
            said.append(f"outage {duration(cut.outage)}")
        if cut.reconnect is not None:
            said.append(f"reconnect {duration(cut.reconnect)}")
    return said


def _wanted(check: Check) -> str:
    said = [] if check.value is None else [measured(check)]
    said += [f"{'wanted' if check.subject else 'closes when'} {check.threshold}"] if check.threshold else []
    return f" ({', '.join(said)})" if said else ""


def _detail(detail: str) -> str:
    return f" ({detail})" if detail else ""
