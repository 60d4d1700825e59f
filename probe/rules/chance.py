"""How many failures a condition takes, and how often chance alone brings so many together.

Runs that fail apart from each other at λ an hour are a Poisson process: the n-th failure within W hours of the first of them
comes λ · P(at least n - 1 in W) times an hour. That failures come in heaps is what alerts are for, and not modelled.
"""

from __future__ import annotations

import math

from probe.rules.conditions import Below, Burn
from probe.rules.windows import HOUR

MONTH_HOURS = 720.0


def false_pages(rate: float, budget: float, window: int, bad: int) -> float:
    """In 30 days, of one group with `rate` runs an hour that fail apart from each other, exactly as many as they may: how often
    `bad` of them come together within `window`."""
    often = rate * budget
    return often * MONTH_HOURS * _at_least(bad - 1, often * window / HOUR)


def _at_least(n: int, expected: float) -> float:
    """The chance of `n` or more where so many are expected (Poisson), summed from its larger end: e^-expected may be no float."""
    if n <= 0:
        return 1.0
    if n <= expected:
        return 1.0 - sum(_exactly(k, expected) for k in range(n))
    total, k, term = 0.0, n, _exactly(n, expected)
    while term > total * 1e-12:
        total += term
        k += 1
        term *= expected / k
    return total


def _exactly(n: int, expected: float) -> float:
    return math.exp(n * math.log(expected) - expected - math.lgamma(n + 1))


def failures(rate: float, budget: float, condition: Burn | Below) -> int:
    """How many runs must be bad before it is met, where all others of its window were good."""
    match condition:
        case Burn(long=window, factor=factor, bad=bad):
            share = factor * budget
        case Below(window=window, ratio=ratio, bad=bad):
            share = 1 - ratio
    return max(bad, math.floor(rate * window / HOUR * share + 1e-9) + 1)
