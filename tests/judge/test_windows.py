"""Windows of many runs are exact; and what must hold of a gate whatever runs and looks come."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.judge.fold import fold
from probe.judge.hold import GAP, Held, Position, hold, step
from probe.judge.indicators import Part, Select, measure, quantile
from probe.judge.reading import Answer, Reading, Seen, answer, longest, windows
from probe.judge.windows import KEPT, History, RunParts, from_json, parts_of, thinned, to_json
from probe.model.clock import NS
from probe.model.outcome import Aborted, Failed
from probe.model.stage import Phase
from probe.model.verdict import Verdict
from probe.scenario.gates import parse_gate
from probe.scenario.indicators import INDICATORS, Unit
from tests.judge.gate_story import MINUTE, Life, gate, run
from tests.judge.story import healthy

FRAME, START = ("first_frame", ""), ("start", "")
stories = st.lists(
    st.tuples(st.sampled_from("gbmt-xzhHq"), st.integers(1, 6)).map(lambda one: f"{one[0]}{one[1]}"), min_size=1, max_size=10
).map(" ".join)
positions = st.sampled_from(Position)


# -- what is kept of a run


def test_a_run_keeps_what_its_indicators_come_to_whole_and_by_protocol():
    story = healthy().viewer("w4", Failed(Phase.SIGNAL, "http_404"))
    story.window("w1", 0.4, 0.5)
    result = fold(story.finish())
    parts = from_json(to_json(parts_of(result)))
    for (indicator, protocol), one in parts.items():
        name = "p90" if INDICATORS[indicator].unit is Unit.SECONDS else ""
        told = measure([result], indicator, name, Select(protocol=protocol))
        assert one.value(INDICATORS[indicator].unit, name) == pytest.approx(told.value, abs=1e-6), (indicator, protocol)
        assert one.n == told.n, (indicator, protocol)
    assert parts["start", "whep"] == Part(3, 4, 4) and parts["start", ""] == Part(5, 6, 6)
    assert ("payment", "") not in parts  # nothing was tried, nothing is kept


def test_a_run_that_did_not_end_by_itself_is_not_made():
    assert parts_of(fold(healthy().finish(Aborted("broke")))) == {}
    assert parts_of(fold(healthy().facts)) == {}


@given(st.lists(st.floats(0, 30), max_size=3 * KEPT), st.integers(1, 99))
def test_thinned_samples_are_exact_where_few_and_never_too_low(samples: list[float], q: int):
    name = f"p{q}"
    whole = thinned(Part(n=len(samples), samples=tuple(samples)))
    history = History({FRAME}, NS)
    history.add(RunParts(1, 1, {FRAME: whole}))
    value, n, made = history.over(FRAME, name, 0, 10)
    exact = quantile(samples, name)
    assert n == len(samples) and made == 1 and len(whole.samples) <= KEPT
    if len(samples) <= KEPT or value is None or exact is None:
        assert value == exact
    else:
        assert exact <= value <= (quantile(samples, "max" if q == 99 else f"p{q + 1}") or 0.0)


@pytest.mark.parametrize("kept", [{"start": 1}, {"start": {"": ["x", 1, 1]}}, {"start": {"": [1]}}, []])
def test_what_is_no_record_of_a_run_is_refused(kept: object):
    with pytest.raises((ValueError, TypeError, AttributeError)):
        from_json(kept)  # type: ignore[arg-type]


# -- windows


@given(st.lists(st.tuples(st.integers(0, 60), st.lists(st.floats(0, 9), max_size=4)), max_size=40), st.integers(0, 2**32))
def test_a_sliding_window_is_what_stands_in_it(runs: list[tuple[int, list[float]]], seed: int):
    """Whatever order runs come in, and whenever one looks: the same as all samples of the window at once."""
    chance = random.Random(seed)
    history = History({START, FRAME}, 1000)
    told: list[RunParts] = []
    now = 0
    for step_, samples in runs:
        now += step_
        at = now - (chance.randrange(30) if chance.random() < 0.2 else 0)
        good = sum(sample < 2 for sample in samples)
        one = RunParts(
            at, at, {START: Part(good, len(samples), len(samples)), FRAME: thinned(Part(n=len(samples), samples=tuple(samples)))}
        )
        history.add(one)
        told.append(one)
        within = [r for r in told if r.at > now - 50]
        flat = [s for r in within for s in r.parts[FRAME].samples]
        value, n, made = history.over(START, "", now - 50, 50)
        assert (n, made) == (sum(r.parts[START].n for r in within), len(within))
        assert value == (sum(r.parts[START].good for r in within) / n if n else None)
        assert history.over(FRAME, "p90", now - 50, 50) == (quantile(flat, "p90"), len(flat), len(within))
        assert history.over(FRAME, "max", now - 50, 50)[0] == max(flat, default=None)


def test_a_history_is_bounded_in_time_and_number():
    history = History({START}, 10 * MINUTE, most=5)
    for minute in range(4):
        history.add(run(minute * MINUTE, 2, 2))
    history.add(run(13 * MINUTE, 2, 2))
    assert len(history) == 1 and history.last is not None and history.last.at == 13 * MINUTE
    for second in range(20):
        history.add(run(13 * MINUTE + second * NS, 2, 2))
    assert len(history) == 5
    assert history.over(START, "", 0, 60 * MINUTE) == (1.0, 10, 5)
    assert history.over(("payment", ""), "", 0, 60 * MINUTE) == (None, 0, 5)  # not wanted: nothing of it is kept


def test_a_window_that_begins_earlier_than_before_is_counted_anew():
    history = History({START}, 10 * MINUTE)
    for minute in range(4):
        history.add(run(minute * MINUTE, 2, 2))
    assert history.over(START, "", 2 * MINUTE, 60)[1:] == (2, 1)
    assert history.over(START, "", 0, 60)[1:] == (6, 3)


def test_the_last_run_alone_is_seen_while_it_is_young():
    history = History({START, FRAME}, 10 * MINUTE)
    assert history.over(START, "", 0, None) == (None, 0, 0) and history.lag == 0
    history.add(run(MINUTE, 2, 2))
    history.add(run(2 * MINUTE, 1, 2, due=MINUTE))
    assert history.over(START, "", MINUTE, None) == (0.5, 2, 1)
    assert history.over(FRAME, "p95", MINUTE, None) == (0.5, 1, 1)
    assert history.over(START, "", 2 * MINUTE, None) == (None, 0, 0)
    assert history.lag == MINUTE


# -- expressions


def seen(value: float | None, n: int = 10, made: int = 10, due: float = 10, why: str = "") -> Seen:
    return Seen(value, n, made, due, why)


def test_a_term_without_a_window_looks_over_the_longest_of_the_others():
    assert windows(parse_gate("start[5m] < 90% and room_start[10m] < 9% and failures >= 3")) == (
        5 * MINUTE,
        10 * MINUTE,
        10 * MINUTE,
    )
    assert windows(parse_gate("start < 90%")) == (None,)
    assert longest(gate(when="start < 90%", resume=None)) == 0 and longest(gate(resume="start[1h] > 9%")) == 60 * MINUTE


def test_one_false_term_is_enough_and_an_unknown_one_is_not():
    both = parse_gate("start[5m] < 90% and crash_free[5m] < 90%")
    assert answer(both, [seen(0.5), seen(1.0)], 1, 0.5).met is False
    assert answer(both, [seen(None, 0), seen(1.0)], 1, 0.5).met is False
    told = answer(both, [seen(0.5), seen(None, 0)], 1, 0.5)
    assert told.met is None and "crash_free stands on 0 of at least 1" in told.reason
    assert answer(both, [seen(0.5), seen(0.5)], 1, 0.5) == Answer(True, str(both), both.terms[0], 0.5, 10, 1.0)


def test_a_guard_says_no_only_beside_what_was_measured():
    guarded = parse_gate("start[5m] < 90% and failures >= 3")
    assert answer(guarded, [seen(0.5), seen(1)], 1, 0.5).met is False
    assert answer(guarded, [seen(None, 0), seen(0)], 1, 0.5).met is None
    assert answer(guarded, [seen(0.5), seen(None, 0)], 1, 0.5).met is None
    assert answer(guarded, [seen(0.5), seen(3)], 1, 0.5).met is True


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (seen(0.5, 0, 0, 10), "no run in its window"),
        (seen(0.5, 0, 0, 0), "no run was due in its window"),
        (seen(0.5, 9, 3, 10), "3 of 10 runs were made, fewer than 50%"),
        (seen(0.5, 3), "start stands on 3 of at least 5"),
        (seen(None, 0, why="Prometheus is away"), "Prometheus is away"),
    ],
)
def test_what_is_not_known_is_said_in_words(told: Seen, reason: str):
    found = answer(parse_gate("start[5m] < 90%"), [told], 5, 0.5)
    assert (found.met, found.reason) == (None, reason)


def test_coverage_is_of_what_was_due_and_at_most_one():
    assert (seen(1, made=5).coverage, seen(1, made=12).coverage) == (0.5, 1.0)
    assert (seen(1, made=1, due=0).coverage, seen(1, made=0, due=0).coverage) == (1.0, 0.0)


# -- whatever comes


@given(stories, positions)
def test_a_gate_never_passes_on_no_data(story: str, before: Position):
    life = Life(gate(), before)
    for letter in story.split():
        life.lives(letter)
        if life.reading is not None and life.reading.when.met is None:
            assert life.says not in (Verdict.PASS, Verdict.WARN)
    life.lives("-20")
    assert life.says in (Verdict.INCONCLUSIVE, Verdict.FAIL)


@given(stories, positions)
def test_a_closed_gate_opens_only_after_resume_was_seen_for_as_long(story: str, before: Position):
    life = Life(gate(), before).lives(story)
    assert life.held.since == 0 or life.held.position is not Position.UNKNOWN
    changes = [a for a, b in zip(life.told[1:], life.told, strict=False) if a[2] is not b[2]]
    for earlier, later in pairwise(changes):
        assert later[0] - earlier[0] >= hold(life.gate, later[2])  # and so it does not flap


@given(stories, positions, st.sampled_from([{"severity": "warn"}, {"resume": None}, {}]))
def test_a_second_look_at_the_same_moment_says_the_same(story: str, before: Position, change: dict[str, Any]):
    rule = gate(**change)
    life = Life(rule, before)
    for letter in story.split():
        life.lives(letter)
        if life.reading is not None and life.held.looked is not None:
            again = step(life.held, rule, life.reading, life.held.looked)
            assert again == life.held or hold(rule, again.position) == 0


@given(st.lists(st.sampled_from("gbm"), min_size=1, max_size=12), st.randoms())
def test_runs_told_in_any_order_come_to_the_same_reading(letters: list[str], chance: random.Random):
    of = {"g": (2, 2), "b": (0, 2), "m": (1, 2)}
    runs = [run(k * MINUTE, *of[letter]) for k, letter in enumerate(letters)]
    shuffled = list(runs)
    chance.shuffle(shuffled)
    histories = [History({START}, 60 * MINUTE), History({START}, 60 * MINUTE)]
    for history, order in zip(histories, (runs, shuffled), strict=True):
        for one in order:
            history.add(one)
    now = len(letters) * MINUTE
    assert histories[0].over(START, "", now - 5 * MINUTE, 1) == histories[1].over(START, "", now - 5 * MINUTE, 1)


@given(
    st.lists(
        st.tuples(st.sampled_from([True, False, None]), st.sampled_from([True, False, None]), st.integers(-50, 200)), max_size=30
    )
)
def test_time_does_not_go_back_and_a_constant_word_changes_a_gate_once(looks: list[tuple[bool | None, bool | None, int]]):
    rule = gate()
    held, now = Held(), 0
    for when, resume, seconds in looks:
        now += seconds * NS
        reading = Reading(Answer(when), Answer(resume))
        after = step(held, rule, reading, now)
        assert after.looked is not None and after.looked >= (held.looked or -(2**63))
        if after.position is not held.position:
            assert held.towards is after.position or hold(rule, after.position) == 0
            assert held.looked is not None and after.looked - held.looked <= GAP
        held = after
