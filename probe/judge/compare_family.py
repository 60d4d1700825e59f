"""Many questions asked at once, and hardly ever a false alarm.

Forty questions at 2.5 % each would find something wrong with every healthy build. Here the chance that any of them is answered
"yes" by mistake is held at ALPHA for all together, by Holm's method (1979), and what could not be shown with so few runs in any
case costs nothing (Tarone 1990; the critical value of the remaining ones at each step, as Hommel and Krummenauer, 1998, have it).
Neither needs to know how the questions hang together, and they do: one slow login makes all that follows it late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALPHA = 0.025  # in each direction, for all questions together; and of each end of an interval


@dataclass(frozen=True, slots=True)
class Chance:
    """Of a one-sided test: how likely what was seen is under no difference, and the smallest that could have come out."""

    seen: float
    smallest: float


def shown(chances: Sequence[Chance]) -> set[int]:
    """The numbers of those that are shown."""
    left = set(range(len(chances)))
    found: set[int] = set()
    while left:
        critical = ALPHA / _divided([chances[i] for i in left])
        first = min(left, key=lambda i: (chances[i].seen, i))
        if chances[first].seen > critical:
            break
        left.discard(first)
        found.add(first)
    return found


def answerable(chances: Sequence[Chance]) -> set[int]:
    """The numbers of those that could be shown."""
    if not chances:
        return set()
    critical = ALPHA / _divided(chances)
    return {i for i, chance in enumerate(chances) if chance.smallest <= critical}


def _divided(chances: Sequence[Chance]) -> int:
    """Into how many parts ALPHA goes: the fewest, such that no more questions could be shown with one part than there are
    parts."""
    return next(k for k in range(1, len(chances) + 1) if sum(c.smallest <= ALPHA / k for c in chances) <= k)
