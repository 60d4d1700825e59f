"""Runs of a made-up build, clustered as real ones are: viewers of one run share its mood, as do its protocols and steps."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from statistics import median

from probe.judge.compare_figures import RunFigures
from probe.model.comparison import About, Place

HERE = Place("live", "eu", "eu")
VIEWERS = 3
PROTOCOLS = (("whep", 0.4, 0.05), ("ll-hls", 1.2, 0.2), ("hls", 3.0, 0.5))  # usual first frame and its spread in a run, seconds
TIMES = (("first_frame", 1.0), ("e2e_latency", 1.2), ("reconnect_seconds", 0.8), ("outage_seconds", 1.5))
STEPS = ("login", "room", "chat", "gift")
FIRST_FRAME = About("first_frame", "whep")


def run(
    name: object,
    values: Mapping[About, float] | None = None,
    good: Mapping[About, bool] | None = None,
    *,
    place: Place = HERE,
    release: str = "",
    began: int = 0,
) -> RunFigures:
    return RunFigures(run_id=str(name), place=place, values=values or {}, good=good or {}, release=release, began=began)


def taking(about: About, seconds: Iterable[float]) -> list[RunFigures]:
    """A run for each."""
    return [run(number, {about: value}) for number, value in enumerate(seconds)]


def ending(about: About, good: Iterable[bool]) -> list[RunFigures]:
    """A run for each."""
    return [run(number, good={about: word}) for number, word in enumerate(good)]


class Build:
    """`slower`: seconds more, by what they are about; `failing`: the share of runs that fail."""

    def __init__(self, rng: random.Random, slower: Mapping[About, float] | None = None, failing: float = 0.0) -> None:
        self._rng, self._slower, self._failing = rng, slower or {}, failing

    def runs(self, count: int) -> list[RunFigures]:
        made = [self._one() for _ in range(count)]
        return [
            run(number, {about: median(samples) for about, samples in seen.items()}, good)
            for number, (seen, good) in enumerate(made)
        ]

    def viewers(self, count: int) -> list[RunFigures]:
        """The mistake: each viewer of `count` runs, as if it were a run."""
        made = [self._one() for _ in range(count)]
        return [
            run((number, viewer), {about: samples[viewer] for about, samples in seen.items()}, good)
            for number, (seen, good) in enumerate(made)
            for viewer in range(VIEWERS)
        ]

    def _one(self) -> tuple[dict[About, list[float]], dict[About, bool]]:
        rng, mood = self._rng, math.exp(self._rng.gauss(0, 0.15))
        seen: dict[About, list[float]] = {}
        good = {About("room_start"): rng.random() >= self._failing}
        for protocol, usual, spread in PROTOCOLS:
            good[About("start", protocol)] = rng.random() >= self._failing
            for indicator, scale in TIMES:
                about = About(indicator, protocol)
                shared = scale * usual * mood + abs(rng.gauss(0, spread)) + self._slower.get(about, 0.0)
                seen[about] = [shared + rng.expovariate(2 / spread) for _ in range(VIEWERS)]
        for step in STEPS:
            about = About("step_seconds", step=step)
            seen[about] = [0.03 * mood + rng.expovariate(50) + self._slower.get(about, 0.0)] * VIEWERS
        return seen, good
