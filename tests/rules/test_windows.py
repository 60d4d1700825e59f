"""Burn rates belong to the objective's own window, and a pair that nothing can reach is none."""

import pytest

from probe.rules.fleet import Severity
from probe.rules.windows import DAY, HOUR, MINUTE, at_least, pairs, prom


def used(window: int, target: float) -> dict[str, float]:
    return {prom(pair.long): pair.factor for pair in pairs(window, 1 - target) if not pair.why_not}


@pytest.mark.parametrize(
    ("days", "factors"),
    [
        (30, {"1h": 14.4, "6h": 6.0, "1d": 3.0, "3d": 1.0}),
        (28, {"1h": 13.44, "6h": 5.6, "1d": 2.8, "3d": 1.0}),
        (7, {"1h": 3.36, "6h": 1.4, "1d": 1.0, "3d": 1.0}),
    ],
)
def test_factors_follow_the_window(days: int, factors: dict[str, float]) -> None:
    assert used(days * DAY, 0.995) == factors


def test_what_not_even_a_total_loss_reaches_is_left_out() -> None:
    assert list(used(30 * DAY, 0.94)) == ["1h", "6h", "1d", "3d"]
    assert list(used(30 * DAY, 0.93)) == ["6h", "1d", "3d"]
    assert list(used(30 * DAY, 0.83)) == ["1d", "3d"]
    assert list(used(30 * DAY, 0.6)) == ["3d"]


def test_nobody_is_woken_for_what_may_burn() -> None:
    told = {prom(pair.long): pair.why_not for pair in pairs(2 * DAY, 0.01) if pair.severity is Severity.P1}
    assert "no page for that" in told["1h"]
    assert "no page for that" in told["6h"]


def test_a_window_as_long_as_the_objectives_own_says_nothing() -> None:
    assert used(DAY, 0.99) == {}
    assert used(3 * DAY, 0.99) == {"1h": 1.44, "1d": 1.0}


def test_short_windows_are_a_twelfth() -> None:
    assert [prom(pair.short) for pair in pairs(30 * DAY, 0.01)] == ["5m", "30m", "2h", "6h"]


def test_windows_are_written_as_prometheus_reads_them() -> None:
    assert [prom(at) for at in (5 * MINUTE, 90 * MINUTE, HOUR, 3 * DAY, MINUTE // 2)] == ["5m", "90m", "1h", "3d", "30s"]


def test_windows_come_from_a_short_list() -> None:
    assert [at_least(at) for at in (1, 6 * MINUTE, HOUR, 3 * DAY + 1)] == [5 * MINUTE, 10 * MINUTE, HOUR, 4 * DAY]
