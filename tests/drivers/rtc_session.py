"""What WHIP and WHEP driver tests share: a SessionIO that keeps what it is told, and readers of its feed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from probe.clock import SystemClock
from probe.drivers.base import Spec
from probe.errors import Failure
from probe.link.path import Path
from probe.media.feed import Feed
from probe.model.clock import Clock
from probe.model.frames import FrameRecord, PublishRecord, Record
from probe.model.observation import AnswerBegan, Observation, RequestDone, Role
from probe.model.stage import Stage, StageTimer
from probe.net.client import AddressPolicy, Client, Credential

RUN, TRACE = 0x1234ABCD, 0xFEDC_BA98_7654_3210


@dataclass
class Session:
    """One attempt's SessionIO."""

    clock: Clock
    http: Client
    feed: Feed
    stages: StageTimer
    path: Path | None = None
    facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    requests: list[RequestDone] = field(default_factory=list)
    answers: list[AnswerBegan] = field(default_factory=list)

    def emit(self, fact: Observation) -> None:
        if isinstance(fact, AnswerBegan):
            self.answers.append(fact)
            return
        raise AssertionError(f"the driver emitted {fact!r}")

    def note(self, text: str) -> None:
        self.notes.append(text)

    async def frames(self, count: int, deadline: float = 10.0) -> list[FrameRecord]:
        """The next `count` pictures."""
        found: list[FrameRecord] = []
        async with asyncio.timeout(deadline):
            while len(found) < count:
                record = await self.get()
                if isinstance(record, FrameRecord):
                    found.append(record)
        return found

    async def acknowledged(self, deadline: float = 10.0) -> PublishRecord:
        async with asyncio.timeout(deadline):
            while True:
                record = await self.get()
                if isinstance(record, PublishRecord) and record.acknowledged:
                    return record

    async def failure(self, deadline: float = 10.0) -> Failure:
        """How the feed ends."""
        async with asyncio.timeout(deadline):
            try:
                while await self.feed.get() is not None:
                    pass
            except Failure as failure:
                return failure
        raise AssertionError("the feed ended without a failure")

    async def get(self) -> Record:
        record = await self.feed.get()
        assert record is not None, "the feed has ended"
        return record

    def stage(self) -> Stage:
        """The stage that is open now."""
        return self.stages.current

    def spent(self) -> dict[Stage, int]:
        return self.stages.by_stage()


@contextlib.asynccontextmanager
async def session(
    *allowed: str, path: bool = False, allow: AddressPolicy | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Session]:
    """An attempt against servers at `allowed`; with `path`, through a path of our own; `tls` trusts other authorities."""
    clock = SystemClock()
    requests: list[RequestDone] = []
    client = Client(
        clock=clock,
        trace_id="0af7651916cd43dd8448eb211c80319c",
        new_span=lambda: f"{random.getrandbits(64):016x}",
        on_request=requests.append,
        allow=allow or AddressPolicy.of(*allowed),
        tls=tls,
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        link = await stack.enter_async_context(Path(clock)) if path else None
        yield Session(clock, client, Feed(clock), StageTimer(clock.now()), link, requests=requests)


def viewer(url: str, credential: Credential | None = None, loopback: bool = True, **more: object) -> Spec:
    return Spec(role=Role.VIEWER, protocol="whep", url=url, credential=credential, loopback=loopback, **more)  # type: ignore[arg-type]


def publisher(url: str, credential: Credential | None = None, **more: object) -> Spec:
    return Spec(
        role=Role.PUBLISHER,
        protocol="whip",
        url=url,
        credential=credential,
        run_number=RUN,
        trace_low=TRACE,
        publish=3,
        **more,  # type: ignore[arg-type]
    )
