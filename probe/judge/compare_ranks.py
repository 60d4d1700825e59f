"""Is one set of numbers larger than another, when there are few? Ranks, exactly.

Wilcoxon 1945, Mann and Whitney 1947: under no difference each way of dealing the pooled values to the two sides is as likely as
any other, whatever their distribution, so the chance of a rank sum is counted, not approximated; ties have their mean rank and
are counted with it. The difference itself is Hodges and Lehmann's (1963): the median of all differences between a value of one
side and one of the other, with the interval of Moses that goes with the test (Hollander and Wolfe, ch. 4.3). Start times are
skewed and have outliers: a t-test on five of them would be a guess.

The counting is a product of polynomials in one big integer a subset size, so that 30 against 30 take milliseconds. Beyond that
the normal approximation with corrections for ties and continuity, which is good by then and errs towards no difference in the
tail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from statistics import NormalDist, median

_EXACT_TOTAL = 60
_EXACT_SMALLER = 8  # the smaller side, whatever the other
_NORMAL = NormalDist()


def chance_larger(after: Sequence[float], before: Sequence[float]) -> float:
    """The chance, under no difference, that `after` ranks as high among both as it does, or higher. One-sided."""
    doubled = _doubled_ranks([*after, *before])
    n, total = len(after), len(doubled)
    seen = sum(doubled[:n])
    if total > _EXACT_TOTAL and min(n, total - n) > _EXACT_SMALLER:
        return _normal_tail(doubled, n, seen)
    if n <= total - n:
        return _tail(doubled, n, seen)
    # The fewer the picked, the fewer the products: the other side ranks as low, mirrored.
    mirrored = [2 * total + 2 - rank for rank in doubled]
    return _tail(mirrored, total - n, sum(mirrored[n:]))


def smallest_chance(n: int, m: int) -> float:
    """What `chance_larger` says of n values all above m others."""
    return 1 / math.comb(n + m, n)


def shift(after: Sequence[float], before: Sequence[float], alpha: float) -> tuple[float, float | None, float | None]:
    """By how much `after` is larger (Hodges–Lehmann), and the interval that holds the true shift with 1 − 2·alpha or more; None,
    None where there are too few values for one."""
    differences = sorted(a - b for a in after for b in before)
    cut = _rank_of_bound(len(after), len(before), alpha)
    middle = median(differences)
    return (middle, differences[cut - 1], differences[-cut]) if cut else (middle, None, None)


def pairs(after: Sequence[float], before: Sequence[float]) -> tuple[int, int]:
    """Of all pairs, those in which the one of `after` is the larger; and all."""
    return sum(a > b for a in after for b in before), len(after) * len(before)


@lru_cache(maxsize=1024)
def _rank_of_bound(n: int, m: int, alpha: float) -> int:
    """The largest c for which U < c has a chance of at most alpha, under no difference and without ties."""
    if n + m > _EXACT_TOTAL and min(n, m) > _EXACT_SMALLER:
        spread = math.sqrt(n * m * (n + m + 1) / 12)
        return max(0, math.floor(n * m / 2 + _NORMAL.inv_cdf(alpha) * spread))
    n, m = min(n, m), max(n, m)
    width = n + m + 1
    counts = _subset_sums(range(n + m), n, width)
    counts >>= width * (n * (n - 1) // 2)  # field u: subsets with U = u
    most, mask, below, c = alpha * math.comb(n + m, n), (1 << width) - 1, 0, 0
    while (below := below + (counts & mask)) <= most:
        counts >>= width
        c += 1
    return c


def _doubled_ranks(values: Sequence[float]) -> list[int]:
    """Mid-ranks from 1, doubled, so that they are whole numbers; in the order of the values."""
    ranks = [0] * len(values)
    at = 0
    order = sorted(range(len(values)), key=values.__getitem__)
    for _, alike in groupby(order, key=values.__getitem__):
        places = list(alike)
        for place in places:
            ranks[place] = 2 * at + len(places) + 1
        at += len(places)
    return ranks


def _tail(weights: Sequence[int], n: int, least: int) -> float:
    """Share of the subsets of size n whose sum is `least` or more."""
    low = min(weights)
    step = math.gcd(*(weight - low for weight in weights)) or 1  # 2 where there are no ties
    width = len(weights) + 1  # bits of a field: no count reaches 2 ** len(weights)
    counts = _subset_sums([(weight - low) // step for weight in weights], n, width) >> (width * ((least - n * low) // step))
    return counts % ((1 << width) - 1) / math.comb(len(weights), n)  # the sum of all fields


def _subset_sums(weights: Sequence[int], n: int, width: int) -> int:
    """Fields of `width` bits: in field s, how many subsets of size n have the sum s."""
    counts = [1] + [0] * n
    for place, weight in enumerate(weights):
        for size in range(min(n, place + 1), max(0, n - len(weights) + place), -1):  # what can still come to n
            counts[size] += counts[size - 1] << (width * weight)
    return counts[n]


def _normal_tail(doubled: Sequence[int], n: int, seen: int) -> float:
    total = len(doubled)
    mean = n * (total + 1)
    ties = sum(count**3 - count for count in (len(list(alike)) for _, alike in groupby(sorted(doubled))))
    spread = 2 * math.sqrt(n * (total - n) / 12 * (total + 1 - ties / (total * (total - 1))))
    return 1.0 if spread == 0 else 1 - _NORMAL.cdf((seen - 1 - mean) / spread)
