"""The grid and the checks are two tellings of one thing: whatever happened, they never disagree."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from probe.judge.fold import fold
from probe.judge.verdict import judge
from probe.model.clock import NS, Wall
from probe.model.observation import CutOutcome, HealthSample, Role, Window
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Outcome, Skipped
from probe.model.stage import Phase
from probe.model.verdict import CutResult, MatrixCell, RunResult, SessionResult, Verdict, worst
from tests.judge.story import Story

NOW = Wall(unix_ns=0, error_ns=None)
FAILURES = (Failed(Phase.PLAYLIST, "http_503"), Failed(Phase.PLAYING, "frozen"), Failed(Phase.RECONNECTING, "timeout"))
OUTCOMES: tuple[Outcome | None, ...] = (Done(), *FAILURES[:1], Skipped("unsupported"), Cancelled(), Aborted("bug"), None)
TAINTS = st.sampled_from([frozenset[str](), frozenset({"loop_lag"})])
EMPTY = fold(Story().finish())


@st.composite
def cuts(draw: st.DrawFn) -> CutResult:
    """A cut of the journey, or an interruption that healed: what a run without a crash can hold."""
    planned = draw(st.booleans())
    ways = [None, *CutOutcome] if planned else [CutOutcome.RESTARTED]
    outcome = draw(st.sampled_from(ways))
    failure = draw(st.sampled_from([None, *FAILURES])) if outcome is CutOutcome.FAILED else None
    return CutResult(
        step=draw(st.sampled_from(["cut", "cut-2"])) if planned else "", kind="drop" if planned else "unplanned", began=4 * NS,
        restored=None, ended=None if outcome is None else 5 * NS, outcome=outcome, outage=None, reconnect=None, attempts=0,
        failure=failure, taints=draw(TAINTS),
    )  # fmt: skip


@st.composite
def viewers(draw: st.DrawFn) -> SessionResult:
    outcome = draw(st.sampled_from(OUTCOMES))
    started = isinstance(outcome, Done)
    crashed = started and draw(st.booleans())
    ended = None if outcome is None or (started and not crashed and draw(st.booleans())) else 9 * NS
    heard = draw(st.integers(0, 1))
    return SessionResult(
        session="", step=draw(st.sampled_from(["view", "view-2"])), name="v", role=Role.VIEWER,
        protocol=draw(st.sampled_from(["whep", "hls"])), device=draw(st.sampled_from(["default", "phone"])), region="local",
        publish_region="local", join="mid_stream", verify="code", buffered=False, optional=draw(st.booleans()), span_id="",
        began=NS, outcome=outcome, started=2 * NS if started else None, took=NS if started else None, ended=ended,
        ending="" if not started or ended is None else "crashed" if crashed else "planned",
        ended_by=FAILURES[1] if crashed else None,
        windows=tuple(Window(at=n * NS, took=NS, verified=30, sounds=heard) for n in range(3, 8)) if started else (),
        cuts=tuple(draw(st.lists(cuts(), max_size=2))) if started else (), taints=draw(TAINTS), ingest="whip",
        of=draw(st.sampled_from(["go", "go-2"])), sound=draw(st.booleans()),
    )  # fmt: skip


@st.composite
def results(draw: st.DrawFn) -> RunResult:
    sessions = draw(st.lists(viewers(), min_size=1, max_size=6))
    numbered = tuple(replace(s, session=f"v{n}", name=f"v{n}") for n, s in enumerate(sessions))
    unwell = draw(st.booleans())  # from the last second on: what crashed then proves nothing
    health = (HealthSample(at=9 * NS, took=2 * NS, loop_lag=1.0, taints=("loop_lag",) if unwell else ()),)
    return replace(EMPTY, sessions=numbered, health=health)


def told(result: RunResult, cell: MatrixCell, *, optional: bool) -> list[Verdict]:
    """What the checks of a cell's own viewers say, and nobody else's."""
    mine = tuple(
        s for s in result.sessions
        if (s.of, s.protocol, s.device, s.optional) == (cell.of, cell.protocol, cell.device, optional)
    )  # fmt: skip
    checks = judge(replace(result, sessions=mine), (), NOW).checks if mine else ()
    return [check.result for check in checks if check.name != "run"]


@settings(max_examples=300, deadline=None)
@given(results())
def test_a_cell_fails_where_a_check_of_its_viewers_does_and_nowhere_else(result: RunResult):
    for cell in judge(result, (), NOW).matrix:
        needed, optional = told(result, cell, optional=False), told(result, cell, optional=True)
        assert (cell.result is Verdict.FAIL) == (Verdict.FAIL in needed), cell
        assert cell.result.rank >= worst([*needed, *optional, Verdict.PASS]).rank, cell  # no green cell over a question
        assert bool(cell.reason) == (cell.result is not Verdict.PASS), cell


@settings(max_examples=200, deadline=None)
@given(results())
def test_without_what_is_optional_a_cell_is_the_worst_of_its_checks(result: RunResult):
    result = replace(result, sessions=tuple(replace(s, optional=False) for s in result.sessions))
    judged = judge(result, (), NOW)
    for cell in judged.matrix:
        assert cell.result is worst(told(result, cell, optional=False)), cell
    assert (Verdict.FAIL in {c.result for c in judged.matrix}) == (judged.result is Verdict.FAIL)
