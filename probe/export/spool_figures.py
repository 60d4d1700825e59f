"""A spool's own figures as metrics: everything that went in is somewhere.

`put + recovered = done + dropped (by why) + waiting` holds for `self_spool_passed_total`, `self_spool_dropped_total` and
`self_spool_items` of one kind.
"""

from __future__ import annotations

from collections.abc import Iterable

from probe.export.families import Families
from probe.export.spool import LOST, Counts, Spool


class SpoolFigures:
    """Carries a spool's counts into metrics, under the spool's name; `whys` are what its user drops for, beyond the spool's."""

    def __init__(self, families: Families, spool: Spool, whys: Iterable[str] = ()) -> None:
        self._families = families
        self._spool = spool
        self._last = Counts(put=0, recovered=0, done=0, dropped={}, held=0)
        for outcome in ("put", "recovered", "done"):
            families.touch("self_spool_passed_total", {"kind": spool.name, "outcome": outcome})
        for why in (*LOST, *whys):
            families.touch("self_spool_dropped_total", {"kind": spool.name, "class": why})
        self.refresh()

    def refresh(self) -> None:
        """Call it now and then, from one thread."""
        now, last = self._spool.counts(), self._last
        kind = {"kind": self._spool.name}
        for outcome, more in (
            ("put", now.put - last.put),
            ("recovered", now.recovered - last.recovered),
            ("done", now.done - last.done),
        ):
            self._families.add("self_spool_passed_total", {**kind, "outcome": outcome}, more)
        for why, count in now.dropped.items():
            self._families.add("self_spool_dropped_total", {**kind, "class": why}, count - last.dropped.get(why, 0))
        self._families.set("self_spool_items", kind, now.held)
        self._families.set("self_spool_bytes", kind, self._spool.bytes)
        self._last = now
