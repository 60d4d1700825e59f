"""How many sessions a journey comes to at most, before anything is asked of the network.

A view multiplies: protocols × broadcasts × items of a list × addresses of a name × count, each factor small and harmless. The
bound is that of one probe's machine: a viewer costs some hundredths of a core and tens of MiB, so that 500 are more than one
run can watch without starving itself, and what starves measures itself. More viewers are more agents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from probe.model.bounds import MOST_ADDRESSES
from probe.scenario.steps import Viewers

MOST_SESSIONS = 500


def factors(view: Viewers, declared: Mapping[str, Any], publishers: int) -> dict[str, int]:
    """What multiplies, by name, where it is more than one. `declared`: addresses by protocol; `publishers`: steps so far."""
    vias = list(declared) if view.via == "all" else [view.via]
    addresses = [str(view.url or declared.get(via, "")) for via in vias]
    broadcasts = 1 if view.verify == "moving" else max(1, len(view.of) or publishers)
    groups = sum(broadcasts if "${stream}" in address + view.streamid else 1 for address in addresses)
    found = {
        "protocols and broadcasts": groups,
        "items": view.at_most if view.over is not None else 1,
        "addresses": MOST_ADDRESSES if view.edges == "each" else 1,
        "count": view.count,
    }
    return {name: value for name, value in found.items() if value > 1}


def too_many(views: Sequence[dict[str, int]], publishers: int) -> tuple[int, str] | None:
    """Which view makes the journey too large (the one of most viewers), and what to say of it; None where it is not."""
    sizes = [prod(view.values()) for view in views]
    total = sum(sizes) + publishers
    if total <= MOST_SESSIONS or not views:
        return None
    worst = max(range(len(views)), key=lambda i: sizes[i])
    how = " × ".join(f"count {value}" if name == "count" else f"{value} {name}" for name, value in views[worst].items())
    return worst, (
        f"comes to {sizes[worst]} viewers ({how}), and the journey to {total} sessions where a run has {MOST_SESSIONS} at most; "
        "lower count or at_most, watch fewer protocols or any edge, or spread them over several scenarios"
    )
