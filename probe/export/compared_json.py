"""`comparison` of verdict.json."""

from __future__ import annotations

from probe.export.compared_words import headline, ranked, title_of, words_of
from probe.export.verdict_model import ComparisonDoc, DifferenceDoc
from probe.model.comparison import Comparison, Difference


def comparison_document(comparison: Comparison) -> ComparisonDoc:
    """What is worse first."""
    return ComparisonDoc(
        change=comparison.change.value,
        words=headline(comparison),
        release_before=comparison.release_before or None,
        runs_before=comparison.runs_before,
        runs_after=comparison.runs_after,
        occasions_before=comparison.occasions,
        differences=[_difference(one, comparison) for one in ranked(comparison)],
        not_comparable=list(comparison.apart),
        notes=list(comparison.notes),
    )


def _difference(one: Difference, comparison: Comparison) -> DifferenceDoc:
    about = one.about
    larger, pairs = one.pairs or (None, None)
    return DifferenceDoc(
        name=title_of(one, comparison),
        scenario=one.place.scenario,
        publish_region=one.place.publish_region,
        region=one.place.region,
        indicator=about.indicator,
        protocol=about.protocol or None,
        ingest=about.ingest or None,
        device=about.device or None,
        step=about.step or None,
        unit=one.unit,
        change=one.change.value,
        before=one.before,
        after=one.after,
        runs_before=one.runs_before,
        runs_after=one.runs_after,
        shift=one.shift,
        low=one.low,
        high=one.high,
        least=one.least,
        pairs_larger=larger,
        pairs=pairs,
        runs_needed=one.runs_needed,
        stages=dict(one.stages),
        words=words_of(one, comparison),
    )
