"""So few runs: what one failure may not do, what chance may not, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.rules.chance import failures, false_pages
from probe.rules.conditions import Below, Burn
from probe.rules.fleet import Cell, Severity, Slo
from probe.rules.sound import FALSE_PAGES, Sound, Unsound, sound
from probe.rules.windows import DAY, HOUR, MINUTE
from tests.rules.fleets import PROTOCOLS, REGIONS, cells, fleet, slos, two_ingests

PAGE = Burn(short=5 * MINUTE, long=HOUR, factor=14.4)


def promise(rate: float, target: float = 0.995, publish: tuple[str, ...] = ("eu",), **more: object) -> Slo:
    return replace(slos(publish, rate)[0], target=target, cells=cells(publish, rate), **more)  # type: ignore[arg-type]


def conditions(chosen: Sound) -> list[Burn | Below]:
    return [c for c in (*chosen.page, *chosen.triage) if isinstance(c, Burn | Below)]


@pytest.mark.parametrize(("target", "enough"), [(0.99, 7), (0.995, 14), (0.999, 70)])
def test_so_many_runs_an_hour_carry_one_failure(target: float, enough: int) -> None:
    assert failures(enough, 1 - target, PAGE) == 2
    assert failures(enough - 1, 1 - target, PAGE) == 1


@given(
    rate=st.floats(0.05, 600), target=st.floats(0.05, 0.9999), days=st.integers(1, 90),
    publish=st.sampled_from([("eu",), REGIONS]), protocols=st.sampled_from([("",), PROTOCOLS]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_one_failure_never_sets_off_anything(
    rate: float, target: float, days: int, publish: tuple[str, ...], protocols: tuple[str, ...]
) -> None:
    slo = replace(promise(rate, target), window=days * DAY, cells=cells(publish, rate, protocols))
    try:
        chosen = sound(slo)
    except Unsound:
        return  # what is said then has a test of its own
    assert conditions(chosen)
    for condition in conditions(chosen):
        assert condition.bad >= 2  # and not the ratio alone: a window that has just begun holds few runs
        window = condition.long if isinstance(condition, Burn) else condition.window
        assert max(failures(each, slo.budget, condition) / each for each in chosen.rates.values()) * HOUR <= window + HOUR / rate


def test_chance_pages_less_than_once_in_30_days() -> None:
    for slo in (*fleet(every=5 * MINUTE).slos, *two_ingests(every=4 * MINUTE).slos):
        chosen = sound(slo)
        for condition in chosen.page:
            assert isinstance(condition, Burn | Below)
            window = condition.long if isinstance(condition, Burn) else condition.window
            often = sum(
                false_pages(rate, slo.budget, window, failures(rate, slo.budget, condition)) for rate in chosen.rates.values()
            )
            assert often <= FALSE_PAGES


def test_how_often_chance_pages_is_what_a_simulation_counts() -> None:
    rate, budget, bad, hours = 12.0, 0.02, 3, 400_000
    failed = np.random.default_rng(7).exponential(1 / (rate * budget), int(rate * budget * hours)).cumsum()
    together = failed[bad - 1 :] - failed[: -bad + 1] < 1.0
    assert false_pages(rate, budget, HOUR, bad) == pytest.approx(together.sum() * 720 / hours, rel=0.05)


def test_chances_of_many_are_numbers_too() -> None:
    assert false_pages(600, 0.9, 72 * HOUR, 3) == pytest.approx(600 * 0.9 * 720)
    assert false_pages(600, 0.9, 72 * HOUR, 42_000) < 1e-9


def test_a_guard_is_told_with_its_sum() -> None:
    chosen = sound(promise(12))
    assert chosen.cells == ("publish_region", "region")
    burn = next(c for c in chosen.page if isinstance(c, Burn))
    assert burn.bad == 3
    told = next(words for words in chosen.because(Severity.P1) if words.startswith("1h above 14.4: 14.4"))
    assert "14.4 × 0.005 = 0.072 of 12 runs is 0.864, so that 1 failure would do; guarded: 3 failures at least" in told


def test_many_runs_are_guarded_only_against_a_history_that_has_just_begun() -> None:
    burns = [c for c in sound(promise(120)).page if isinstance(c, Burn)]
    assert [(c.short, c.long, c.bad) for c in burns] == [(5 * MINUTE, HOUR, 2), (30 * MINUTE, 6 * HOUR, 2)]


def test_a_page_that_remembers_for_hours_asks_for_two_fresh_failures_and_its_short_window_always_holds_two_runs() -> None:
    for rate in (1.0, 3.0, 6.0, 15.0, 120.0):
        chosen = sound(promise(rate))
        for condition in conditions(chosen):
            if isinstance(condition, Burn):
                remembers = condition in chosen.page and condition.long > HOUR
                assert condition.fresh == (2 if remembers else 0)
                assert condition.short > 1.1 * max(1, condition.fresh) * HOUR / rate


def test_where_two_runs_are_never_seen_at_once_one_fresh_failure_must_do() -> None:
    assert [c.fresh for c in sound(promise(0.4)).page if isinstance(c, Burn)] == [0]


def test_a_short_window_always_holds_a_run() -> None:
    for rate in (1.0, 3.0, 6.0, 10.0, 15.0):
        for condition in conditions(sound(promise(rate))):
            assert (condition.short if isinstance(condition, Burn) else condition.window) > 1.1 * HOUR / rate


def test_thin_cells_are_pooled_over_what_is_published_where() -> None:
    chosen = sound(promise(2, publish=("eu", "us")))
    assert chosen.cells == ("region",)
    assert set(chosen.rates.values()) == {4.0}
    assert chosen.why[0][1].startswith("pooled over publish_region: a cell has 2 runs an hour")


def test_regions_are_pooled_only_where_nothing_else_can_alert() -> None:
    chosen = sound(promise(0.4))
    assert chosen.cells == ()
    assert "known never" in chosen.why[0][1]
    assert "region" in sound(promise(1.0)).cells


def test_protocols_are_never_pooled() -> None:
    slo = replace(promise(2), cells=cells(("eu", "us"), 2, PROTOCOLS))
    assert sound(slo).cells == ("region", "protocol")


@pytest.mark.parametrize(("rate", "window"), [(0.1, 30 * DAY), (60.0, HOUR)])
def test_what_cannot_alert_is_refused_with_sum_and_remedy(rate: float, window: int) -> None:
    with pytest.raises(Unsound, match="can never alert soundly: all cells together have .* Remedy: more runs") as refused:
        sound(replace(promise(rate), window=window, indicator="payment"))
    assert "left out" in str(refused.value)


def test_what_nobody_runs_is_refused() -> None:
    with pytest.raises(Unsound, match="no agent runs this scenario"):
        sound(replace(promise(12), cells=()))


def test_the_direct_rule_is_for_starts_and_for_who_asks() -> None:
    assert any(isinstance(c, Below) for c in sound(promise(60)).page)
    assert not any(isinstance(c, Below) for c in sound(replace(promise(60), indicator="payment")).page)
    asked = [c for c in sound(replace(promise(60), indicator="payment", below=0.5)).page if isinstance(c, Below)]
    assert [c.ratio for c in asked] == [0.5]


def test_a_loose_objective_has_a_lower_direct_rule_or_none() -> None:
    assert [c.ratio for c in sound(promise(60, 0.9)).page if isinstance(c, Below)] == [0.5]
    chosen = sound(promise(60, 0.8))
    assert chosen.page == ()
    assert chosen.triage


def test_too_few_runs_for_a_direct_rule_are_told() -> None:
    assert any("direct rule left out" in words for words in sound(promise(4)).because(Severity.P1))


def test_what_is_wrong_with_the_probe_wakes_nobody() -> None:
    by_name = {slo.name: sound(slo) for slo in fleet().slos}
    assert by_name["probe-well"].page == by_name["measured"].page == ()
    assert by_name["probe-well"].triage and by_name["measured"].triage


def test_what_its_objective_says_can_wait_wakes_nobody_and_is_triaged_as_before() -> None:
    loud, quiet = sound(promise(15)), sound(promise(15, page=False))
    assert loud.page and quiet.page == ()
    assert quiet.triage == loud.triage
    assert "by its objective (page: false) it is triaged, and pages nobody" in quiet.because(Severity.P2)


def test_cells_of_different_density_share_conditions_that_suit_all() -> None:
    mixed = (
        Cell(publish_region="eu", region="eu", runs_per_hour=60),
        Cell(publish_region="eu", region="us", runs_per_hour=6),
    )
    slo = replace(promise(60), cells=mixed)
    for condition in conditions(sound(slo)):
        assert failures(6, slo.budget, condition) >= 2
        assert (condition.short if isinstance(condition, Burn) else condition.window) > 1.1 * HOUR / 6
