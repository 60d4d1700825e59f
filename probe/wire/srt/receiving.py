"""The receiver's half of SRT: put in order, asked for again, let go at its time (draft-sharabayko-srt-01 sections 4.5–4.8).

A packet is released at the instant its sender stamped it, on the sender's clock as the handshake showed it, plus the agreed
latency; what is still missing when its successor is due is dropped, counted, never waited for. The sender's clock is followed
by the acknowledgements it acknowledges. Not attempted: a tolerance for reordering before loss is reported; live mode has none.
"""

from __future__ import annotations

from dataclasses import dataclass

from probe.model.clock import MS, NS
from probe.wire.srt.packets import Ack, Data, Unroll

WINDOW = 8192  # packets held
ACK_EVERY = 10 * MS
LIGHT_ACK = 64  # packets that are acknowledged at once, without waiting for the next full one
_NAK_LEAST = 20 * MS
_OFF = NS  # a stamp so much ahead of our clock is not believed
_OLDEST = 10 * NS
_SAMPLES = 1000  # of the sender's clock, before it is followed
_UNANSWERED = 256  # acknowledgements whose answer is still awaited
_RUNS = 300  # of losses in one report: it must fit a datagram
_STAMPS = 1 << 32


@dataclass(slots=True)
class Received:
    """Packets, cumulative. `lost`: found missing; `recovered`: came after that; `dropped`: given up."""

    packets: int = 0
    bytes: int = 0
    lost: int = 0
    recovered: int = 0
    dropped: int = 0
    repeated: int = 0  # came twice, or when it had been given up
    refused: int = 0  # no room


class Receiver:
    """`base`: our clock at the sender's zero, ns. `latency` in ns. The round trip begins at 100 ms (section 4.10)."""

    def __init__(self, first: int, latency: int, base: int, now: int) -> None:
        self.count = Received()
        self.rtt, self.rtt_variance = 100 * MS, 50 * MS
        self.rebased = self.measured = False
        self._latency, self._base = latency, base
        self._sequence = Unroll(first)
        self._stamp = Unroll(0, _STAMPS)
        self._head = 0  # the next to let go
        self._whole = 0  # everything before it has come or was given up
        self._beyond = 0  # one after the highest that came
        self._held: dict[int, tuple[int, bytes]] = {}
        self._lowest: int | None = None  # of what is held, where known: to look for it is to walk over all that is missing
        self._missing: dict[int, None] = {}
        self._nak_at = 0
        self._acked = 0  # the place last acknowledged
        self._acked_at = now
        self._ack_number = 0
        self._ack_sent: dict[int, int] = {}
        self._confirmed = 0  # acknowledged and known to be
        self._ack_places: dict[int, int] = {}
        self._drift: list[int] = []
        self._drift_rtt: int | None = None
        self._rate = (now, 0, 0)
        self._speed = (0, 0)

    def take(self, packet: Data, now: int) -> list[tuple[int, int]]:
        """One data packet, deciphered; returns what is found missing by it, to be reported at once."""
        place = self._sequence(packet.sequence)
        if not self.count.packets and place - self._head >= WINDOW:  # it begins elsewhere than it said
            self._sequence = Unroll(packet.sequence)
            place = 0
        self.count.packets += 1
        self.count.bytes += len(packet.payload)
        if place < self._head or place in self._held:
            self.count.repeated += 1
            return []
        if place - self._head >= WINDOW:
            self.count.refused += 1
            return []
        if not self._held or (self._lowest is not None and place < self._lowest):
            self._lowest = place
        self._held[place] = (self._due(packet.timestamp, now), packet.payload)
        gap: list[tuple[int, int]] = []
        if place >= self._beyond:
            if place > self._beyond:
                self.count.lost += place - self._beyond
                self._missing.update(dict.fromkeys(range(self._beyond, place)))
                gap = [(self._sequence.roll(self._beyond), self._sequence.roll(place - 1))]
                self._nak_at = now + self._nak_every
            self._beyond = place + 1
            self._sequence.moved(place)
        elif place in self._missing:
            del self._missing[place]
            self.count.recovered += 1
        self._extend()
        return gap

    def release(self, now: int) -> list[tuple[bytes, int]]:
        """(payload, when it was due) of all whose time has come, in order."""
        out: list[tuple[bytes, int]] = []
        while self._held:
            first = self._first()
            due, payload = self._held[first]
            if due > now:
                break
            if first > self._head:
                self._give_up(first)
            del self._held[first]
            self._head, self._lowest = first + 1, None
            out.append((payload, due))
        self._extend()
        return out

    def given_up(self, first: int, last: int) -> None:
        """The sender has dropped these (DROPREQ)."""
        begin, end = self._sequence(first), self._sequence(last)
        if begin <= self._beyond and self._head <= end < self._head + WINDOW:
            for place in [m for m in self._missing if begin <= m <= end]:
                del self._missing[place]

    def ack(self, now: int) -> tuple[int, Ack] | None:
        """The acknowledgement that is due, numbered, if one is."""
        if not self._owed(now):
            return None
        self._measure(now)
        self._acked, self._acked_at = self._whole, now
        self._ack_number = self._ack_number % 0xFFFF_FFFF + 1
        self._ack_sent[self._ack_number] = now
        self._ack_places[self._ack_number] = self._whole
        for sent in (self._ack_sent, self._ack_places):
            while len(sent) > _UNANSWERED:
                del sent[next(iter(sent))]
        return self._ack_number, Ack(
            sequence=self._sequence.roll(self._whole),
            rtt=self.rtt // 1000,
            rtt_variance=self.rtt_variance // 1000,
            room=max(2, WINDOW - len(self._held)),
            packets_per_second=self._speed[0],
            bytes_per_second=self._speed[1],
        )

    def light_ack(self) -> Ack | None:
        """When much has come since the last full one."""
        if self._whole - self._acked < LIGHT_ACK:
            return None
        self._acked = self._whole
        return Ack(sequence=self._sequence.roll(self._whole))

    def ack_acked(self, number: int, timestamp: int, now: int) -> None:
        """The answer to acknowledgement `number`: a round trip, and the sender's clock."""
        sent = self._ack_sent.pop(number, None)
        if sent is None:
            return
        self._confirmed = max(self._confirmed, self._ack_places.pop(number))
        trip = now - sent
        if not self.measured:
            self.rtt, self.rtt_variance, self.measured = trip, trip // 2, True
        else:
            self.rtt_variance += (abs(trip - self.rtt) - self.rtt_variance) // 4
            self.rtt += (trip - self.rtt) // 8
        self._follow(timestamp, now, trip)

    def overdue(self, now: int) -> list[tuple[int, int]]:
        """What is still missing, to be reported again; empty when that is not due."""
        if not self._missing or now < self._nak_at:
            return []
        self._nak_at = now + self._nak_every
        runs: list[tuple[int, int]] = []
        begin = last = None
        for place in sorted(self._missing):
            if last is not None and place == last + 1:
                last = place
                continue
            if begin is not None and last is not None:
                runs.append((self._sequence.roll(begin), self._sequence.roll(last)))
            begin = last = place
            if len(runs) >= _RUNS:
                return runs
        assert begin is not None and last is not None
        return [*runs, (self._sequence.roll(begin), self._sequence.roll(last))]

    def next_timer(self) -> int | None:
        times = []
        if self._held:
            times.append(self._held[self._first()][0])
        if self._missing:
            times.append(self._nak_at)
        if self._whole > self._acked:
            times.append(self._acked_at + ACK_EVERY)
        elif self._whole > self._confirmed and self._acked_at:
            times.append(self._acked_at + self._patience)
        return min(times, default=None)

    # --

    @property
    def _nak_every(self) -> int:
        return max(_NAK_LEAST, (self.rtt + 4 * self.rtt_variance) // 2)

    @property
    def _patience(self) -> int:
        """How long an acknowledgement may go unanswered before it is sent again."""
        return max(ACK_EVERY, self.rtt + 4 * self.rtt_variance)

    def _owed(self, now: int) -> bool:
        if self._whole > self._acked:
            return now >= self._acked_at + ACK_EVERY
        return self._whole > self._confirmed and now >= self._acked_at + self._patience

    def _due(self, timestamp: int, now: int) -> int:
        stamp = self._stamp(timestamp)
        self._stamp.moved(stamp)
        sent = self._base + stamp * 1000
        if self.count.packets == 1 and not now - _OLDEST <= sent <= now + _OFF:
            self.rebased, self._base, sent = True, now - stamp * 1000, now  # its stamps have nothing to do with its handshake's
        return max(now, min(sent, now + _OFF) + self._latency)

    def _first(self) -> int:
        if self._lowest is None:
            place = self._head
            while place not in self._held:
                place += 1
            self._lowest = place
        return self._lowest

    def _give_up(self, until: int) -> None:
        self.count.dropped += until - self._head
        for place in range(self._head, until):
            self._missing.pop(place, None)
        self._head = until
        self._whole = max(self._whole, until)

    def _extend(self) -> None:
        self._whole = max(self._whole, self._head)
        while self._whole in self._held:
            self._whole += 1

    def _measure(self, now: int) -> None:
        began, packets, size = self._rate
        if now - began >= NS:
            self._speed = (
                (self.count.packets - packets) * NS // (now - began), (self.count.bytes - size) * NS // (now - began)
            )  # fmt: skip
            self._rate = (now, self.count.packets, self.count.bytes)

    def _follow(self, timestamp: int, now: int, trip: int) -> None:
        if self._drift_rtt is None:
            self._drift_rtt = trip
        stamp = self._stamp(timestamp)
        self._drift.append(now - (self._base + stamp * 1000) - (trip - self._drift_rtt) // 2)
        if len(self._drift) >= _SAMPLES:
            drift = sorted(self._drift)[_SAMPLES // 2]
            if abs(drift) < _OFF:
                self._base += drift
            self._drift.clear()
