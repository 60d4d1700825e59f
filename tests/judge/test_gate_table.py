"""The gate's truth table: samples × coverage × time × hysteresis × override, each row a life told in letters (gate_story).

`start[4m] < 90% and failures >= 3 for 2m`, `resume: start[4m] > 95% for 3m`, four samples and half of the runs at least."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from probe.judge.hold import Override, Position
from probe.model.clock import NS
from probe.model.verdict import Verdict
from tests.judge.gate_story import MINUTE, Life, gate

P, W, I, F = Verdict.PASS, Verdict.WARN, Verdict.INCONCLUSIVE, Verdict.FAIL  # noqa: E741
CLOSED, UNKNOWN = Position.CLOSED, Position.UNKNOWN
WARNS = {"severity": "warn"}
PLAIN = {"when": "start[4m] < 90% for 1m", "resume": None}
AT_ONCE = {"when": "start[4m] < 90%", "resume": None}
LAST = {"when": "start < 100%", "resume": None, "min_n": 1}
COUNTS = {"when": "failures[4m] >= 3 for 1m", "resume": None}
SLOW = {"when": "first_frame.p95[4m] > 2s for 1m", "resume": None}
ALL_DUE = {"min_coverage": "100%"}
WEAK = {"resume": "start[4m] < 95% for 1m"}  # holds wherever `when` does
FIVE = {"when": "start[4m] < 90% for 5m"}
FRESH = Position.OPEN


@dataclass
class Row:
    life: str
    says: Verdict
    change: dict[str, Any] = field(default_factory=dict)
    before: Position = FRESH


TABLE = {
    # samples
    "nothing was ever seen": Row("-1", I),
    "one run of two samples is too few": Row("g1", I),
    "too few that are bad are no failure either": Row("b1", I),
    "four samples, all good": Row("g2", P),
    "a good while": Row("g10", P),
    "made and all tainted": Row("t10", I),
    "half tainted, enough is left": Row("g5 t2", P),
    "three of four tainted, too few are left": Row("g5 t3", I),
    "tainted runs do not close": Row("t10 b1", I),
    "what is left of tainted runs closes": Row("t5 b4", F),
    "a count of nothing untainted is not known": Row("t10", I, COUNTS),
    "a count of no run is not known": Row("-5", I, COUNTS),
    "a count of runs that went well": Row("g5", P, COUNTS),
    "a count that is reached": Row("b3", F, COUNTS),
    "a quantile of runs without a sample": Row("b5", I, SLOW),
    "a quantile of good samples": Row("g5", P, SLOW),
    # coverage
    "one run missed": Row("g5 -1", P),
    "half missed": Row("g5 -2", P),
    "three of four missed": Row("g5 -3", I),
    "nothing for long": Row("g5 -10", I),
    "every other run, all good": Row("h10", P),
    "every other run, all bad": Row("H10", F),
    "every other run where all are asked for": Row("h10", I, ALL_DUE),
    "one on the window's edge where all are asked for": Row("g5 -1", P, ALL_DUE),
    "a fourth of the runs, all bad": Row("q12", I),
    "nothing is due": Row("g5 x10", I),
    "nothing was due and something is again": Row("x5 g2", P),
    # time
    "bad for less than two minutes": Row("g10 b3", P),
    "bad for two minutes": Row("g10 b4", F),
    "half bad, and three failures only after a while": Row("g10 m4", P),
    "half bad for two minutes after that": Row("g10 m5", F),
    "two failures never close": Row("g10 m1 g3 m1 g3", P),
    "bad, good in all of the window before it has held": Row("g10 b2 g10", P, FIVE),
    "bad for as long": Row("g10 b6", F, FIVE),
    "what held before a sleep does not count": Row("g5 b3 z2 b1", I),
    "bad from the first on is not let through": Row("b3", I),
    "and closes in its time": Row("b4", F),
    "bad from the first on after no data": Row("g5 -10 b3", I),
    "it holds anew after a sleep": Row("b3 z2 b3", F),
    "a gap in what is seen breaks what held": Row("g10 b3 -4 b3", I, FIVE),
    "the same without the gap": Row("g10 b10", F, FIVE),
    "without `for` at once": Row("b2", F, AT_ONCE),
    "without a window the last run": Row("g3 b1", F, LAST),
    "the last run opens it again": Row("g3 b1 g1", P, LAST),
    "the last run, long ago": Row("g3 -4", I, LAST),
    # hysteresis
    "good again, still bad in the window": Row("b4 g3", F),
    "good in all of the window, not for long enough": Row("b4 g6", F),
    "good for three minutes": Row("b4 g7", P),
    "one bad run begins the wait anew": Row("b4 g4 b1 g6", F),
    "and it ends": Row("b4 g4 b1 g7", P),
    "closed, and no data": Row("b4 -10", F),
    "closed, and all tainted": Row("b4 t10", F),
    "closed, and nothing is due": Row("b4 x10", F),
    "closed, no data, then good, not for long enough": Row("b4 -10 g4", F),
    "closed, no data, then good for three minutes": Row("b4 -10 g5", P),
    "without `resume` as slow as it closes": Row("b4 g4", F, PLAIN),
    "without `resume` it opens": Row("b4 g5", P, PLAIN),
    "both hold: it stays open": Row("g5 b10", P, WEAK),
    "both hold from the first on": Row("b10", I, WEAK),
    "both hold: it stays closed": Row("b10", F, WEAK, CLOSED),
    "severity warn": Row("b4", W, WARNS),
    "severity warn and no data lets nothing through": Row("b4 -10", I, WARNS),
    # what was before
    "closed before a restart": Row("g1", F, before=CLOSED),
    "closed before a restart, no data": Row("-5", F, before=CLOSED),
    "closed before a restart, good for too short": Row("g4", F, before=CLOSED),
    "closed before a restart, good": Row("g5", P, before=CLOSED),
    "not known before, good for too short": Row("g4", I, before=UNKNOWN),
    "not known before, good": Row("g5", P, before=UNKNOWN),
    "not known before, bad": Row("b4", F, before=UNKNOWN),
    "not known before, no data": Row("-5", I, before=UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_a_gate_says(name: str):
    row = TABLE[name]
    life = Life(gate(**row.change), row.before).lives(row.life)
    assert life.says is row.says, life.told[-8:]


OVERRIDES = {
    "pass over a closed gate": ("b4", True, 5, P),
    "pass over no data: somebody answers for it": ("-5", True, 5, P),
    "fail over an open gate": ("g10", False, 5, F),
    "fail over no data": ("-5", False, 5, F),
    "an expired pass over a closed gate": ("b4", True, 0, F),
    "an expired pass over no data": ("-5", True, 0, I),
    "an expired fail over an open gate": ("g10", False, 0, P),
    "beneath it the rule went on, and opened": ("b4 g7", False, 0, P),
}  # fmt: skip


@pytest.mark.parametrize("name", OVERRIDES)
def test_an_override_says(name: str):
    story, passes, minutes, says = OVERRIDES[name]
    life = Life(gate()).lives(story)
    now = life.minute * MINUTE
    over = Override(passes, now - NS, now + minutes * MINUTE, "me", "because")
    assert (over.verdict if over.holds(now) else life.says) is says


def test_the_table_is_whole():
    assert len(TABLE) + len(OVERRIDES) >= 40
    assert {row.says for row in TABLE.values()} == set(Verdict)
