"""The grid: whose broadcast × what it was watched over. One cell for each pair that was tried, with what it came to.

A cell fails when an untainted viewer of it failed to start, to stay or to come back; it is inconclusive where nobody can
say, a warning where the picture came and its sound did not.
"""

from __future__ import annotations

from collections.abc import Sequence

from probe.judge.fold import came_back
from probe.judge.indicators import latencies, quantile
from probe.judge.sums import crash_taints, ended_unplanned, failure_of, heard_sound
from probe.model.clock import NS
from probe.model.observation import Role
from probe.model.outcome import Done, Failed, Skipped
from probe.model.verdict import MatrixCell, RunResult, SessionResult, Verdict


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
    failures = [failure for s in sessions if (failure := _failure(result, s)) is not None]
    heard = [h for s in sessions if (h := heard_sound(result, s)) is not None]
    well = [s for s in sessions if isinstance(s.outcome, Done) and not s.taints]
    if failures:
        verdict, reason = Verdict.FAIL, f"{failures[0].phase}/{failures[0].reason}"
    elif not well or any(not isinstance(s.outcome, Done) for s in sessions):
        verdict, reason = Verdict.INCONCLUSIVE, _why(sessions)
    elif False in heard:
        verdict, reason = Verdict.WARN, "no sound"
    else:
        verdict, reason = Verdict.PASS, ""
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
        reason=reason,
    )


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
