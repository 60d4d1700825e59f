"""What is asked of the records. Every answer is bounded; newest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, func, select

from probe.store.payload import unpacked
from probe.store.records import Event, GateKept, Request
from probe.store.rows import Found, Judged, Measured, RunRow
from probe.store.tables import ATTEMPTS, events, gates, measures, reports, requests, runs

MOST = 1_000  # rows of one answer
_PAGE = 200  # of those that carry a verdict.json
_PLAIN = tuple(c.name for c in runs.c if c.name not in (*ATTEMPTS, "life", "seed"))


def select_runs(connection: Connection, limit: int, before: str, filters: Mapping[str, str]) -> list[RunRow]:
    """Runs whose id stands before `before` (empty: all), newest first. `filters`: column → its value."""
    query = select(runs).order_by(runs.c.run_id.desc()).limit(_bounded(limit))
    if before:
        query = query.where(runs.c.run_id < before)
    for column, value in filters.items():
        query = query.where(runs.c[column] == value)
    return [_run(row) for row in connection.execute(query)]


def select_run(connection: Connection, run_id: str) -> RunRow | None:
    row = connection.execute(select(runs).where(runs.c.run_id == run_id)).first()
    return None if row is None else _run(row)


def select_big(connection: Connection, run_id: str, column: str) -> str | None:
    """`verdict_json` or `report_html` of a run."""
    return unpacked(connection.execute(select(reports.c[column]).where(reports.c.run_id == run_id)).scalar())


def select_trace(connection: Connection, request_id: str, limit: int) -> list[Found]:
    """Requests of that id with their runs, in the order they were asked."""
    query = (
        select(requests, runs)
        .join_from(requests, runs, requests.c.run_id == runs.c.run_id)
        .where(requests.c.request_id == request_id)
        .order_by(requests.c.at_ns)
        .limit(_bounded(limit))
    )
    return [Found(request=_request(row), run=_run(row)) for row in connection.execute(query)]


def select_requests(connection: Connection, run_id: str) -> list[Request]:
    """The journey's requests of a run, in the order they were asked."""
    query = select(requests).where(requests.c.run_id == run_id).order_by(requests.c.at_ns).limit(MOST)
    return [_request(row) for row in connection.execute(query)]


def select_events(connection: Connection, kind: str, limit: int, subject: str = "") -> list[Event]:
    """Events of a kind, or of all; about `subject`, or about anything."""
    query = select(events).order_by(events.c.at_ns.desc()).limit(_bounded(limit))
    if kind:
        query = query.where(events.c.kind == kind)
    if subject:
        query = query.where(events.c.subject == subject)
    return [Event(**row._mapping) for row in connection.execute(query)]


def select_verdicts(connection: Connection, since: int, before: str) -> list[Judged]:
    """Of scheduled runs that ended after Unix ns `since`, newest first, those whose id stands before `before` (empty: all)."""
    query = (
        select(runs.c.run_id, reports.c.ended_ns, reports.c.verdict_json)
        .join_from(runs, reports, runs.c.run_id == reports.c.run_id)
        .where(runs.c.mode == "scheduled", reports.c.ended_ns > since)
        .order_by(runs.c.run_id.desc())
        .limit(_PAGE)
    )
    if before:
        query = query.where(runs.c.run_id < before)
    rows = [(row.run_id, row.ended_ns, unpacked(row.verdict_json)) for row in connection.execute(query)]
    return [Judged(run_id=run, ended_ns=ended, verdict_json=text or "") for run, ended, text in rows]


def select_measures(connection: Connection, agent: str, since: int, before: str) -> list[Measured]:
    """Of an agent's runs that ended after Unix ns `since`, newest first, those whose id stands before `before` (empty: all)."""
    query = (
        select(runs.c.run_id, runs.c.schedule, runs.c.mode, runs.c.due_ns, measures.c.ended_ns, measures.c.data)
        .join_from(measures, runs, runs.c.run_id == measures.c.run_id)
        .where(runs.c.agent == agent, measures.c.ended_ns > since)
        .order_by(measures.c.run_id.desc())
        .limit(MOST)
    )
    if before:
        query = query.where(measures.c.run_id < before)
    return [Measured(**row._mapping) for row in connection.execute(query)]


def select_gates(connection: Connection, agent: str) -> list[GateKept]:
    """What an agent (empty: any) kept of its gates."""
    query = (
        select(gates.c.agent, gates.c.gate.label("key"), gates.c.at_ns, gates.c.data).order_by(gates.c.at_ns.desc()).limit(MOST)
    )
    if agent:
        query = query.where(gates.c.agent == agent)
    return [GateKept(**row._mapping) for row in connection.execute(query)]


def select_sums(connection: Connection, since: int) -> dict[str, int]:
    """Attempts by outcome (as RunFinished names them) of the runs that began at Unix ns `since` or later; and how many `runs`
    those are, of which `running`, `ended`, `aborted_runs`."""
    query = select(*(func.coalesce(func.sum(runs.c[name]), 0) for name in ATTEMPTS)).where(runs.c.began_ns >= since)
    sums = {name: int(value) for name, value in zip(ATTEMPTS, connection.execute(query).one(), strict=True)}
    states = select(runs.c.state, func.count()).where(runs.c.began_ns >= since).group_by(runs.c.state)
    by_state = {str(state): int(count) for state, count in connection.execute(states)}
    named = {"running": "running", "ended": "ended", "aborted_runs": "aborted"}
    return sums | {"runs": sum(by_state.values())} | {key: by_state.get(state, 0) for key, state in named.items()}


def _run(row: Row[Any]) -> RunRow:
    values = row._mapping
    attempts = {name: values[runs.c[name]] for name in ATTEMPTS if values[runs.c[name]]}
    plain = {name: values[runs.c[name]] for name in _PLAIN}
    return RunRow(seed=int(values[runs.c.seed]), attempts=attempts, **plain)


def _request(row: Row[Any]) -> Request:
    names = ("request_id", "service", "step", "method", "status", "span_id", "at_ns")
    return Request(**{name: row._mapping[requests.c[name]] for name in names})


def _bounded(limit: int) -> int:
    return max(0, min(limit, MOST))
