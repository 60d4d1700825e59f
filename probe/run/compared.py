"""An evaluation, with what its runs are against those of a former build.

Both sides are read from the same document, verdict.json: no difference can come from how they were read. By default a build that
is worse is a warning, since what people are promised is judged by objectives and gates; where the comparison is to decide, worse
fails, and what cannot be told is inconclusive and never a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from probe.export.compared_words import headline
from probe.export.results import Compared, Evaluation
from probe.export.verdict_json import verdict_document
from probe.judge.compare import Least, compare, runs_to_tell
from probe.judge.compare_figures import figures_of
from probe.model.comparison import Change, Comparison
from probe.model.verdict import Check, Verdict, worst
from probe.run.former import Former

_ADVICE = {Change.WORSE: Verdict.WARN, Change.CANNOT_TELL: Verdict.WARN}
_DECISION = {Change.WORSE: Verdict.FAIL, Change.CANNOT_TELL: Verdict.INCONCLUSIVE}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to compare with, and whether that decides. `least`: smallest differences that matter, other than the usual ones."""

    former: Former
    decides: bool = False
    least: Mapping[str, Least] = field(default_factory=dict)


def compared(evaluation: Evaluation, wanted: Wanted, redact: Callable[[str], str]) -> Evaluation:
    """The evaluation with its comparison, and a verdict that minds it."""
    former = wanted.former
    now = figures_of(verdict_document(evaluation, redact))
    found = compare(former.runs, now, wanted.least)
    found = replace(found, notes=(*former.notes, *_notes(found, former, evaluation, redact)))
    check = _check(found, wanted.decides)
    verdict = worst([evaluation.verdict, check.result])
    return replace(evaluation, verdict=verdict, comparison=Compared(found, check))


def _check(found: Comparison, decides: bool) -> Check:
    result = (_DECISION if decides else _ADVICE).get(found.change, Verdict.PASS)
    return Check(
        name="compare",
        result=result,
        value=float(len(found.of(Change.WORSE))),
        unit="indicators worse",
        n=min(found.runs_before, found.runs_after),
        min_n=runs_to_tell(),
        reason="" if result is Verdict.PASS else headline(found),
    )


def _notes(found: Comparison, former: Former, evaluation: Evaluation, redact: Callable[[str], str]) -> list[str]:
    notes, target = [], redact(evaluation.target)
    if found.occasions == 1 and found.runs_before > 1:
        notes.append(
            "All runs before are of one occasion: a difference between that hour and this one looks like one between the builds."
        )
    if former.targets and {_host(one) for one in former.targets} != {_host(target)}:  # an embedded one has another port each time
        notes.append(f"Before was measured at {', '.join(sorted(former.targets))}, now at {target}.")
    if former.probes and former.probes != {evaluation.probe_version}:
        notes.append(f"Before was measured by probe {', '.join(sorted(former.probes))}, now by {evaluation.probe_version}.")
    if found.release_before and found.release_before == found.release_after:
        notes.append(f"Both are of release {found.release_before}.")
    return notes


def _host(target: str) -> str:
    try:
        return urlsplit(target).hostname or target
    except ValueError:
        return target
