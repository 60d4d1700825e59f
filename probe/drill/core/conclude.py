"""What a drill comes to. Pure: what was told of faults, promises and goals gives one verdict, and the reason in words.

The order is that of what must not be overlooked. A fault that is still there beats all. What ended the drill early (never seen
injected, an abort, no steady state) comes next: nothing after it was looked at as it was meant to be. Of what was looked at, what
was not kept is a weakness, and only where none is certain does something that could not be told make it inconclusive: a weakness
seen is a weakness, however little else is known. No data passes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from probe.drill.core.facts import Verdict


class Fate(StrEnum):
    """Where a fault stands. Willed: it is in the ledger, and from then on something may be broken."""

    PLANNED = "planned"
    WILLED = "willed"  # being injected
    INJECTED = "injected"  # the call came back; not seen yet
    HELD = "held"  # seen to be there
    RESTORING = "restoring"
    RESTORED = "restored"  # seen to be gone
    GONE = "gone"  # its target is no more, and the fault with it
    NOT_RESTORED = "not_restored"

    @property
    def over(self) -> bool:
        """Nothing is broken by it, or it is said that something still is."""
        return self in (Fate.PLANNED, Fate.RESTORED, Fate.GONE, Fate.NOT_RESTORED)


@dataclass(frozen=True, slots=True)
class Told:
    """The answer to a condition: met, not met, or (None) not to be said."""

    met: bool | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a drill ended before its end."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Ending:
    """One fault: whether it was ever seen to be there, and where it stands now; `why` where it was not put back."""

    fault: str
    fate: Fate
    seen: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A promise for the time of the fault, or a goal for the time after it: `told` is what it came to."""

    words: str
    told: Told


def conclude(
    cause: Cause | None, faults: Sequence[Ending], promises: Sequence[Kept], goals: Sequence[Kept]
) -> tuple[Verdict, str]:
    """The verdict and its reason."""
    left = [one for one in faults if not one.fate.over or one.fate is Fate.NOT_RESTORED]
    if left:
        return Verdict.NOT_RESTORED, "; ".join(f"{one.fault}: {one.why or 'not seen to be gone'}" for one in left)
    if cause is not None:
        return cause.verdict, cause.reason
    if unseen := [one.fault for one in faults if not one.seen]:
        return Verdict.INVALID, f"{', '.join(unseen)}: never seen to be injected"
    if not faults or not goals:
        return Verdict.INVALID, "nothing was broken" if not faults else "nothing was to recover"
    broken = [f"not kept while it was broken: {_words(one)}" for one in promises if one.told.met is False]
    broken += [f"not recovered: {_words(one)}" for one in goals if one.told.met is False]
    if broken:
        return Verdict.WEAKNESS, "; ".join(broken)
    if untold := [_words(one) for one in (*promises, *goals) if one.told.met is None]:
        return Verdict.INCONCLUSIVE, f"could not be told: {'; '.join(untold)}"
    return Verdict.PASS, "; ".join(dict.fromkeys(one.told.reason or one.words for one in goals))


def _words(one: Kept) -> str:
    return f"{one.words} ({one.told.reason})" if one.told.reason and one.told.reason != one.words else one.words
