"""Exit codes, stable from the first day: 0 go, 1 no-go, 2 bad configuration, 3 inconclusive, 4 internal error, 5 a fault was
not restored, 128 + signal. Of a drill: 0 pass, 1 weakness, 3 inconclusive, invalid or aborted, 5 not restored."""

from __future__ import annotations

from probe.drill.core import facts
from probe.model.verdict import Verdict

WEAKNESS = 1
BAD_CONFIGURATION = 2
INCONCLUSIVE = 3
INTERNAL_ERROR = 4
NOT_RESTORED = 5

_BY_VERDICT = {Verdict.PASS: 0, Verdict.WARN: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 3}


def of_verdict(verdict: Verdict) -> int:
    """pass and warn are go; what could not be told is neither."""
    return _BY_VERDICT[verdict]


def of_drill(verdict: facts.Verdict) -> int:
    """Only a pass is 0."""
    known = {facts.Verdict.PASS: 0, facts.Verdict.WEAKNESS: WEAKNESS, facts.Verdict.NOT_RESTORED: NOT_RESTORED}
    return known.get(verdict, INCONCLUSIVE)


def of_signal(number: int) -> int:
    return 128 + number
