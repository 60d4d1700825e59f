"""Which cells are bad → what is told: the widest thing that is bad as a whole, once, and not again what lies within it.

The same as `promql.firing` says to Prometheus: of the parts (pairs of publishing and viewing region) those are as bad as the
worst that have more than a third of its share of bad runs, over the window that `promql.evidence` chooses; where all parts are,
of which there are several, the whole is told. An alert without `cells` tells each of its groups as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probe.rules.conditions import Alert, Scope
from probe.rules.history import Place
from probe.rules.promql import AS_BAD, EVERYWHERE
from probe.rules.replay import Flags, Shares

NAMED = ("publish_region", "region", "protocol", "scenario")
Part = tuple[str, str]  # publishing region, viewing region; empty where cells are not told apart by it


@dataclass(frozen=True, eq=False, slots=True)
class Cell:
    """`bad`: at which evaluations its conditions were met; `share` of bad runs over the evidence's window, NaN of none."""

    labels: Mapping[str, str]
    bad: Flags
    share: Shares

    @property
    def part(self) -> Part:
        return self.labels.get("publish_region", ""), self.labels.get("region", "")


def gathered(alert: Alert, cells: Sequence[Cell], interval: int) -> Iterator[tuple[dict[str, str], Place, Flags]]:
    """For each thing that could be told: its labels, where that is, and at which evaluations, every `interval` ns, it was so."""
    if not alert.cells:
        for cell in cells:
            labels = dict(cell.labels)
            yield labels, Place(**{name: value for name, value in labels.items() if name in NAMED}), cell.bad
        return
    if not any(cell.bad.any() for cell in cells):
        return
    nothing = np.zeros(len(cells[0].bad), dtype=np.bool_)
    settle = -(-alert.settle // interval)
    everywhere = nothing
    if Scope.EVERYWHERE in alert.scopes:
        everywhere = _any(cells, nothing) if Scope.REGION not in alert.scopes else _whole(cells, nothing)
        yield {"region": EVERYWHERE}, Place(), everywhere
        everywhere = _lately(everywhere, settle)
    published = dict.fromkeys((cell.part[0] for cell in cells), nothing)
    if Scope.PUBLISH in alert.scopes:
        for publish in published:
            published[publish] = _whole([cell for cell in cells if cell.part[0] == publish], nothing)
            flags = published[publish] & ~everywhere
            yield {"region": publish, "publish_region": publish}, Place(publish_region=publish), flags
            published[publish] = _lately(published[publish], settle)
    if Scope.REGION in alert.scopes:
        for region in dict.fromkeys(cell.part[1] for cell in cells):
            left = nothing
            for cell in cells:
                if cell.part[1] == region:
                    left = left | (cell.bad & ~everywhere & ~published[cell.part[0]])
            yield {"region": region}, Place(region=region), left


def _lately(flags: Flags, steps: int) -> Flags:
    """Where it was so at this evaluation or at one of the `steps` before."""
    if not steps or not flags.any():
        return flags
    before = np.cumsum(np.concatenate((np.zeros(steps + 1, dtype=np.int32), flags)), dtype=np.int32)
    found: Flags = before[steps + 1 :] > before[: -steps - 1]
    return found


def _any(cells: Sequence[Cell], nothing: Flags) -> Flags:
    found = nothing
    for cell in cells:
        found = found | cell.bad
    return found


def _whole(cells: Sequence[Cell], nothing: Flags) -> Flags:
    """Where one of them is bad, and all parts that have runs, of which there are several, are as bad."""
    parts: dict[Part, Shares] = {}
    for cell in cells:
        seen = parts.get(cell.part)
        parts[cell.part] = cell.share if seen is None else np.fmax(seen, cell.share)
    if len(parts) < 2:
        return nothing
    shares = np.stack(list(parts.values()))
    known = ~np.isnan(shares)
    floor = np.where(known, shares, 0.0).max(axis=0) / AS_BAD
    as_bad = (known & (np.where(known, shares, 0.0) > floor)).sum(axis=0)
    several = known.sum(axis=0)
    whole: Flags = (as_bad == several) & (several > 1)
    return whole & _any(cells, nothing)
