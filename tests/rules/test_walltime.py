"""Windows of wall time come to the very moments that Alertmanager's rule names, whatever the clocks do."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from probe.rules.walltime import Window, between, joined, spans, weekly, without, year

ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Auckland",
    "Africa/Casablanca", "America/Sao_Paulo",
]  # fmt: skip
BEGIN, END = year(int(datetime(2026, 5, 5, tzinfo=UTC).timestamp()))
TIMES = st.integers(0, 1440)
WINDOWS = st.builds(
    lambda tz, a, b, days: Window(tz, min(a, b), max(a, b), tuple(sorted(days))),
    st.sampled_from(ZONES),
    TIMES,
    TIMES,
    st.sets(st.integers(0, 6), min_size=1),
)
MOMENTS = st.one_of(
    st.integers(BEGIN, END - 1),
    # days on which some clock is changed
    st.builds(
        lambda day, second: int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) + second,
        st.sampled_from(["2026-03-08", "2026-03-29", "2026-04-04", "2026-10-25", "2026-11-01", "2026-10-03", "2027-03-28"]),
        st.integers(0, 86_399),
    ),
)
SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)).map(lambda p: (p[0], p[0] + p[1])))


def rule(window: Window, at: int) -> bool:
    """timeinterval.go: the wall clock's minute, its weekday, its date."""
    wall = datetime.fromtimestamp(at, ZoneInfo(window.tz))
    day = wall.date() == window.on if window.on else wall.weekday() in window.weekdays
    return day and window.start <= wall.hour * 60 + wall.minute < window.end


@given(WINDOWS, st.lists(MOMENTS, min_size=1, max_size=20))
def test_a_window_is_open_when_the_wall_clock_says_so(window: Window, moments: list[int]) -> None:
    open_ = spans([window], BEGIN, END)
    for at in moments:
        assert any(begin <= at < end for begin, end in open_) == rule(window, at), datetime.fromtimestamp(at, UTC)


def test_a_clock_set_back_passes_a_window_twice_and_one_set_forward_never() -> None:
    night = Window("Europe/Berlin", 2 * 60, 3 * 60, on=date(2026, 10, 25))
    assert [(end - begin) // 60 for begin, end in spans([night], BEGIN, END)] == [120]
    half = Window("Europe/Berlin", 2 * 60 + 30, 3 * 60, on=date(2026, 10, 25))
    assert [(end - begin) // 60 for begin, end in spans([half], BEGIN, END)] == [30, 30]
    assert spans([Window("Europe/Berlin", 2 * 60, 3 * 60, on=date(2026, 3, 29))], BEGIN, END) == ()


@given(SPANS, SPANS)
def test_union_and_difference_are_those_of_sets(these: list[tuple[int, int]], those: list[tuple[int, int]]) -> None:
    def points(parts: object) -> set[int]:
        assert isinstance(parts, list | tuple)
        return {point for begin, end in parts for point in range(begin, end)}

    assert points(joined(these)) == points(these)
    assert points(without(joined(these), joined(those))) == points(these) - points(those)


@given(st.integers(0, 1439), st.integers(1, 5 * 1440), st.sets(st.integers(0, 6), min_size=1))
def test_a_week_of_windows_is_as_long_as_it_was_said(start: int, length: int, days: set[int]) -> None:
    windows = weekly("UTC", sorted(days), start, start + length)
    monday = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp())
    said = [(monday + day * 86_400 + start * 60 + week * 604_800, length * 60) for day in days for week in (-1, 0, 1)]
    expected = joined((begin, begin + seconds) for begin, seconds in said)
    inside = (monday, monday + 604_800)
    clipped = tuple((max(b, inside[0]), min(e, inside[1])) for b, e in expected if e > inside[0] and b < inside[1])
    assert spans(windows, *inside) == clipped


def test_between_two_local_moments_there_is_a_window_a_day() -> None:
    begin, end = datetime.fromisoformat("2026-12-31T18:00"), datetime.fromisoformat("2027-01-02T00:00")
    windows = between("Europe/Berlin", begin, end)
    assert [(w.on, w.start, w.end) for w in windows] == [(date(2026, 12, 31), 1080, 1440), (date(2027, 1, 1), 0, 1440)]
    ((first, last),) = spans(windows, BEGIN, END)
    assert timedelta(seconds=last - first) == end - begin
