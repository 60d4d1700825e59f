"""/runs and /runs/{id}: what was found, newest first, and each run's report.

Pages for people, JSON by Accept or `?format=json`: of a run its verdict.json, of the list one object a run. `before` is the last
id of the page before. `trace_id` finds the run that an exemplar is of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode

from aiohttp import web

from probe.agent.service.answer import HTML, JSON, SECURITY, Answer, Refuse, as_json, line
from probe.agent.service.gate import moment
from probe.agent.service.pages import Pages
from probe.agent.service.query import checked, query, wants_json
from probe.agent.service.view import View
from probe.model.verdict import Verdict
from probe.store.rows import RunRow

MOST = 200
_USUAL = 50
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_FILTERS = ("scenario", "region", "verdict", "trace_id")
_TRACE = re.compile(r"[0-9a-f]{32}")
# A report carries its own policy, with its stylesheet's hash; both hold. It came from records: it may not even ask for a script.
_REPORT = {
    "Content-Security-Policy": SECURITY["Content-Security-Policy"] + "; style-src 'unsafe-inline'; sandbox",
}


class RunPages:
    """Reads the records; StoreError passes through."""

    def __init__(self, view: View, pages: Pages) -> None:
        self._view, self._pages = view, pages

    async def list(self, request: web.Request) -> Answer:
        asked = query(request, *_FILTERS, "before", "limit", "format")
        limit = _limit(asked["limit"])
        if asked["before"] and not _ID.fullmatch(asked["before"]):
            raise Refuse(400, "before is not the id of a run")
        if asked["verdict"] and asked["verdict"] not in {verdict.value for verdict in Verdict}:
            raise Refuse(400, "verdict is pass, warn, fail or inconclusive")
        if asked["trace_id"] and not _TRACE.fullmatch(asked["trace_id"]):
            raise Refuse(400, "trace_id is 32 hexadecimal digits")
        filters = {name: asked[name] for name in _FILTERS}
        found = await self._view.records.runs(limit + 1, asked["before"], **filters)
        rows, before = found[:limit], found[limit - 1].run_id if len(found) > limit else None
        if wants_json(request, asked["format"]):
            return as_json({"runs": [told(row) for row in rows], "before": before})
        schedules = self._view.schedules()
        about = self._view.about()
        return await self._pages.page(
            "runs",
            about=about,
            rows=rows,
            filters=filters,
            paged=bool(asked["before"]),
            older=_link({**filters, "before": before, "limit": asked["limit"]}) if before else "",
            newest=_link({**filters, "limit": asked["limit"]}),
            scenarios=sorted({planned.scenario for planned in schedules} | ({asked["scenario"]} - {""})),
            regions=sorted({about["region"], *(row.region for row in rows)} | ({asked["region"]} - {""})),
            verdicts=[verdict.value for verdict in Verdict],
            attempts=attempts,
        )

    async def one(self, request: web.Request) -> Answer:
        asked = query(request, "format")
        run_id = checked(request.match_info["id"], "the run's id")
        if not _ID.fullmatch(run_id) or (row := await self._view.records.run(run_id)) is None:
            raise Refuse(404, "there is no such run, or its record is no longer kept")
        if wants_json(request, asked["format"]):
            verdict = await self._view.records.verdict(run_id)
            if not verdict:
                return as_json({"error": _missing(row), "run": told(row)}, 404)
            return Answer(verdict.encode(errors="replace"), JSON)
        report = await self._view.records.report(run_id)
        if report:
            return Answer(report.encode(errors="replace"), HTML, headers=_REPORT)
        return await self._pages.page("run", about=self._view.about(), row=row, missing=_missing(row), attempts=attempts)


def _limit(text: str) -> int:
    if not text:
        return _USUAL
    if not text.isascii() or not text.isdecimal() or len(text) > 4 or not 1 <= int(text) <= MOST:
        raise Refuse(400, f"limit is a whole number from 1 to {MOST}")
    return int(text)


def _link(values: Mapping[str, str | None]) -> str:
    given = {name: value for name, value in values.items() if value}
    return f"/runs?{urlencode(given)}" if given else "/runs"


def _missing(row: RunRow) -> str:
    if row.state == "running":
        return "it is under way"
    return "nothing of it could be judged" if row.state == "aborted" else "its report is no longer kept"


def attempts(row: RunRow) -> str:
    """`3 done, 1 failed (tainted)`."""
    said = [f"{count} {kind.replace('_tainted', ' (tainted)')}" for kind, count in row.attempts.items() if count]
    return ", ".join(said)


def told(row: RunRow) -> dict[str, object]:
    """A run as JSON has it."""
    return {
        "run_id": row.run_id,
        "scenario": row.scenario,
        "schedule": row.schedule,
        "mode": row.mode,
        "agent": row.agent,
        "region": row.region,
        "publish_region": row.publish_region,
        "target": row.target,
        "seed": row.seed,
        "trace_id": row.trace_id,
        "state": row.state,
        "verdict": row.verdict or None,
        "cause": row.cause,
        "crashed": row.crashed or None,
        "release": row.release or None,
        "due": moment(row.due_ns),
        "began": moment(row.began_ns),
        "ended": moment(row.ended_ns),
        "attempts": dict(row.attempts),
        "probe_version": row.probe_version,
    }


def unread(error: Exception) -> Answer:
    """The records cannot be read now."""
    return line(503, f"the records cannot be read: {error}", {"Retry-After": "5"})
