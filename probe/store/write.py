"""Records into tables, in one transaction a batch. Each statement may be said twice and counts once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Table, update

from probe.store.payload import BEGUN, EVENT, FINISHED, KEPT, SWEPT, Entry
from probe.store.tables import ATTEMPTS, events, gates, measures, reports, requests, runs

_BEGINNING = (
    "agent", "schedule", "scenario", "mode", "publish_region", "region", "target", "seed", "run_number", "trace_id", "due_ns",
    "began_ns", "probe_version", "life",
)  # fmt: skip
_ENDING = ("state", "verdict", "cause", "ended_ns", *ATTEMPTS, "crashed", "release")
_REQUEST = ("service", "step", "method", "status", "at_ns")
_KILLED = "the probe was killed in the middle of it"
_EVENT = ("event_id", "at_ns", "agent", "kind", "subject", "region", "who", "why", "data")


def write(connection: Connection, entries: Sequence[Entry]) -> dict[str, int]:
    """Apply entries in their order, within the caller's transaction. Returns the runs that each sweep found, by its mark.

    Raises SQLAlchemyError, and KeyError, TypeError or ValueError where an entry has not what its table needs."""
    found: dict[str, int] = {}
    for sweeps, group in groupby(entries, key=lambda entry: entry.kind == SWEPT):
        if sweeps:
            for entry in group:
                found[entry.values["mark"]] = _sweep(connection, entry)
        else:
            _records(connection, list(group))
    return found


def _records(connection: Connection, entries: Sequence[Entry]) -> None:
    """Beginnings before endings: the two of a run touch columns of their own, so their order among others does not matter."""
    begun = [_beginning(e) for e in entries if e.kind == BEGUN]
    finished = [e for e in entries if e.kind == FINISHED]
    _upsert(connection, runs, begun, ("run_id",), _BEGINNING)
    _upsert(connection, runs, [_ending(e.values) for e in finished], ("run_id",), _ENDING)
    _upsert(connection, requests, _asked(finished), ("run_id", "request_id", "span_id"), _REQUEST)
    big = [_report(e) for e in finished if e.verdict or e.report]
    _upsert(connection, reports, big, ("run_id",), ("ended_ns", "verdict_json", "report_html"))
    measured = [_measured(e.values) for e in finished if e.values.get("measures")]
    _upsert(connection, measures, measured, ("run_id",), ("ended_ns", "data"))
    kept = {(e.values["agent"], e.values["key"]): e.values for e in entries if e.kind == KEPT}  # the last of each
    _upsert(connection, gates, [_kept(values) for values in kept.values()], ("agent", "gate"), ("at_ns", "data"))
    happened = [{name: e.values[name] for name in _EVENT} for e in entries if e.kind == EVENT]
    _upsert(connection, events, happened, ("event_id",), ())


def _beginning(entry: Entry) -> dict[str, Any]:
    values = {name: entry.values[name] for name in ("run_id", *_BEGINNING) if name != "life"}
    return values | {"seed": str(values["seed"]), "life": entry.life}


def _ending(values: dict[str, Any]) -> dict[str, Any]:
    """Its row, should there be none: its beginning was lost with a full outbox."""
    row = {name: values[name] for name in ("run_id", "state", "verdict", "cause", "ended_ns", "crashed")}
    row |= {"began_ns": values["ended_ns"], "release": values.get("release", "")}  # an outbox may be older than the column
    return row | {name: int(values["attempts"].get(name, 0)) for name in ATTEMPTS}


def _asked(finished: Iterable[Entry]) -> list[dict[str, Any]]:
    keys = ("request_id", "span_id", *_REQUEST)
    return [
        {"run_id": entry.values["run_id"]} | {key: request[key] for key in keys}
        for entry in finished
        for request in entry.values["requests"]
    ]


def _report(entry: Entry) -> dict[str, Any]:
    run_id, ended = entry.values["run_id"], entry.values["ended_ns"]
    return {"run_id": run_id, "ended_ns": ended, "verdict_json": entry.verdict, "report_html": entry.report}


def _measured(values: dict[str, Any]) -> dict[str, Any]:
    return {"run_id": values["run_id"], "ended_ns": values["ended_ns"], "data": values["measures"]}


def _kept(values: dict[str, Any]) -> dict[str, Any]:
    return {"agent": values["agent"], "gate": values["key"], "at_ns": values["at_ns"], "data": values["data"]}


def _upsert(
    connection: Connection, table: Table, rows: list[dict[str, Any]], key: tuple[str, ...], change: tuple[str, ...]
) -> None:
    """Insert each row; of one that is there change the columns named, or nothing."""
    if not rows:
        return
    into = insert(connection.dialect.name)(table)
    if change:
        into = into.on_conflict_do_update(index_elements=key, set_={name: into.excluded[name] for name in change})
    else:
        into = into.on_conflict_do_nothing(index_elements=key)
    connection.execute(into, rows)


def insert(dialect: str) -> Callable[[Table], Any]:
    """Its own `insert`, which knows of conflicts; only the one in use is imported."""
    insert: Callable[[Table], Any] = import_module(f"sqlalchemy.dialects.{dialect}").insert
    return insert


def _sweep(connection: Connection, entry: Entry) -> int:
    values = entry.values
    dead = (runs.c.agent == values["agent"], runs.c.state == "running", runs.c.life != entry.life)
    killed = {"state": "aborted", "verdict": "inconclusive", "cause": _KILLED, "crashed": "killed", "ended_ns": values["at_ns"]}
    return connection.execute(update(runs).where(*dead).values(**killed)).rowcount
