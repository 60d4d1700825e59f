"""An agent's records as the last good build: its scheduled runs are many, and the more there were before, the fewer it takes now.

Runs of the release that is looked at now are left out: the agent may have met it already.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from pydantic import ValidationError

from probe.cli.trace import records_url
from probe.clock import SystemClock
from probe.errors import ConfigError, Located
from probe.judge.compare import MOST_RUNS
from probe.judge.compare_figures import Document, RunFigures, figures_of
from probe.model.clock import NS
from probe.model.comparison import Place
from probe.run.former import Former
from probe.store.errors import StoreRefused
from probe.store.reader import Records

_BACK = 7 * 86_400 * NS
_PAGES = 50
_NOTE = "Runs before are scheduled ones of an agent's records: where another machine makes them, that is part of the difference."


async def read_records(store: str, wanted: Collection[Place], release: str, clock: SystemClock) -> Former:
    """The latest scheduled runs of the last week between these places, of any release but `release`. Raises ConfigError where
    there are none, StoreError where the records cannot be read."""
    runs: list[RunFigures] = []
    targets: set[str] = set()
    probes: set[str] = set()
    many: Counter[Place] = Counter()
    try:
        async with Records.reading(records_url(store, None, os.environ), clock) as records:
            before = ""
            for _ in range(_PAGES):
                page = await records.verdicts(clock.system() - _BACK, before)
                for row in page:
                    for document, run in _read(row.verdict_json):
                        if run.place in wanted and many[run.place] < MOST_RUNS and not (release and run.release == release):
                            many[run.place] += 1
                            runs.append(run)
                            targets.add(document.target)
                            probes.add(document.probe.version)
                if not page or all(many[place] >= MOST_RUNS for place in wanted):
                    break
                before = page[-1].run_id
    except StoreRefused as error:
        raise _mistake(str(error)) from error
    if not runs:
        words = ", ".join(f"{place.scenario} ({place.publish_region} → {place.region})" for place in sorted(wanted))
        raise _mistake(f"no scheduled run of {words} in the last 7 days has its verdict there")
    return Former(tuple(runs), frozenset(filter(None, targets)), (_NOTE,), frozenset(filter(None, probes)))


def joined(one: Former, other: Former) -> Former:
    """Both."""
    return replace(
        other,
        runs=one.runs + other.runs,
        targets=one.targets | other.targets,
        notes=one.notes + other.notes,
        probes=one.probes | other.probes,
    )


def _read(text: str) -> list[tuple[Document, RunFigures]]:
    """None of a verdict that this program cannot read: an older one wrote it."""
    try:
        document = Document.model_validate(json.loads(text))
    except (ValueError, ValidationError, RecursionError):
        return []
    return [(document, run) for run in figures_of(document)]


def _mistake(words: str) -> ConfigError:
    return ConfigError([Located("--compare-store", 0, 0, "", words)])
