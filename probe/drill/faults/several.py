"""One word on several targets of one fault.

Those that are gone neither hold it in nor keep it from being restored, as long as others are left. Where some are broken and
others not, it is neither injected nor restored: a half fault measures nothing, and a half undo is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from probe.drill.faults.base import Observed, State


def of_several(names: Sequence[str], looks: Sequence[Observed]) -> Observed:
    """`looks`: one for each of `names`, at least one."""
    states = {look.state for look in looks}
    told = [f"{name}: {look.detail}" for name, look in zip(names, looks, strict=True)]
    words = "; ".join(told[:3]) + (f"; and {len(told) - 3} more" if len(told) > 3 else "")
    if len(states - {State.GONE}) == 1 and State.UNKNOWN not in states:
        return Observed((states - {State.GONE}).pop(), words)
    return Observed(State.GONE if states == {State.GONE} else State.UNKNOWN, words)
