"""Whether a gate is open: `when`, `for` and `resume` over time. Pure: a state, what was seen, and the time give the next state.

A gate closes once `when` has been seen to hold for its `for`, without a break, and opens once `resume` has for its own. A look
that found nothing out breaks what was held, and so does a pause between two looks: who was not looking has not seen it hold. A
closed gate stays closed until it has been *seen* that it may open: no data never opens one. Where both expressions hold at once
(a `resume` that is the weaker one) the gate stays as it is.

Open is pass where `when` is known not to be so, and while it has been so for too short a time. But where nothing was known before
that the gate is inconclusive: who waits for data is not to be let through by the first of it, which is bad.

Closed is fail, or warn where the gate's severity says so. A closed gate of which nothing is known now is still fail: what closed
it was seen, and who acts on it (a rollback under way, a campaign that is paused) must not be told to think again. One whose
severity is warn is inconclusive then: warn lets through, and nothing gets through on no data.

A gate whose past is not known (the records were away when the agent began) may have been closed: it passes once `resume` was met.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from probe.judge.reading import Reading
from probe.model.clock import NS
from probe.model.verdict import Verdict
from probe.scenario.schema import Gate

GAP = 60 * NS  # between two looks, after which nothing has been held


class Position(StrEnum):
    UNKNOWN = "unknown"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Held:
    """`since` when it stands where it stands; `towards` where it would go, and since when (`holding`) all that was seen said so;
    `looked` last. All ns of one monotonic clock."""

    position: Position = Position.OPEN
    since: int = 0
    towards: Position | None = None
    holding: int = 0
    looked: int | None = None
    clear: bool = False  # `when` was seen not to be so, and ever since it was known


def step(held: Held, gate: Gate, reading: Reading, now: int) -> Held:
    """The state after a look at `now`; an earlier `now` than the last look's is taken for that."""
    now = now if held.looked is None else max(now, held.looked)
    towards = _towards(held.position, reading)
    broken = held.looked is not None and now - held.looked > GAP
    clear = reading.when.met is False or (reading.when.met is True and held.clear and not broken)
    if towards is None:
        return replace(held, towards=None, holding=0, looked=now, clear=clear)
    holding = held.holding if towards is held.towards and not broken else now
    if now - holding >= hold(gate, towards):
        return Held(towards, now, None, 0, now, clear)
    return replace(held, towards=towards, holding=holding, looked=now, clear=clear)


def _towards(position: Position, reading: Reading) -> Position | None:
    closing, opening = reading.when.met is True, reading.resume.met is True
    if closing is opening:
        return None
    to = Position.CLOSED if closing else Position.OPEN
    return None if to is position else to


def hold(gate: Gate, to: Position) -> int:
    """ns for which what would open or close it must hold. Without `resume` it opens as slowly as it closes."""
    expression = gate.when if to is Position.CLOSED or gate.resume is None else gate.resume
    return expression.hold or 0


def verdict(held: Held, gate: Gate, reading: Reading) -> Verdict:
    """What the gate says."""
    known = reading.when.met is not None
    if held.position is Position.CLOSED:
        if gate.severity == "fail":
            return Verdict.FAIL
        return Verdict.WARN if known else Verdict.INCONCLUSIVE
    return Verdict.PASS if held.clear and held.position is Position.OPEN else Verdict.INCONCLUSIVE


@dataclass(frozen=True, slots=True)
class Override:
    """Somebody's word in place of the rule's, until Unix ns `until`. It lets through on no data too: somebody answers for it."""

    passes: bool
    since: int
    until: int
    who: str
    why: str

    def holds(self, unix_ns: int) -> bool:
        return unix_ns < self.until

    @property
    def verdict(self) -> Verdict:
        return Verdict.PASS if self.passes else Verdict.FAIL

    @property
    def position(self) -> Position:
        return Position.OPEN if self.passes else Position.CLOSED
