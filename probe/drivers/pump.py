"""A publisher's pump: units from the programme's threads into a transport, and what is known of their arrival into the feed.

The same for every protocol. ACK is entered when the first picture was handed to the transport; whoever hears from the
server that media has arrived (an RTCP report, an RTMP acknowledgement, an SRT ACK) calls `acknowledged`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from probe.drivers.base import SessionIO
from probe.errors import Failure
from probe.media.programme import EncodedUnit, Programme
from probe.model.clock import MS
from probe.model.frames import PublishRecord
from probe.model.stage import Phase, Stage

EVERY = 1.0
LATE = 50 * MS  # a picture later than this is told at once: it spoils what happens now, not the second to come


class Pump:
    """`send` takes a unit on the loop and says whether it could; `sent` tells (bytes, keyframe requests) so far."""

    def __init__(
        self,
        io: SessionIO,
        programme: Programme,
        send: Callable[[EncodedUnit], bool],
        sent: Callable[[], tuple[int, int]],
    ) -> None:
        self._io = io
        self._programme = programme
        self._send = send
        self._sent = sent
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._running = False
        self._frames = 0
        self._late = 0
        self._received = 0
        self._last_ack: int | None = None

    def start(self) -> None:
        self._running = True
        self._programme.start(self._hand_over)
        self._timer = self._loop.call_later(EVERY, self._each_second)

    def close(self) -> None:
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        self._programme.close()

    def acknowledged(self, received: int, at: int | None = None) -> None:
        """The server says it has `received` so much of ours (packets or bytes); it counts when that is more than before. `at`:
        when that was seen, now if None."""
        if self._running and received > self._received:
            self._received = received
            self._last_ack = self._io.clock.now() if at is None else at
            self._record()

    def _hand_over(self, item: EncodedUnit | BaseException | None) -> None:
        """On the programme's threads."""
        try:
            self._loop.call_soon_threadsafe(self._take, item)
        except RuntimeError:  # the loop is closed: nobody sends any more
            pass

    def _take(self, item: EncodedUnit | BaseException | None) -> None:
        if not self._running or item is None:
            return
        if isinstance(item, BaseException):
            self._io.feed.close(Failure(Phase.PROBE, "crashed", f"the programme broke: {type(item).__name__}"))
            return
        sent = self._send(item)
        if item.kind == "video" and sent:
            now = self._io.clock.now()
            if not self._frames:
                self._io.stages.enter(Stage.ACK, now)
            self._frames += 1
            self._late = max(self._late, now - item.due)
            if self._late > LATE:
                self._record()

    def _each_second(self) -> None:
        self._record()
        self._timer = self._loop.call_later(EVERY, self._each_second)

    def _record(self) -> None:
        late, self._late = self._late, 0
        sent, keyframe_requests = self._sent()
        self._io.feed.post(
            PublishRecord(
                at=self._io.clock.now(),
                frames=self._frames,
                bytes=sent,
                keyframe_requests=keyframe_requests,
                acknowledged=self._last_ack is not None,
                late_ns=late,
                last_ack=self._last_ack,
            )
        )
