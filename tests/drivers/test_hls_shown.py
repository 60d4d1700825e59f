"""What is decoded ahead waits until it is shown, and wakes nobody before."""

from __future__ import annotations

from probe.clock import TestClock
from probe.drivers.hls_shown import Shown
from probe.media.feed import Feed
from probe.model.clock import NS
from probe.model.frames import Chirp


class Rung(Feed):
    def __init__(self, clock: TestClock) -> None:
        super().__init__(clock)
        self.rings = 0

    def ring(self) -> None:
        self.rings += 1
        super().ring()


def chirp(at: int) -> Chirp:
    return Chirp(shown=at, media_time=None, score=1.0)


async def test_what_is_held_wakes_nobody_and_what_falls_due_wakes_once():
    clock = TestClock()
    feed = Rung(clock)
    shown = Shown(feed, clock)
    for at in (1, 2, 9):
        shown.put(chirp(at * NS))
        shown.ring()
    assert (feed.rings, feed.waiting, shown.holding) == (0, False, True)
    clock.advance(3 * NS)
    shown.release(clock.now())
    assert feed.rings == 1
    assert [await feed.get(), await feed.get()] == [chirp(1 * NS), chirp(2 * NS)]
    shown.release(clock.now())
    assert (feed.rings, feed.waiting, shown.holding) == (1, False, True)


async def test_what_is_due_at_once_wakes_at_once():
    clock = TestClock(now=5 * NS)
    feed = Rung(clock)
    shown = Shown(feed, clock)
    shown.put(chirp(5 * NS))
    shown.ring()
    assert (feed.rings, feed.waiting) == (1, True)
