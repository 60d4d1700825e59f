"""The grid: whose broadcast × what it was watched over. One cell for each pair that was tried, with what it came to.

A cell is what the checks of its own viewers come to (groups.py), so that it fails where they do and nowhere else. What is
optional warns in it, and what did not come of it is a question there, though the verdict does not ask it.
"""

from __future__ import annotations

from collections.abc import Sequence

from probe.judge.fold import came_back
from probe.judge.groups import Group, checks_of, groups
from probe.judge.indicators import latencies, quantile
from probe.judge.sums import crash_taints, ended_unplanned, failure_of, heard_sound
from probe.model.clock import NS
from probe.model.observation import Role
from probe.model.outcome import Done, Failed, Skipped
from probe.model.verdict import Check, MatrixCell, RunResult, SessionResult, Verdict, worst


def matrix(result: RunResult) -> tuple[MatrixCell, ...]:
    """Cells in the order in which their broadcasts began; none where nobody viewed."""
    began = {s.step: n for n, s in enumerate(result.sessions) if s.role is Role.PUBLISHER}
    cells: dict[tuple[str, str, str, str], list[SessionResult]] = {}
    for session in result.sessions:
        if session.role is Role.VIEWER:
            cells.setdefault((session.of, session.ingest, session.protocol, session.device), []).append(session)
    ordered = sorted(cells.items(), key=lambda item: began.get(item[0][0], len(began)))
    return tuple(_cell(result, *key, members) for key, members in ordered)


def _cell(result: RunResult, of: str, ingest: str, protocol: str, device: str, sessions: Sequence[SessionResult]) -> MatrixCell:
    told = [(check, group) for group in groups(sessions) for check in checks_of(result, group)]
    judged = [(_in_cell(check.result, group), check, group) for check, group in told]
    verdict = worst([found for found, _, _ in judged])
    heard = [h for s in sessions if (h := heard_sound(result, s)) is not None]
    well = [s for s in sessions if isinstance(s.outcome, Done) and not s.taints]
    reason = next((_reason(result, check, group) for found, check, group in judged if found is verdict), "")
    return MatrixCell(
        of=of,
        ingest=ingest,
        protocol=protocol,
        device=device,
        result=verdict,
        viewers=len(sessions),
        started=sum(s.started is not None for s in sessions),
        first_frame=quantile([s.took / NS for s in well if s.took is not None], "p50"),
        latency=quantile([value for s in well for value in latencies(result, s)], "p50"),
        sound=None if not heard else False not in heard,
        reason="" if verdict is Verdict.PASS else reason,
    )


def _in_cell(found: Verdict, group: Group) -> Verdict:
    """What is optional fails nothing; that it did not come is still a question where somebody looks for it."""
    return Verdict.WARN if group.optional and found is Verdict.FAIL else found


def _reason(result: RunResult, check: Check, group: Group) -> str:
    """Why a check is not green, in the fewest words."""
    if check.result is Verdict.FAIL:
        failure = next((found for s in group.sessions if (found := _failure(result, s)) is not None), None)
        return check.reason if failure is None else f"{failure.phase}/{failure.reason}"
    if check.result is Verdict.WARN and check.name.startswith("sound"):
        return "no sound"
    if check.result is Verdict.INCONCLUSIVE and check.name.startswith("start"):
        return _why(group.sessions)
    return check.reason


def _failure(result: RunResult, session: SessionResult) -> Failed | None:
    """The first untainted failure of a session, at its start, in a cut, or at its end."""
    if (failure := failure_of(session.outcome)) is not None and not session.taints:
        return failure
    for cut in session.cuts:
        if came_back(cut) is False and not cut.taints and cut.failure is not None:
            return cut.failure
    if ended_unplanned(session) and not crash_taints(result, session):
        return session.ended_by
    return None


def _why(sessions: Sequence[SessionResult]) -> str:
    for session in sessions:
        if isinstance(session.outcome, Skipped):
            return session.outcome.reason
    return "the probe was unwell" if any(s.taints for s in sessions) else "no outcome"
