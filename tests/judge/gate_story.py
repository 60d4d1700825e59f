"""A gate's life told in letters: a run is due each minute and ends five seconds later; a look is taken 10 s and 40 s into it.

g good (2 of 2 viewers start)   b bad (none)      m one of two       t tainted: made, and nothing counts
- due and not made              x nothing is due  z the agent sleeps: due, not made, no look
h every other good, else -      H every other bad, else -            q every fourth bad, else -
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from probe.judge.hold import Held, Position, step, verdict
from probe.judge.indicators import Part
from probe.judge.reading import Reading, Seen, read, terms
from probe.judge.windows import History, RunParts
from probe.model.clock import NS
from probe.model.verdict import Verdict
from probe.scenario.gates import Term
from probe.scenario.schema import Gate

MINUTE = 60 * NS
_STARTED = {"g": (2, 2), "b": (0, 2), "m": (1, 2), "t": (0, 0)}


def gate(**changes: Any) -> Gate:
    """Over four minutes, each of two samples; closes after two, opens after three."""
    values = {
        "name": "hold",
        "when": "start[4m] < 90% and failures >= 3 for 2m",
        "resume": "start[4m] > 95% for 3m",
        "action": "wait",
        "min_n": 4,
    }
    return Gate.model_validate({k: v for k, v in (values | changes).items() if v is not None})


def run(at: int, good: int, total: int, due: int | None = None) -> RunParts:
    parts = {
        ("start", ""): Part(good, total, total),
        ("failures", ""): Part(total - good, n=total),
        ("attempts", ""): Part(2, 2, 2),
        ("first_frame", ""): Part(n=good, samples=(0.5,) * good),
    }
    return RunParts(at, at if due is None else due, parts)


class Life:
    """`told` what it has said after each look."""

    def __init__(self, rule: Gate, position: Position = Position.OPEN) -> None:
        self.gate = rule
        self.held = Held(position)
        self.minute = 0
        self.due: list[int] = []
        self.history = History({(term.indicator, "") for term, _ in terms(rule)}, 3600 * NS)
        self.reading: Reading | None = None
        self.told: list[tuple[int, Verdict, Position]] = []

    def lives(self, story: str) -> Life:
        for letter in letters(story):
            self._minute(letter)
        return self

    @property
    def says(self) -> Verdict:
        assert self.reading is not None
        return verdict(self.held, self.gate, self.reading)

    def look(self, now: int) -> None:
        self.reading = read(self.gate, lambda term, window: self._seen(term, window, now))
        self.held = step(self.held, self.gate, self.reading, now)
        self.told.append((now, self.says, self.held.position))

    def _minute(self, letter: str) -> None:
        start = self.minute * MINUTE
        self.minute += 1
        if letter != "x":
            self.due.append(start)
        if letter in _STARTED:
            self.history.add(run(start + 5 * NS, *_STARTED[letter], due=start))
        if letter != "z":
            self.look(start + 10 * NS)
            self.look(start + 40 * NS)

    def _seen(self, term: Term, window: int | None, now: int) -> Seen:
        begin = now - (window or 3 * MINUTE)
        value, n, made = self.history.over((term.indicator, ""), term.quantile, begin, window)
        lag = self.history.lag
        due = made if window is None else sum(begin - lag < slot <= now - lag for slot in self.due)
        return Seen(value, n, made, due)


def letters(story: str) -> Iterator[str]:
    """`g5 b2` → g g g g g b b."""
    for letter, count in re.findall(r"([a-zA-Z-])(\d+)", story):
        for k in range(int(count)):
            match letter:
                case "h" | "H":
                    yield {"h": "g", "H": "b"}[letter] if k % 2 == 0 else "-"
                case "q":
                    yield "b" if k % 4 == 0 else "-"
                case _:
                    yield letter
