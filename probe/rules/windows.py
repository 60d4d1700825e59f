"""Over which windows a burning budget is looked for, and how fast it must burn there.

"Alerting on SLOs", chapter 5 of the SRE workbook: two windows, both above a factor times the budget; the long one says that it
matters, the short one that it still goes on. The factors there (14.4, 6, 3, 1) belong to 30 days. What stays the same for another
window is the share of the budget that is gone by then, so factors are made from shares: 2 % in an hour, 5 % in six, 10 % in a
day and in three. Of 7 days that makes 3.36 and 1.4.

Left out, and said: a pair that no loss can reach (factor × budget ≥ 1: not even a total one), one as long as the objective's
own window, and pages for what burns no faster than it may. For triage a factor below 1 is taken as 1: who burns slower than
the budget allows keeps the promise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from probe.model.clock import NS
from probe.rules.fleet import Severity

MINUTE, HOUR, DAY = 60 * NS, 3_600 * NS, 86_400 * NS
SHORTER = 12  # times, the short window of a pair
LADDER = tuple(
    minutes * MINUTE for minutes in (5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720, 1440, 2880, 4320)
)  # windows that are ever used: the fewer, the fewer series
_SHARES = (
    (Severity.P1, HOUR, 0.02),
    (Severity.P1, 6 * HOUR, 0.05),
    (Severity.P2, DAY, 0.10),
    (Severity.P2, 3 * DAY, 0.10),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """`why_not` says in words why it is left out; empty: it is used."""

    severity: Severity
    short: int
    long: int
    factor: float
    why_not: str = ""


def pairs(window: int, budget: float) -> Iterator[Pair]:
    """Of an objective with that window (ns) and that budget (share of runs that may be bad)."""
    for severity, long, share in _SHARES:
        factor = round(share * window / long, 4)
        if severity is Severity.P2:
            factor = max(1.0, factor)
        yield Pair(
            severity=severity, short=long // SHORTER, long=long, factor=factor, why_not=_why_not(window, budget, long, factor)
        )


def _why_not(window: int, budget: float, long: int, factor: float) -> str:
    if long >= window:
        return f"{prom(long)} is no part of an objective over {prom(window)}"
    if factor < 1:
        return f"{factor:g} × the budget is less than may burn: no page for that"
    if factor * budget >= 1:
        return f"{factor:g} × {budget:.4g} = {factor * budget:.3g} of all runs: more than all cannot fail"
    return ""


def at_least(wanted: int) -> int:
    """The smallest window in use that is no shorter."""
    return next((window for window in LADDER if window >= wanted), -(-wanted // DAY) * DAY)


def prom(window: int) -> str:
    """As Prometheus writes it, and recording rules in their names: `5m`, `6h`, `3d`."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if window % unit == 0:
            return f"{window // unit}{name}"
    return f"{window // NS}s"
