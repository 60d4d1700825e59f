"""The sender's half of SRT in live mode: kept until acknowledged, sent again when asked for, given up when too late
(draft-sharabayko-srt-01 sections 4.5.1, 4.6, 4.8.2).

Pacing is simple: at most 32 datagrams in 5 ms (67 Mbit/s), what was asked for again first. Not attempted: sending again
unasked (nor does libsrt's live mode: what follows shows that an end was lost), congestion control beyond the receiver's window,
bonding.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from probe.model.clock import MS, NS
from probe.wire.srt.keys import EVEN, Keys
from probe.wire.srt.packets import SEQUENCES, Ack, Data, Unroll

KEPT = 8192  # packets, sent or waiting
PAYLOAD = 1456
_BURST, _BURST_EVERY = 32, 5 * MS
_TOO_LATE = NS  # at least; the receiver's latency where that is more
_MARGIN = 20 * MS


@dataclass(slots=True)
class Sent:
    """Packets, cumulative. `acknowledged`: all those before this one have arrived or were given up by the receiver."""

    packets: int = 0
    bytes: int = 0
    resent: int = 0
    lost: int = 0  # reported by the receiver
    dropped: int = 0
    acknowledged: int = 0


@dataclass(slots=True)
class _Kept:
    payload: bytes
    given: int
    sent: int = 0
    key: int = 0


class Sender:
    """`began`: our clock at our own zero, ns."""

    def __init__(self, first: int, peer: int, began: int, latency: int, window: int, keys: Keys | None) -> None:
        self.count = Sent()
        self.rtt: int | None = None
        self._sequence = Unroll(first)
        self._peer, self._began = peer, began
        self._too_late = max(latency, _TOO_LATE) + _MARGIN
        self._window = self._room = max(2, window)
        self._keys = keys
        self._kept: dict[int, _Kept] = {}  # by place, in order and without holes
        self._next = 0  # the place of the next packet given
        self._unsent = 0  # the first place not sent yet
        self._asked: deque[int] = deque()
        self._asked_for: set[int] = set()
        self._burst = (0, 0)

    def give(self, payload: bytes, now: int) -> None:
        """One message of at most 1456 bytes."""
        self._expire(now)
        if len(self._kept) >= KEPT:
            self._forget(next(iter(self._kept)))
            self.count.dropped += 1
        key = 0
        if self._keys is not None:
            key, payload = EVEN, self._keys.crypt(EVEN, self._sequence.roll(self._next), payload)
        self._kept[self._next] = _Kept(payload, now, key=key)
        self._next += 1

    def emit(self, now: int) -> list[bytes]:
        """Datagrams that may go now."""
        self._expire(now)
        began, count = self._burst
        if now - began >= _BURST_EVERY:
            began, count = now, 0
        out: list[bytes] = []
        while count < _BURST:
            datagram = self._again(now) or self._fresh(now)
            if datagram is None:
                break
            out.append(datagram)
            count += 1
        self._burst = (began, count)
        return out

    def acked(self, ack: Ack) -> bool:
        """Whether it says more than those before."""
        place = self._sequence(ack.sequence)
        if not 0 <= place <= self._unsent:
            return False
        if ack.rtt is not None:
            self.rtt = ack.rtt * 1000
            self._room = max(2, min(ack.room or 0, self._window))
        if place <= self.count.acknowledged:
            return False
        while self._kept and (oldest := next(iter(self._kept))) < place:
            self._forget(oldest)
        self.count.acknowledged = place
        self._sequence.moved(place)
        return True

    def lost(self, first: int, last: int) -> tuple[int, int] | None:
        """The receiver asks for these again; returns those that are gone for good, which it should be told."""
        begin, end = self._sequence(first), self._sequence(last)
        begin = max(begin, self.count.acknowledged)
        if not begin <= end < self._unsent:
            return None
        self.count.lost += end - begin + 1
        oldest = next(iter(self._kept), self._next)
        for place in range(max(begin, oldest), end + 1):
            if place not in self._asked_for:
                self._asked_for.add(place)
                self._asked.append(place)
        return (self._sequence.roll(begin), self._sequence.roll(min(end, oldest - 1))) if begin < oldest else None

    def next_timer(self) -> int | None:
        if self._asked or (self._unsent < self._next and self._unsent - self.count.acknowledged < self._room):
            began, count = self._burst
            return began + _BURST_EVERY if count >= _BURST else began
        return None

    @property
    def given(self) -> int:
        """Packets given so far, sent or not."""
        return self._next

    def _again(self, now: int) -> bytes | None:
        while self._asked:
            place = self._asked.popleft()
            self._asked_for.discard(place)
            kept = self._kept.get(place)
            if kept is None or now - kept.sent < (self.rtt or 0) // 2:
                continue
            self.count.resent += 1
            return self._packet(place, kept, now, again=True)
        return None

    def _fresh(self, now: int) -> bytes | None:
        while self._unsent < self._next and self._unsent - self.count.acknowledged < self._room:
            place = self._unsent
            self._unsent += 1
            kept = self._kept.get(place)
            if kept is not None:
                self.count.packets += 1
                self.count.bytes += len(kept.payload)
                return self._packet(place, kept, now, again=False)
        return None

    def _packet(self, place: int, kept: _Kept, now: int, again: bool) -> bytes:
        kept.sent = now
        timestamp = (kept.given - self._began) // 1000
        number = place % 0x3FF_FFFF + 1
        return Data(self._sequence.roll(place), number, timestamp, self._peer, kept.payload, kept.key, again).encode()

    def _expire(self, now: int) -> None:
        while self._kept:
            place = next(iter(self._kept))
            if now - self._kept[place].given <= self._too_late:
                return
            self._forget(place)
            self.count.dropped += 1

    def _forget(self, place: int) -> None:
        self._kept.pop(place, None)
        self._asked_for.discard(place)


assert KEPT < SEQUENCES // 2
