"""`probe trace REQUEST_ID`: from what stands in a platform's log to the run, its step and its trace.

It opens the records read only and makes nothing. Of agent.yaml it reads where the records are and nothing else: who looks for
a request has neither the agent's environment nor its scenarios.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probe.agent.config import StoreSettings
from probe.agent.loading import state_directory
from probe.clock import SystemClock
from probe.errors import ConfigError, Located
from probe.export.figures import rfc3339
from probe.export.words import printable
from probe.scenario.fields import Model
from probe.scenario.located import read, validated, with_env
from probe.scenario.text import parse
from probe.store.address import resolve
from probe.store.errors import StoreRefused
from probe.store.reader import Records
from probe.store.rows import Found, RunRow

NOT_FOUND = 1


class _Where(Model):
    """What of agent.yaml matters here."""

    store: StoreSettings = StoreSettings()
    state: str | None = None


async def trace(request_id: str, *, store: str | None, agent: Path | None, as_json: bool) -> int:
    """Print what is known of the request; the exit code. Raises ConfigError, StoreError."""
    try:
        url = records_url(store, agent, os.environ)
        async with Records.reading(url, SystemClock()) as records:
            found = await records.trace(request_id)
    except StoreRefused as error:
        raise ConfigError([Located("--store" if agent is None else str(agent), 0, 0, "", str(error))]) from error
    if as_json:
        print(json.dumps([_document(one) for one in found], indent=2, ensure_ascii=False))
    elif found:
        print("\n\n".join(_text(one) for one in found))
    else:
        words = "has no record: segments and playlists are not recorded, and runs only as long as `keep` says"
        print(f"request {printable(request_id, 80)} {words}", file=sys.stderr)
    return 0 if found else NOT_FOUND


def records_url(store: str | None, agent: Path | None, env: Mapping[str, str]) -> str:
    """Said on the command line, by agent.yaml, or where an agent without a word on that keeps its records."""
    if store is not None:
        return resolve(
            store if ":" in store or store == "sqlite" else f"sqlite:///{Path(store).absolute()}", state_directory(None, env)
        )
    if agent is None:
        return resolve("sqlite", state_directory(None, env))
    document = parse(read(agent), str(agent))
    data = document.data if isinstance(document.data, dict) else {}
    said = with_env(document, {key: data[key] for key in ("store", "state") if key in data}, env)
    where = validated(document, _Where, said)
    if where is None or document.mistakes:
        raise ConfigError(document.mistakes)
    url = where.store.url
    return resolve(url if isinstance(url, str) else url.source, state_directory(where.state, env, agent.parent))


def _text(found: Found) -> str:
    request, run = found.request, found.run
    answer = str(request.status) if request.status else "no answer"
    way = f"{run.publish_region} → {run.region}" if run.publish_region not in ("", run.region) else run.region
    lines = {
        "request": f"{request.method} of {request.service}, {answer}, at {rfc3339(request.at_ns)}",
        "step": request.step or "–",
        "run": f"{run.run_id}: {run.scenario}, {way}, {run.mode}, by {run.agent}, began {rfc3339(run.began_ns)}",
        "verdict": _verdict(run),
        "trace": f"{run.trace_id}, span {request.span_id}",
    }
    return "\n".join(f"{name:8} {printable(text)}" for name, text in lines.items())


def _verdict(run: RunRow) -> str:
    if run.ended_ns is None:
        return "none yet: it is running"
    crashed = f" (the probe crashed: {run.crashed})" if run.crashed else ""
    return run.verdict + crashed + (f": {run.cause}" if run.cause else "")


def _document(found: Found) -> dict[str, Any]:
    """Absent is absent, times are RFC 3339."""
    request, run = found.request, found.run
    about = {
        "run_id": run.run_id, "scenario": run.scenario, "mode": run.mode, "publish_region": run.publish_region,
        "region": run.region, "agent": run.agent, "schedule": run.schedule, "state": run.state, "verdict": run.verdict,
        "cause": run.cause, "crashed": run.crashed, "began_at": rfc3339(run.began_ns),
        "ended_at": None if run.ended_ns is None else rfc3339(run.ended_ns),
    }  # fmt: skip
    asked = {
        "request_id": request.request_id, "service": request.service, "step": request.step, "method": request.method,
        "status": request.status or None, "at": rfc3339(request.at_ns), "trace_id": run.trace_id, "span_id": request.span_id,
    }  # fmt: skip
    return {**_present(asked), "run": _present(about)}


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "")}
