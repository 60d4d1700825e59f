"""One way of a TCP connection over a Lane: when each byte would have reached the other side's application.

The kernels at our two ends speak TCP over loopback, which loses nothing and has no length; what a long, narrow or lossy
path would have done to the stream is reckoned here. Pure. The model is a plain sender's (RFC 5681, Reno, with the initial
window of RFC 6928 and the slow start after idling of RFC 5681 section 4.1):

- segments of 1460 bytes go through the lane; those lost, by the loss model or at the full queue, are sent again, and nothing
  behind one is delivered before it: 5/4 of a round trip later where more was sent behind it (RFC 8985: RACK's reordering
  window), two round trips later for the last of what there was to send (its tail loss probe; 200 ms more where it was alone,
  for the delayed acknowledgement), and after a doubling timeout of at least 200 ms each further time;
- what is unacknowledged is bounded by a congestion window, halved by a loss at most once a round trip, and by the receiver's; a
  round trip that grows ends the slow start (HyStart++, RFC 9406, without its probation); what the window does not admit stays
  unread with the sender, whose own kernel then makes it wait.

Bytes are never lost. Acknowledgements take the way back's delay and none of its rate or loss. Not modelled: CUBIC, BBR, ECN,
pacing, MTU discovery, the receiver's autotuning.
"""

from __future__ import annotations

import heapq

from probe.link.lane import NS, Lane

SEGMENT = 1_460
FIRST_WINDOW = 10 * SEGMENT
RECEIVER_WINDOW = 2 << 20
LOW_WINDOW = 16 * SEGMENT  # below it Linux does not look for a queue
RTO_LEAST = NS // 5  # as Linux; RFC 6298 asks for a second
DELAYED_ACK = NS // 5
SYN_RTO = NS  # RFC 6298 section 2.1
MOST_TRIES = 6


def handshake(up: Lane, down: Lane, now: int) -> int:
    """When a connection begun at `now` is there: SYN and its answer, either of which may have to be sent again."""
    at, timeout = now, SYN_RTO
    for _ in range(MOST_TRIES):
        there = up.segment(0, now) if at == now else up.again(0, at)
        back = down.later(0, there) if there is not None else None
        if back is not None:
            return back
        at += timeout
        timeout *= 2
    return at


class Flow:
    """The sending side of one way. `back` is the lane of the other way."""

    def __init__(self, lane: Lane, back: Lane) -> None:
        self._lane, self._back = lane, back
        self._window = float(FIRST_WINDOW)
        self._threshold = float(RECEIVER_WINDOW)
        self._unacknowledged: list[tuple[int, int]] = []  # a heap: (when its, perhaps selective, acknowledgement comes, bytes)
        self._in_flight = 0
        self._round_trip = float(lane.delay + back.delay)
        self._queueing = self._round_trip + max(4e6, min(self._round_trip / 8, 16e6))  # of RFC 9406 section 4.2
        self._least, self._round_ends = 0, 0
        self._reduced_until = 0
        self._sent_at: int | None = None
        self._last = 0

    def room(self, now: int) -> int:
        """Bytes the sender may send now, whole segments."""
        self._acknowledge(now)
        return max(0, int(min(self._window, RECEIVER_WINDOW)) - self._in_flight) // SEGMENT * SEGMENT

    def room_at(self) -> int | None:
        """When there will be more room; None: nothing is in flight."""
        return self._unacknowledged[0][0] if self._unacknowledged else None

    def send(self, size: int, now: int) -> list[tuple[int, int]]:
        """(when, bytes) in the order sent, for `size` bytes; a time is never before the one before it."""
        timeout = max(RTO_LEAST, 2 * self._round_trip)
        if self._sent_at is not None and not self._in_flight and now - self._sent_at > timeout:
            self._window = min(self._window, FIRST_WINDOW)
        self._sent_at = now
        out: list[tuple[int, int]] = []
        while size > 0:
            piece = min(size, SEGMENT)
            size -= piece
            arrives = self._delivered(piece, now, tail=not size)
            self._in_flight += piece
            heapq.heappush(self._unacknowledged, (arrives + self._back.delay, piece))
            self._last = at = max(self._last, arrives)
            if out and out[-1][0] == at:
                out[-1] = (at, out[-1][1] + piece)
            else:
                out.append((at, piece))
        return out

    def end(self, now: int) -> int:
        """When the end of the stream, sent now, is there."""
        self._last = max(self._last, self._delivered(0, now, tail=True))
        return self._last

    def _delivered(self, size: int, now: int, *, tail: bool) -> int:
        at = self._lane.segment(size, now)
        if at is not None:
            self._measured(at + self._back.delay - now, now)
            return at
        self._reduce(now)
        if not tail:
            wait = self._round_trip * 5 / 4
        else:
            wait = 2 * self._round_trip + (0 if self._in_flight else DELAYED_ACK)
        again = now + max(int(wait), NS // 1000)
        timeout = max(RTO_LEAST, int(2 * self._round_trip))
        for _ in range(MOST_TRIES):
            at = self._lane.again(size, again)
            if at is not None:
                return at
            again += timeout
            timeout *= 2
        return again + self._lane.delay

    def _measured(self, round_trip: int, now: int) -> None:
        self._round_trip += (round_trip - self._round_trip) / 8
        if now < self._round_ends:
            self._least = min(self._least, round_trip)
            return
        if self._least > self._queueing and self._window >= LOW_WINDOW:  # a queue stands all the round long
            self._threshold = min(self._threshold, self._window)
        self._least, self._round_ends = round_trip, now + round_trip

    def _reduce(self, now: int) -> None:
        if now >= self._reduced_until:
            self._threshold = self._window = max(2.0 * SEGMENT, min(self._window, self._in_flight + SEGMENT) / 2)
            self._reduced_until = now + int(self._round_trip)

    def _acknowledge(self, now: int) -> None:
        waiting = self._unacknowledged
        limited = 2 * self._in_flight >= self._window  # a window that is not used does not grow (RFC 7661)
        while waiting and waiting[0][0] <= now:
            _, size = heapq.heappop(waiting)
            self._in_flight -= size
            if limited:
                self._window += size if self._window < self._threshold else SEGMENT * size / self._window
        self._window = min(self._window, float(RECEIVER_WINDOW))
