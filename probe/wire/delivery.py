"""A second of a segmented player's life, folded into one Delivery: what the platform delivered, beside what was seen."""

from __future__ import annotations

from probe.model.clock import NS
from probe.model.observation import Delivery

EVERY = NS


class Meter:
    """One per session; pure, instants in monotonic ns. `backwards` is cumulative; counts are told by the second."""

    def __init__(self) -> None:
        self._reloads = 0
        self._discontinuities = 0
        self._backwards = 0
        self._backwards_told = 0
        self._gap: float | None = None
        self._last: int | None = None

    def reloaded(self, backwards: int) -> None:
        self._reloads += 1
        self._backwards = backwards

    def discontinuity(self) -> None:
        self._discontinuities += 1

    def came(self, at: int, duration: float) -> None:
        """The next part or segment, of so many seconds, was there."""
        if self._last is not None:
            self._wait((at - self._last) / NS - duration)
        self._last = at

    def rested(self) -> None:
        """What is there is not asked for: the buffer is full, or play jumped."""
        self._last = None

    def tick(
        self, now: int, *, pace: float, unmoved: float, live_latency: float | None, buffered: float | None
    ) -> Delivery:  # fmt: skip
        """The second that ends. `pace`: seconds in which the next part or segment should come. All in seconds."""
        if self._last is not None and (waiting := (now - self._last) / NS - pace) > 0:
            self._wait(waiting)
        told = Delivery(
            at=now,
            reloads=self._reloads,
            discontinuities=self._discontinuities,
            backwards=self._backwards - self._backwards_told,
            unmoved=unmoved,
            part_gap=self._gap,
            live_latency=live_latency,
            buffered=buffered,
        )
        self._reloads = self._discontinuities = 0
        self._backwards_told = self._backwards
        self._gap = None
        return told

    def _wait(self, gap: float) -> None:
        self._gap = max(self._gap or 0.0, gap)
