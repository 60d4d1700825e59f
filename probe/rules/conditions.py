"""When an alert fires, as data: `promql` writes it for Prometheus, `replay` evaluates the same thing over history, and a test
holds the two equal on a real Prometheus.

A condition is asked of one group of label sets at a time (`Alert.by`); counts are of untainted runs: good, bad.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from probe.rules.fleet import Severity, Slo


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """Bad ÷ all over `short` and over `long` are both above `factor` × the objective's budget, and at least `bad` runs were bad
    over `long` (0: no such guard)."""

    short: int
    long: int
    factor: float
    bad: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """Good ÷ all over `window` is below `ratio`, of at least `runs` runs: the direct rule."""

    window: int
    ratio: float
    runs: int


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
    WATCHDOG = "watchdog"  # always fires; its absence is the alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alerting rule. Fires where any of `conditions` has held for `hold` ns, apart for each group `by`.

    `labels` holds at least slo, severity, owner and region (or `by` brings it); `annotations` at least summary, action, runbook,
    dashboard and sla. `slo` None: of the probe itself. `expr` is what Prometheus evaluates."""

    name: str
    kind: Kind
    severity: Severity
    slo: Slo | None
    by: tuple[str, ...]
    conditions: tuple[Condition, ...]
    hold: int = 0
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    shadow: bool = False  # would have paged: routed to nobody, counted only
