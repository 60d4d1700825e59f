"""/probe?scenario=&target=: a run on demand, answered as blackbox_exporter answers.

`probe_success`, `probe_duration_seconds`, then the metrics of this run alone. Prometheus says how long it waits; a run that may
take longer, less what the way back takes, is refused before it begins. Inconclusive is a scrape that failed, 503 with the reason,
and never `probe_success 0`: that word is the platform's. A run that was begun is finished and recorded, whoever still waits.
"""

from __future__ import annotations

import asyncio
import logging
import math

from aiohttp import web

from probe.agent.service.answer import Answer, Refuse, line
from probe.agent.service.metrics import wants_openmetrics
from probe.agent.service.query import query
from probe.agent.service.view import Probed, Refused, View
from probe.export.exposition import CLASSIC_TYPE, OPENMETRICS_TYPE, classic, openmetrics_text
from probe.export.words import printable

_log = logging.getLogger(__name__)
OFFSET = 0.5  # s of the scrape's time that are for the answer, as blackbox_exporter has it
_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"


class Probes:
    """Runs are tasks of `group`."""

    def __init__(self, view: View, group: asyncio.TaskGroup) -> None:
        self._view, self._group = view, group

    async def answer(self, request: web.Request) -> Answer:
        asked = query(request, "scenario", "target")
        if not asked["scenario"]:
            raise Refuse(400, "say which scenario: /probe?scenario=NAME&target=https://HOST")
        within = _within(request.headers.get(_HEADER, ""))
        task = self._group.create_task(self._made(asked["scenario"], asked["target"], within), name="probe")
        try:
            async with asyncio.timeout(within):
                made = await asyncio.shield(task)
        except TimeoutError:
            return line(503, "inconclusive: the run took longer than the scrape waits", {"Retry-After": "5"})
        if made is None:
            return line(500, "the run could not be made; the agent's log says why")
        if isinstance(made, Refused):
            return line(made.why.value, made.words, {"Retry-After": "5"} if made.why.value == 503 else None)
        if made.success is None:
            return line(503, f"inconclusive: {printable(made.cause) or 'nothing could be judged'}", {"X-Run-Id": made.run_id})
        openmetrics = wants_openmetrics(request)
        body = await asyncio.to_thread(_text, made, openmetrics)
        return Answer(body.encode(), OPENMETRICS_TYPE if openmetrics else CLASSIC_TYPE, headers={"X-Run-Id": made.run_id})

    async def _made(self, scenario: str, target: str, within: float | None) -> Probed | Refused | None:
        try:
            return await self._view.probe(scenario, target, within)
        except Exception:  # must not end the service
            _log.exception("a run that was asked for could not be made")
            return None


def _within(header: str) -> float | None:
    """Seconds that a run may take; None where the client does not say. Raises Refuse."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds <= 0:
        raise Refuse(400, f"{_HEADER} is not a number of seconds")
    return max(0.0, seconds - OFFSET)


def _text(made: Probed, openmetrics: bool) -> str:
    success = _gauge("probe_success", "1: the run passed; 0: it failed.", int(bool(made.success)))
    took = _gauge("probe_duration_seconds", "How long the run took.", made.duration)
    return success + took + (openmetrics_text if openmetrics else classic)(made.registry)


def _gauge(name: str, words: str, value: float) -> str:
    return f"# HELP {name} {words}\n# TYPE {name} gauge\n{name} {value!r}\n"
