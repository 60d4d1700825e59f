"""A healthy evaluation of 2026.11.3, held against runs of 2026.10.9 that somebody made up."""

from __future__ import annotations

from dataclasses import replace

from probe.export.results import Compared, Evaluation
from probe.judge.compare import compare
from probe.judge.compare_figures import RunFigures
from probe.model.comparison import About, Change, Comparison, Place
from probe.model.verdict import Check, Verdict
from tests.export import sample

HERE = Place("room-start", "eu", "eu")
WHEP, HLS = About("first_frame", "whep"), About("first_frame", "hls")
USUAL = (0.24, 0.31, 0.27, 0.25, 0.33, 0.29, 0.26, 0.30)


def runs(release: str, slower: float, noise: float = 0.0, good: int = 8) -> list[RunFigures]:
    return [
        RunFigures(
            run_id=f"{release}-{n}",
            place=HERE,
            release=release,
            occasion=release,
            values={WHEP: value + slower, HLS: 3 + value + noise * (n % 3), About("freeze_ratio", "hls"): 0.002 * n},
            good={About("start", "whep"): n < good},
            stages={WHEP: {"signal": 0.04 + slower, "keyframe": 0.1}},
        )
        for n, value in enumerate(USUAL)
    ]


def comparison(slower: float = 0.3, noise: float = 1.0, good: int = 8) -> Comparison:
    found = compare(runs("2026.10.9", 0), runs("2026.11.3", slower, noise, good))
    return replace(found, notes=("All runs before are of one occasion.",), apart=("room-start eu → us: no run now",))


def evaluation(found: Comparison | None = None, *, decides: bool = True) -> Evaluation:
    found = comparison() if found is None else found
    worse = found.change is Change.WORSE
    result = (Verdict.FAIL if decides else Verdict.WARN) if worse else Verdict.PASS
    check = Check(name="compare", result=result, n=8, min_n=4, reason="worse than it was" if worse else "")
    return replace(sample.healthy(), verdict=result, comparison=Compared(found, check))
