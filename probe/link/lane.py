"""What a network does to the packets of one way: a machine that is told of each and says when it comes out, if ever.

Pure: (size, now) in, times out, in the order of a real link: a bottleneck with a bounded first-in-first-out queue and tail
drop, then loss on the air, then delay. Chosen so:

- Rate: a token bucket of two full packets, counted with IP headers. The queue holds at most 250 ms at its rate (the rule of
  thumb of RFC 3439 section 2.1: one round trip's worth), and never more than QUEUE_PACKETS; a slow link's holds
  QUEUE_LEAST bytes at least, a keyframe's worth, as real modems do.
- Loss: Gilbert's chain with two states, as fitted to real traces by Hasslinger and Hohlfeld (2008): in the bad one every
  packet is lost, its mean stay is `burst` packets, and the share of packets in it is `loss`. `burst` 1 is independent loss.
- Jitter: delays wander (Ornstein-Uhlenbeck, correlation time WANDER) with standard deviation `jitter`, so that a frame's packets
  come together and nothing overtakes; never below zero. Overtaking is `reorder`'s: a share is held back HELD_BACK longer.
- Chance: one generator a way; the same number is drawn for every packet whatever its size, time or fate, so that the n-th
  packet's loss, duplicate and reordering depend on the seed alone.

Not modelled: fading rates, competing traffic, AQM, corruption.
"""

from __future__ import annotations

import math
import random
from collections import deque

from probe.link.traffic import Traffic, Way
from probe.plan import Network

NS = 1_000_000_000
HEADERS = {"udp": 28, "tcp": 40}  # IPv4 and UDP, IPv4 and TCP without options
BUCKET = 3_000
QUEUE_TIME = NS // 4
QUEUE_LEAST = 32_768
QUEUE_PACKETS = 1_000
WANDER = 20_000_000
HELD_BACK = 20_000_000


class Lane:
    """One way of one path, for datagrams and streams alike: they share its bottleneck and its loss."""

    def __init__(self, network: Network, way: Way, seed: int, traffic: Traffic) -> None:
        self.delay = network.delay
        self.traffic = traffic
        rate = network.rate_up if way is Way.UP else network.rate_down
        self._chance = random.Random(f"{seed} {way}")  # a text is hashed: ways and neighbouring seeds have nothing in common
        self._jitter = network.jitter
        self._reorder, self._duplicate = network.reorder, network.duplicate
        self._loss = network.loss
        # The share of packets in the bad state is p/(p+r), p into it and r out of it. Independent loss has runs of 1/(1-loss).
        self._bursty = network.loss < 1 and network.burst > 1 / (1 - network.loss)
        self._leave_bad = 1 / max(network.burst, 1.0)
        self._enter_bad = self._leave_bad * network.loss / (1 - network.loss) if self._bursty else 0.0
        self._bad = False
        self._slowness = 8 * NS / rate if rate else 0.0  # ns a byte
        self._longest = max(QUEUE_TIME, QUEUE_LEAST * self._slowness)
        self._idle_at = 0.0  # when what the bottleneck has taken so far will be through
        self._leaving: deque[float] = deque()  # of the packets in the queue
        self._wandering, self._wandered_at = 0.0, 0
        self._last = 0

    def datagram(self, size: int, now: int) -> tuple[int, ...]:
        """When a datagram of `size` bytes of payload comes out, ns: never (empty), once, or twice."""
        out, again = self._offer(size + HEADERS["udp"], now)
        if out is None:
            return ()
        if again:
            self.traffic.duplicated += 1
            return (out, out)
        return (out,)

    def segment(self, size: int, now: int) -> int | None:
        """When a stream's segment comes out, or None: lost, and to be sent `again`. A duplicate is the receiver's to drop."""
        return self._offer(size + HEADERS["tcp"], now)[0]

    def again(self, size: int, at: int) -> int | None:
        """The same, for a segment lost before that will be sent again at `at`."""
        self.traffic.resent += 1
        return self.later(size, at)

    def later(self, size: int, at: int) -> int | None:
        """The same, for a segment that will be sent at `at`, after now: what it will find then is not known. It takes its share
        of the rate at once and does not wait, and any burst of losses is over by then."""
        through = (size + HEADERS["tcp"]) * self._slowness
        self._idle_at += through
        if self._loss and self._chance.random() < self._loss:
            return None
        return at + int(through) + self._travel(at)

    def _offer(self, size: int, now: int) -> tuple[int | None, bool]:
        lost, chance = self._lost(), self._chance.random
        late = self._reorder > 0 and chance() < self._reorder
        twice = self._duplicate > 0 and chance() < self._duplicate
        travel = self._travel(now)
        left = self._through(size, now)
        if left is None:
            self.traffic.overflowed += 1
            return None, False
        if lost:
            self.traffic.lost += 1
            return None, False
        out = max(left + travel, self._last)
        if late:
            out += HELD_BACK
        else:
            self._last = out
        if out > now:
            self.traffic.delayed += 1
        return out, twice

    def _through(self, size: int, now: int) -> int | None:
        """When the bottleneck has let it through; None: the queue is full."""
        if not self._slowness:
            return now
        leaving = self._leaving
        while leaving and leaving[0] <= now:
            leaving.popleft()
        through = max(self._idle_at, now - BUCKET * self._slowness) + size * self._slowness
        if through - now > self._longest or len(leaving) >= QUEUE_PACKETS:
            return None
        self._idle_at = through
        if through <= now:
            return now
        leaving.append(through)
        return math.ceil(through)

    def _lost(self) -> bool:
        if not self._loss:
            return False
        draw = self._chance.random()
        if not self._bursty:
            return draw < self._loss
        self._bad = draw >= self._leave_bad if self._bad else draw < self._enter_bad
        return self._bad

    def _travel(self, now: int) -> int:
        if not self._jitter:
            return self.delay
        passed = max(0, now - self._wandered_at)
        self._wandered_at = max(now, self._wandered_at)
        kept = math.exp(-passed / WANDER)
        self._wandering = self._wandering * kept + math.sqrt(1 - kept * kept) * self._chance.gauss(0.0, 1.0)
        return max(0, self.delay + int(self._wandering * self._jitter))
