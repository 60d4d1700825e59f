"""What a viewer of segments is given in tests: a session's IO that remembers, over a client that may go to this machine only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from probe.clock import SystemClock
from probe.errors import Failure
from probe.link.path import Path
from probe.media.feed import Feed
from probe.model.clock import Clock
from probe.model.frames import FrameRecord, Undecodable
from probe.model.observation import Freeze, Note, Observation
from probe.model.stage import StageTimer
from probe.net.client import AddressPolicy, Client

GRACE = 15.0


@dataclass
class FakeIO:
    clock: Clock
    http: Client
    feed: Feed
    path: Path | None = None
    facts: dict[str, str] = field(default_factory=dict)
    seen: list[Observation] = field(default_factory=list)
    stages: StageTimer = field(init=False)

    def __post_init__(self) -> None:
        self.stages = StageTimer(self.clock.now())

    def emit(self, fact: Observation) -> None:
        self.seen.append(fact)

    def note(self, text: str) -> None:
        self.seen.append(Note(text=text))

    def of(self, kind: type) -> list:
        return [fact for fact in self.seen if isinstance(fact, kind)]

    @property
    def notes(self) -> list[str]:
        return [note.text for note in self.of(Note)]

    @property
    def rebuffers(self) -> list[Freeze]:
        return [freeze for freeze in self.of(Freeze) if freeze.rule == "rebuffer"]

    async def pictures(self, count: int) -> list[FrameRecord]:
        """The next `count` pictures; the start is over with the first."""
        got: list[FrameRecord] = []
        async with asyncio.timeout(GRACE):
            while len(got) < count:
                record = await self.feed.get()
                assert record is not None
                assert not isinstance(record, Undecodable), record
                if isinstance(record, FrameRecord):
                    self.stages.finish(record.decoded)
                    got.append(record)
        return got

    async def until_closed(self) -> tuple[list[FrameRecord], Failure]:
        got: list[FrameRecord] = []
        async with asyncio.timeout(GRACE):
            try:
                while True:
                    got += [r for r in [await self.feed.get()] if isinstance(r, FrameRecord)]
                    if got:
                        self.stages.finish(got[0].decoded)
            except Failure as failure:
                return got, failure


@asynccontextmanager
async def sessions() -> AsyncIterator[Callable[..., FakeIO]]:
    """Makes IOs; their clients are closed at the end."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:

        def make(path: Path | None = None) -> FakeIO:
            client = Client(
                clock=clock,
                trace_id="0" * 31 + "1",
                new_span=lambda: "0" * 15 + "1",
                on_request=lambda request: one.seen.append(request),
                allow=AddressPolicy.of("127.0.0.1"),
            )
            stack.push_async_callback(client.close)
            one = FakeIO(clock, client, Feed(clock), path)
            return one

        yield make
