"""Are fewer runs good than before, when there are few? Exact chances, and an interval that holds at 0 and 100 %.

Fisher's exact test (1935), one-sided: given how many runs were bad in all, how likely is it that so many of them fell to one
side? Barnard's test would find a little more on the smallest samples, at a price in explanation. The interval of the difference
is Newcombe's of 1998 (method 10): Wilson's (1927) of each share, put together; unlike p ± 1.96 s it does not shrink to nothing
where every run was good.
"""

from __future__ import annotations

import math
from statistics import NormalDist


def chance_of_fewer(good_after: int, after: int, good_before: int, before: int) -> float:
    """The chance, under no difference, of as few good ones among `after` as there are, or fewer. One-sided."""
    bad = after - good_after + before - good_before
    most = min(bad, after)
    ways = sum(math.comb(after, k) * math.comb(before, bad - k) for k in range(after - good_after, most + 1))
    return ways / math.comb(after + before, bad)


def smallest_chance(bad: int, after: int, before: int) -> float:
    """What `chance_of_fewer` says at worst, of so many bad ones in all."""
    fallen = min(bad, after)
    return math.comb(after, fallen) * math.comb(before, bad - fallen) / math.comb(after + before, bad)


def interval_of_difference(good_after: int, after: int, good_before: int, before: int, alpha: float) -> tuple[float, float]:
    """Share of good ones after minus before: holds the true difference with about 1 − 2·alpha."""
    z = -NormalDist().inv_cdf(alpha)
    p, q = good_after / after, good_before / before
    (p_low, p_high), (q_low, q_high) = _wilson(good_after, after, z), _wilson(good_before, before, z)
    return (
        p - q - math.hypot(p - p_low, q_high - q),
        p - q + math.hypot(p_high - p, q - q_low),
    )


def _wilson(good: int, n: int, z: float) -> tuple[float, float]:
    p = good / n
    middle, reach = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)
