"""One GET whose answer is media without end: what HTTP-FLV and HTTP-TS have in common.

Stages after TLS: join from the request written until the answer's headers (the platform lets us in, or sends us on), then
first_packet. Both alike, so that the two can be compared; a server that holds its headers back until it has media shows that in
join. Redirects, edges, limits and secrets are net/'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.model.observation import AnswerBegan
from probe.model.stage import Phase, Stage
from probe.model.text import quoted
from probe.net.client import Streaming

_ENDLESS = 1 << 62  # bytes: it is decoded as it comes, and nothing of it kept
_STAY = 30 * 86_400.0  # s; how long a viewer stays is not ours to say


@asynccontextmanager
async def answered(spec: Spec, io: SessionIO) -> AsyncIterator[Streaming]:
    """The answer, its body still to come. Raises Failure (resolve … join, auth)."""
    http = io.http.using(dial=io.path.dial if io.path else None, own_pool=True)
    try:
        async with http.stream(
            "GET",
            spec.url,
            purpose=spec.protocol,
            phase=Phase.JOIN,
            credential=spec.credential,
            headers={"User-Agent": spec.device.user_agent} if spec.device.user_agent else None,
            ok={200},
            limit=_ENDLESS,
            stages=io.stages,
            stage=Stage.JOIN,
            timeout=_STAY,
        ) as answer:
            now = io.clock.now()
            io.stages.enter(Stage.FIRST_PACKET, now)
            io.emit(
                AnswerBegan(
                    at=now,
                    purpose=spec.protocol,
                    request_id=answer.request_id,
                    status=answer.status,
                    edge=answer.edge,
                    cache=answer.cache,
                    took=now - answer.began,
                )
            )
            if server := answer.headers.get("Server", ""):
                io.facts["server"] = quoted(server, 60)
            yield answer
    finally:
        await http.close()
