"""PUT /-/runs/{id}: a run that an agent elsewhere has made and hands to this one (handed.py).

Answered 201 where it was taken and is recorded, 200 where it had been before: who is not sure asks again. For those whom we know,
or for this machine, as /-/reload. One is read at a time, and a few wait; nothing of it is repeated in an answer.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from probe.agent.handed import MOST, RUN_ID, Handed, Unfit, decode
from probe.agent.service.answer import Answer, Refuse, as_json
from probe.agent.service.query import query
from probe.agent.service.view import Refused, View
from probe.store.errors import StoreError

_log = logging.getLogger(__name__)
_LINE = 8
_READING = 10.0  # s for the body


class Handing:
    """What is being taken is taken to its end, whoever still waits: `group` sees to it."""

    def __init__(self, view: View, group: asyncio.TaskGroup) -> None:
        self._view, self._group = view, group
        self._one = asyncio.Lock()
        self._waiting = 0

    async def answer(self, request: web.Request) -> Answer:
        query(request)
        run_id = request.match_info["id"]
        if not RUN_ID.fullmatch(run_id):
            raise Refuse(404, "that is no run's id")
        if request.content_type != "application/x-ndjson" or "Content-Encoding" in request.headers:
            raise Refuse(415, "a run is handed over as application/x-ndjson, as it is")
        if self._waiting >= _LINE:
            raise Refuse(503, "others hand over their runs; ask again", {"Retry-After": "1"})
        self._waiting += 1
        try:
            async with self._one:
                handed = await _read(request, run_id)
                taken = await asyncio.shield(self._group.create_task(self._take(handed), name="hand over"))
        finally:
            self._waiting -= 1
        if taken is None:
            raise Refuse(500, "the run could not be taken; the agent's log says why")
        if isinstance(taken, StoreError):
            raise taken
        if isinstance(taken, Refused):
            raise Refuse(taken.why.value, taken.words)
        return as_json({"run_id": run_id, "taken": taken}, 201 if taken else 200)

    async def _take(self, handed: Handed) -> bool | Refused | StoreError | None:
        try:
            return await self._view.take(handed)
        except StoreError as error:
            return error
        except Exception:  # must not end the service
            _log.exception("a run that was handed over could not be taken")
            return None


async def _read(request: web.Request, run_id: str) -> Handed:
    """Raises Refuse."""
    body = bytearray()
    try:
        async with asyncio.timeout(_READING):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > MOST:
                    raise Refuse(413, f"a run has at most {MOST >> 20} MiB")
    except TimeoutError:
        raise Refuse(408, f"the run did not come within {_READING:g} s") from None
    try:
        return await asyncio.to_thread(decode, bytes(body), run_id)
    except Unfit as unfit:
        raise Refuse(422, str(unfit)) from None
