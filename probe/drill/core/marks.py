"""The instants of a drill that everything else is counted from, out of its facts. Pure; ns of the runner's clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from probe.drill.core.facts import Did, DrillBegan, DrillEnded, DrillFact, FaultDid
from probe.model.clock import NS


@dataclass(slots=True)
class FaultMarks:
    """One fault: the first time that each was done or seen; `back` is the last time it was seen to be gone."""

    name: str
    kind: str
    targets: tuple[str, ...] = ()
    injecting: int | None = None
    injected: int | None = None
    seen: int | None = None
    restoring: int | None = None
    back: int | None = None
    vanished: bool = False
    by: str = ""
    trouble: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """`injecting`: from here on something may be broken. `seen`: the first fault was seen to be there. `restoring`: the last of
    them began to be put back. `restored`: all that were injected have been seen to be gone; None while one has not."""

    began: int
    ended: int
    faults: tuple[FaultMarks, ...]
    injecting: int | None
    seen: int | None
    restoring: int | None
    restored: int | None

    def when(self, began: int, ended: int) -> Literal["before", "meanwhile", "after"]:
        """before, meanwhile or after: what was over before anything was touched, what began once all was back, the rest."""
        if self.injecting is None or ended <= self.injecting:
            return "before"
        return "after" if self.restored is not None and began >= self.restored else "meanwhile"


def marks(facts: Sequence[DrillFact]) -> Marks:
    """Raises ValueError where the drill's beginning is not among them."""
    began = next((fact.at for fact in facts if isinstance(fact, DrillBegan)), None)
    if began is None:
        raise ValueError("not the facts of a drill: its beginning is missing")
    ended = next((fact.at for fact in facts if isinstance(fact, DrillEnded)), max(fact.at for fact in facts))
    faults: dict[str, FaultMarks] = {}
    for fact in facts:
        if isinstance(fact, FaultDid):
            _take(faults.setdefault(fact.fault, FaultMarks(fact.fault, fact.kind)), fact)
    touched = [fault for fault in faults.values() if fault.injecting is not None]
    back = [fault.back for fault in touched]
    return Marks(
        began=began,
        ended=ended,
        faults=tuple(faults.values()),
        injecting=_first(fault.injecting for fault in touched),
        seen=_first(fault.seen for fault in touched),
        restoring=max((fault.restoring for fault in touched if fault.restoring is not None), default=None),
        restored=None if not back or None in back else max(at for at in back if at is not None),
    )


def _take(fault: FaultMarks, fact: FaultDid) -> None:
    fault.targets = fact.targets or fault.targets
    match fact.did:
        case Did.INJECTING:
            fault.injecting = fault.injecting if fault.injecting is not None else fact.at
        case Did.INJECTED:
            fault.injected = fault.injected if fault.injected is not None else fact.at
        case Did.SEEN_INJECTED:
            fault.seen = fault.seen if fault.seen is not None else fact.at
        case Did.RESTORING:
            fault.restoring = fault.restoring if fault.restoring is not None else fact.at
            fault.by = fact.by
        case Did.SEEN_RESTORED | Did.GONE:
            fault.back, fault.by = fact.at, fact.by
            fault.vanished = fact.did is Did.GONE
        case Did.FAILED:
            fault.trouble.append(fact.detail)
        case Did.WILL:
            pass


def _first(times: Iterable[int | None]) -> int | None:
    return min((time for time in times if time is not None), default=None)


def seconds(ns: int) -> float:
    """To the microsecond."""
    return round(ns / NS, 6)


def since(at: Marks, when: int | None) -> float | None:
    """Seconds after the drill began."""
    return None if when is None else seconds(when - at.began)
