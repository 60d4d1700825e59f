"""The shape of scorecard.json: what a drill showed. Changed only with a line in the changelog.

The published JSON Schema is made from these classes. Absent is absent: a field that is None is left out, and a 0 was measured.
Durations are seconds; instants (`at`, `*_at`) are seconds after the drill began. Beside every figure that is worked out from
others stand the samples, so that the next run of the same drill can be held against it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from probe.export.verdict_model import without_null

Seconds = Annotated[float, Field(description="seconds")]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(description="share of 1")]
When = Literal["before", "meanwhile", "after"]
Change = Literal["better", "same", "worse", "cannot_tell"]
Word = Literal["pass", "weakness", "inconclusive", "invalid", "aborted", "not_restored"]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Spread(Part):
    """A distribution by its landmarks; quantiles are nearest ranks, always a value that was measured."""

    n: Count
    p50: Seconds
    p95: Seconds
    max: Seconds
    samples: list[Seconds] = Field(description="in order of size, at most 400 of them at equal ranks")


class CommandScore(Part):
    do: str
    undo: str


class FaultScore(Part):
    """One fault: what was done, and when it was seen."""

    name: str
    kind: str
    klass: str | None = None
    targets: list[str]
    of: Count | None = Field(default=None, description="how many there were that could have been hit")
    commands: list[CommandScore] = []
    restored_by: str | None = Field(default=None, description="who brings back what has no undo")
    injecting_at: Seconds | None = None
    seen_injected_at: Seconds | None = None
    restoring_at: Seconds | None = None
    seen_restored_at: Seconds | None = None
    gone_at: Seconds | None = Field(default=None, description="its target vanished, and the fault with it")
    inject_seen_in: Seconds | None = Field(default=None, description="from the call's end until it was seen to be there")
    restore_seen_in: Seconds | None = Field(default=None, description="from the undo's beginning until it was seen to be gone")
    undone_by: str | None = Field(default=None, description="runner, watchdog or target")
    trouble: list[str] = Field(default=[], description="what failed on the way, in words")


class ConditionScore(Part):
    """One condition of the drill. Of steady how it stood before the injection, of recovery whether it was reached, of meanwhile
    and abort the worst that was read."""

    part: Literal["steady", "meanwhile", "abort", "recovery"]
    condition: str
    region: str | None = None
    met: bool | None = Field(default=None, description="absent: it could not be said")
    value: float | None = None
    n: Count = 0
    looks: Count = Field(description="how often it was read")
    met_at: Seconds | None = Field(default=None, description="since when it was met, and stayed so to the end of its part")
    took: Seconds | None = Field(
        default=None, description="of recovery: from the restore that was seen until it was met for good"
    )
    reason: str | None = None


class DetectionScore(Part):
    """The first alert or gate that fired after the fault was injected."""

    took: Seconds = Field(description="from the fault seen to the alarm; 0 where it fired before the fault was seen to be there")
    source: Literal["gate", "prometheus", "alertmanager"]
    name: str
    region: str | None = None
    severity: str | None = None
    after_restore: bool = Field(default=False, description="it came when the fault had already been put back")


class MitigationScore(Part):
    """When users were well again: all conditions hold, and go on holding."""

    took: Seconds = Field(description="from the fault seen until all conditions held for good")
    by: Literal["platform", "restore"] = Field(description="platform: while the fault still was there")


class AlarmScore(Part):
    at: Seconds
    ended_at: Seconds | None = None
    source: Literal["gate", "prometheus", "alertmanager"]
    name: str
    region: str | None = None
    severity: str | None = None
    ours: bool = Field(description="expected of this drill")


class CohortScore(Part):
    """Viewers alike who came before the fault and stayed for all of it."""

    region: str
    protocol: str
    device: str
    ingest: str | None = None
    meant: bool = Field(description="of the regions and protocols that the drill is to hit")
    viewers: Count = Field(description="who played when the fault began")
    unaffected: Count
    resumed: Count
    restarted: Count
    failed: Count
    open: Count = Field(description="away when the drill ended, with time left to come back")
    untold: Count = Field(description="the drill ended before it could be told")
    tainted: Count = Field(description="whose outcome was measured while the probe was unwell; in none of the counts above")
    back_before_restore: Count = Field(description="whose picture was back while the fault still was there")
    outage: Spread | None = None
    reconnect: Spread | None = Field(default=None, description="of those who had no picture at the restore")
    without_picture: Seconds | None = Field(default=None, description="viewer-seconds since the injection")
    watched: Seconds | None = Field(default=None, description="viewer-seconds since the injection, without tainted ones")
    tainted_seconds: Seconds | None = None


class StartScore(Part):
    """Viewers' starts in one phase of the drill."""

    when: When
    region: str
    protocol: str
    device: str
    ingest: str | None = None
    meant: bool
    done: Count
    failed: Count
    tainted: Count
    other: Count = Field(description="skipped, cancelled, aborted, in flight")
    first_frame: Spread | None = None
    reasons: dict[str, Count] = Field(default={}, description="phase/reason of those that failed")


class RoomScore(Part):
    """Room starts of whole runs in one phase."""

    when: When
    region: str
    done: Count
    failed: Count
    tainted: Count
    other: Count


class AgainScore(Part):
    """The first start that succeeded after the restore, where starts had failed."""

    region: str
    protocol: str
    took: Seconds = Field(description="restored → first verified frame of that start; no finer than starts were made")


class LossScore(Part):
    """Messages, gifts and payments of the start runs in one phase."""

    when: When
    service: str
    region: str
    done: Count
    never_seen: Count = Field(description="sent, and not seen by everybody in time")
    twice: Count = Field(description="counted or charged twice")
    not_counted: Count = Field(description="accepted, and in no ledger")
    failed: Count = Field(description="any other failure: refused, timed out")
    tainted: Count


class HitScore(Part):
    """A cohort that should not have been touched, and was."""

    region: str
    protocol: str
    device: str
    viewers: Count
    of_viewers: Count
    starts_failed: Count
    of_starts: Count


class BlastScore(Part):
    meant_regions: list[str]
    meant_protocols: list[str] = Field(description="empty: all")
    hit_inside: Count
    of_inside: Count
    hit_outside: Count
    of_outside: Count = Field(description="0: nobody watched outside, so nothing is known of it")
    outside: list[HitScore]


class BudgetScore(Part):
    """One objective's error budget, had scheduled runs fared as the drill's did."""

    slo: str
    indicator: str
    target: Share
    window_days: float
    good: Count
    bad: Count
    inconclusive: Count
    spent: Share | None = Field(default=None, description="of the budget of the whole window; absent: nothing could be told")


class StripScore(Part):
    """One slice of time of everybody who stayed."""

    at: Seconds
    took: Seconds
    share: Share = Field(description="verified frames a viewer, of the usual; may be above 1")


class HealthScore(Part):
    """The probe's own."""

    samples: Count
    tainted_samples: Count
    taints: dict[str, Count]
    loop_lag_max: Seconds | None = None
    decode_backlog_max: Seconds | None = None
    run_delay_max: Share | None = None
    throttled_max: Share | None = None
    pressure_max: Share | None = None


class CostScore(Part):
    """What the runner took of its host, its traffic included."""

    seconds: Seconds
    cpu_seconds: Seconds
    memory_bytes: Count = Field(description="most that was resident")
    processors: Count


class FigureScore(Part):
    """One figure against the last run of the same drill."""

    name: str
    change: Change
    before: float | None = None
    now: float | None = None
    unit: Literal["seconds", "share", "count"]
    n_before: Count
    n_now: Count
    words: str


class ComparedScore(Part):
    """Against the last run of the same drill."""

    run: str
    began_at: str
    verdict: Word
    change: Change
    words: str
    figures: list[FigureScore]
    not_comparable: list[str] = []


class Score(Part):
    """One drill, measured."""

    schema_version: Literal[1] = 1
    drill: str
    description: str = ""
    run: str
    owner: str
    scenario: str
    regions: list[str]
    tags: list[str] = []
    began: str = Field(description="RFC 3339, UTC", json_schema_extra={"format": "date-time"})
    seconds: Seconds
    probe_version: str
    target: str = ""
    release: str | None = None
    verdict: Word
    reason: str
    injected_at: Seconds | None = Field(default=None, description="the first fault was seen to be there")
    restored_at: Seconds | None = Field(default=None, description="the last fault was seen to be gone")
    detection: DetectionScore | None = None
    mitigation: MitigationScore | None = None
    mitigation_untold: str | None = Field(default=None, description="why there is no time to mitigate")
    faults: list[FaultScore]
    conditions: list[ConditionScore]
    alarms: list[AlarmScore]
    cohorts: list[CohortScore]
    starts: list[StartScore]
    rooms: list[RoomScore]
    first_frame_again: list[AgainScore]
    losses: list[LossScore]
    blast: BlastScore
    strip: list[StripScore] = Field(description="slices that anybody watched; one that is missing was not watched")
    budget: list[BudgetScore]
    budget_assumes: str
    resolution: list[str] = Field(description="how finely things were measured")
    health: HealthScore
    cost: CostScore | None = None
    ledger: str | None = Field(default=None, description="its state when the scorecard was written")
    compared: ComparedScore | None = None


def json_schema() -> dict[str, Any]:
    """The published JSON Schema of scorecard.json."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    plain: dict[str, Any] = without_null(Score.model_json_schema(mode="serialization"))
    return {**head, **plain, "title": "scorecard.json"}
