"""One continuous timeline from sources that know nothing of each other: each is laid on where it arrived.

A viewer has one of its own. A room's HLS windows share one, so that renditions, and both ways of HLS, have the same times.
"""

from __future__ import annotations

from probe.model.clock import NS
from probe.sandbox.unit import RATES, Unit

_SOURCES = 64


class Timeline:
    """`began`: monotonic ns of its 0; None: where the first unit arrives."""

    def __init__(self, began: int | None = None) -> None:
        self.began = began
        self._offsets: dict[tuple[str, str], int] = {}  # (source, kind) → ns

    def pts(self, unit: Unit) -> int:
        """The unit's pts on this timeline, in its kind's rate."""
        if self.began is None:
            self.began = unit.arrived
        key = (unit.source, "" if unit.synced else unit.kind)
        rate = RATES[unit.kind]
        if key not in self._offsets:
            while len(self._offsets) >= _SOURCES:
                del self._offsets[next(iter(self._offsets))]
            self._offsets[key] = unit.arrived - self.began - unit.pts * NS // rate
        return unit.pts + round(self._offsets[key] * rate / NS)
