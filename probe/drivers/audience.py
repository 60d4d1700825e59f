"""Who sees what was sent: one socket per viewer, all open before anything is sent, each to show it within the deadline.

A handshake answered is not yet a seat taken: behind it a platform subscribes to the room in its own time. A real viewer has
been there for a while, so everybody is given a moment before anything is sent.
The needle is ours alone (it carries a request id or a run id), so history a socket replays cannot be mistaken for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from probe.drivers.base import StepIO
from probe.drivers.service import Deadline
from probe.errors import Failure
from probe.model.stage import Phase
from probe.net.client import Credential
from probe.net.sockets import next_text

_SETTLE_SECONDS = 0.2


class _Seat:
    """One viewer's socket."""

    def __init__(self) -> None:
        self.open = asyncio.Event()  # or failed to
        self.over = asyncio.Event()
        self.seen = False
        self.failure: Failure | None = None

    async def watch(
        self, io: StepIO, url: str, credential: Credential | None, phase: Phase, needle: str, deadline: Deadline
    ) -> None:
        try:
            async with io.http.websocket(
                url, purpose="seen_by", phase=phase, credential=credential, timeout=deadline.left
            ) as socket:
                self.open.set()
                while not _shows(await next_text(socket, phase), needle):
                    pass
                self.seen = True
        except Failure as failure:
            self.failure = failure
        finally:
            self.open.set()
            self.over.set()


def _shows(message: str, needle: str) -> bool:
    """A message may carry it plain, or inside JSON, escaped one way or the other."""
    return any(form in message for form in {needle, json.dumps(needle)[1:-1], json.dumps(needle, ensure_ascii=False)[1:-1]})


async def witnessed(
    io: StepIO,
    *,
    who: str,
    url: str,
    account: str | None,
    phase: Phase,
    needle: str,
    act: Callable[[], Awaitable[None]],
    deadline: Deadline,
) -> None:
    """`act` while as many sockets as there are viewers (`who`: all, or a protocol's) are open; every one must then show `needle`.

    Raises Failure(phase, not_seen) with how many of how many saw it; what opening a socket or `act` fails with goes first."""
    seats = [_Seat() for _ in io.viewers(who)]
    credential = io.credential(account)
    failure: Failure | None = None
    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(seat.watch(io, url, credential, phase, needle, deadline)) for seat in seats]
        try:
            for seat in seats:
                await seat.open.wait()
                if seat.failure is not None:
                    raise seat.failure
            await asyncio.sleep(min(_SETTLE_SECONDS, deadline.left / 4))
            await act()
            async with asyncio.timeout(deadline.left):
                for seat in seats:
                    await seat.over.wait()
        except Failure as error:  # kept, so that the group does not wrap it
            failure = error
        except TimeoutError:
            pass
        finally:
            for task in watching:
                task.cancel()
    if failure is not None:
        raise failure
    seen = sum(seat.seen for seat in seats)
    if seen < len(seats):
        broken = sum(seat.failure is not None for seat in seats)
        raise Failure(
            phase, "not_seen", f"{seen} of {len(seats)} viewers saw it" + (f", {broken} lost their socket" if broken else "")
        )
