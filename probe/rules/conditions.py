"""When an alert fires, as data: `promql` writes it for Prometheus, `replay` evaluates the same thing over history, and a test
holds the two equal on a real Prometheus.

A condition is asked of one cell at a time (`Alert.cells`: as fine as the traffic allows, so that no protocol that works hides
one that does not), and told of where the cells that met it lie together (`Alert.by`, `Alert.scopes`: as few alerts as name the
thing); counts are of untainted runs: good, bad.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from probe.rules.fleet import Severity, Slo


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """Bad ÷ all over `short` and over `long` are both above `factor` × the objective's budget, and at least `bad` runs were bad
    over `long` and `fresh` over `short` (0: no such guard)."""

    short: int
    long: int
    factor: float
    bad: int = 0
    fresh: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """Good ÷ all over `window` is below `ratio`, of at least `runs` runs, of which at least `bad` were bad: the direct rule."""

    window: int
    ratio: float
    runs: int
    bad: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """Runs were due by the inventory over `window`, and fewer than `share` of them were recorded."""

    window: int
    share: float


Condition = Burn | Below | Silent


class Kind(StrEnum):
    """What an alert is about; the runbook's text goes by it."""

    BURN = "burn"
    DIRECT = "direct"
    SILENCE = "silence"  # an agent, a region
    STALE = "stale"  # figures are scraped, but are old
    TAINT = "taint"  # the probe is unwell: what it says does not count
    DRILL = "drill"  # one is overdue
    WATCHDOG = "watchdog"  # always fires; its absence is the alert


class Scope(StrEnum):
    """What an alert names. The widest that is bad as a whole is told, and what lies within it is then not told again."""

    EVERYWHERE = "everywhere"  # every path is bad: region="all"
    PUBLISH = "publish_region"  # whatever is published there is bad wherever it is viewed: region is the publishing one
    REGION = "region"  # what is viewed there


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alerting rule. Fires where any of `conditions` has held for `hold` ns in one of its cells (label sets of `cells`), once
    for each group `by`. Where `scopes` has more than REGION, a fault that fills a wider one is told once, as that; what lies
    within it is told only `settle` ns after it no longer does.

    Once it fires it stays until none has held for `keep` ns.

    `labels` holds at least slo, severity, owner and region (or `by` brings it); `annotations` at least summary, action, runbook,
    dashboard and sla. `slo` None: of the probe itself. `expr` is what Prometheus evaluates."""

    name: str
    kind: Kind
    severity: Severity
    slo: Slo | None
    by: tuple[str, ...]
    cells: tuple[str, ...] = ()  # empty: of each group as a whole
    scopes: tuple[Scope, ...] = (Scope.REGION,)
    conditions: tuple[Condition, ...]
    hold: int = 0
    settle: int = 0
    keep: int = 0
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    shadow: bool = False  # would have paged: routed to nobody, counted only
