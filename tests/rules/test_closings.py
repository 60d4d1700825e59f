"""Gates replayed by arrays are the gates that an agent holds: the same answers, the same positions, look by look."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.judge.hold import Held, Position, step
from probe.judge.reading import Reading, Seen, read
from probe.rules.closings import closings, positions, unreplayed
from probe.rules.fleet import Cell, Slo
from probe.rules.history import Beats, History, Series
from probe.rules.history import Seen as Outcome
from probe.rules.replay import INTERVAL, Firing, Grid
from probe.scenario.gate import Gate
from probe.scenario.gates import Term
from tests.rules.fleets import HOUR, fleet

STEPS = 60
GRID = Grid(began=0, steps=STEPS)
SLOS = fleet().slos
HELD = "room_start[3m] < 90% and failures >= 2 for 1m"


def gate(when: str, resume: str | None = None, **more: object) -> Gate:
    return Gate.model_validate({"name": "g", "when": when, "resume": resume, "action": "wait", "by": "region", **more})


def history(slo: Slo, seen: list[Outcome], due: list[int]) -> History:
    times = np.array(due, dtype=np.int64)
    made = np.ones(len(due), dtype=np.bool_)
    cell = Cell(publish_region="eu", region="eu", runs_per_hour=120)
    beats = Beats(slo.scenario, "eu", "eu", times, made, ~made)
    series = Series(cell, times, np.array(seen, dtype=np.int8))
    return History(name="h", began=0, ended=GRID.ended, judged=0, beats=(beats,), series={slo.name: (series,)})


def by_looks(of: Gate, slo: Slo, seen: list[Outcome], due: list[int]) -> list[Firing]:
    """As an agent does it, one look after the other."""
    held, out = Held(), []
    for n in range(STEPS):
        now = GRID.at(n)

        def look(term: Term, window: int | None, now: int = now) -> Seen:
            assert window is not None
            ran = [one for one, at in zip(seen, due, strict=True) if now - window < at <= now]
            bad, good = ran.count(Outcome.BAD), ran.count(Outcome.GOOD)
            if term.indicator == "failures":
                return Seen(float(bad), bad + good, len(ran), len(ran))
            if term.indicator == "attempts":
                return Seen(float(bad + good), bad + good, len(ran), len(ran))
            share = None if bad + good == 0 else good / (bad + good)
            if slo.within and share is not None:  # a quantile: as far beyond its bound as so many runs are
                share = 0.0 if round((1 - share) * 100, 6) <= 5 else 99.0
            return Seen(share, bad + good, len(ran), len(ran))

        reading: Reading = read(of, look)
        before, held = held, step(held, of, reading, now)
        if held.position is Position.CLOSED and before.position is not Position.CLOSED:
            out.append(Firing(now, now, None))
        elif held.position is Position.OPEN and before.position is Position.CLOSED:
            out[-1] = replace(out[-1], ended=now)
    return out


SEEN = st.lists(st.sampled_from([Outcome.GOOD, Outcome.GOOD, Outcome.GOOD, Outcome.BAD, Outcome.NONE]), min_size=60, max_size=60)


@settings(max_examples=80, deadline=None)
@given(
    SEEN,
    st.sampled_from(
        [
            gate("room_start[3m] < 90%"),
            gate(HELD, "room_start[2m] > 95% for 90s"),
            gate(HELD, "room_start[2m] >= 50% and attempts >= 3", min_n=3),
            gate("room_start[90s] < 60% and failures >= 1", None, min_n=2),
        ]
    ),
)
def test_a_gate_is_replayed_as_an_agent_holds_it(seen: list[Outcome], of: Gate) -> None:
    slo = SLOS[0]
    due = [n * INTERVAL + 1 for n in range(60)]
    found = [replace(f, pending=f.began) for _, f in closings(of, SLOS, history(slo, seen, due), GRID)]
    assert found == by_looks(of, slo, seen, due)


@settings(max_examples=30, deadline=None)
@given(SEEN)
def test_a_quantile_above_the_objectives_bound_is_more_runs_beyond_it_than_the_rest(seen: list[Outcome]) -> None:
    of = gate("first_frame.p95[3m] > 2s for 30s", "first_frame.p95[3m] <= 2s")
    slo = SLOS[1]
    due = [n * INTERVAL + 1 for n in range(60)]
    found = [replace(f, pending=f.began) for _, f in closings(of, SLOS, history(slo, seen, due), GRID)]
    assert found == by_looks(of, slo, seen, due)


def test_too_few_runs_of_those_due_neither_close_a_gate_nor_open_it() -> None:
    slo, due = SLOS[0], [n * INTERVAL + 1 for n in range(60)]
    whole = history(slo, [Outcome.BAD if 10 <= n < 25 else Outcome.GOOD for n in range(60)], due)
    made = np.array([not 20 <= n < 50 for n in range(60)])
    beats = replace(whole.beats[0], made=made)
    series = Series(whole.series[slo.name][0].cell, beats.due[made], whole.series[slo.name][0].outcomes[made])
    silent = replace(whole, beats=(beats,), series={slo.name: (series,)})
    of = gate("room_start[3m] < 90%", "room_start[3m] > 99%", min_coverage="90%")
    ((_, usual),) = closings(of, SLOS, whole, GRID)
    ((_, found),) = closings(of, SLOS, silent, GRID)
    assert usual.ended is not None and usual.ended < GRID.at(35)
    assert found.began == usual.began and found.ended is not None and found.ended > GRID.at(50)


def test_a_gate_that_no_objective_tells_about_is_named_with_its_reason() -> None:
    assert not unreplayed(gate(HELD), SLOS)
    assert "first_frame.p95[10m] > 3s" in unreplayed(gate("first_frame.p95[10m] > 3s"), SLOS)
    assert "max" in unreplayed(gate("first_frame.max[10m] > 2s"), SLOS)
    assert "no window" in unreplayed(gate("room_start < 90%"), SLOS)
    assert unreplayed(gate("failures[10m] >= 3"), SLOS) == "it counts, but not what"


def test_by_protocol_each_is_held_apart() -> None:
    slo = SLOS[1]
    due = [n * INTERVAL + 1 for n in range(60)]
    times, made = np.array(due, dtype=np.int64), np.ones(60, dtype=np.bool_)
    cells = [Cell(publish_region="eu", region="eu", protocol=p, runs_per_hour=120) for p in ("whep", "hls")]
    good = np.zeros(60, dtype=np.int8)
    bad = good.copy()
    bad[20:40] = Outcome.BAD
    whole = History(
        name="h", began=0, ended=GRID.ended, judged=0, beats=(Beats(slo.scenario, "eu", "eu", times, made, ~made),),
        series={slo.name: (Series(cells[0], times, good), Series(cells[1], times, bad))},
    )  # fmt: skip
    found = closings(gate("first_frame.p95[3m] > 2s", by=["region", "protocol"]), SLOS, whole, GRID)
    assert [labels for labels, _ in found] == [{"region": "eu", "protocol": "hls"}]


@pytest.mark.parametrize("hold", [0, 2 * INTERVAL])
def test_a_stretch_that_began_before_a_change_counts_from_the_change(hold: int) -> None:
    closing = np.array([1] * 10 + [0] * 10, dtype=np.bool_)
    found = positions(closing, ~closing, hold, 3 * INTERVAL, Grid(began=0, steps=20))
    assert found == [Firing(INTERVAL, INTERVAL + hold, 14 * INTERVAL)]
    assert positions(closing, closing & False, hold, 0, Grid(began=0, steps=20))[0].ended is None


def test_hours_of_runs_take_no_time() -> None:
    due = list(range(1, 24 * HOUR, INTERVAL))
    whole = replace(history(SLOS[0], [Outcome.GOOD] * len(due), due), ended=24 * HOUR)
    assert closings(gate(HELD), SLOS, whole, Grid(began=0, steps=24 * HOUR // INTERVAL)) == []
