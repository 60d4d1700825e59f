"""The shape of verdict.json: what others build on. Changed only with a line in the changelog.

The published JSON Schema is made from these classes. Absent is absent: a field that is None is left out, and there is no
NaN. Times are RFC 3339 in UTC, durations are seconds, rates bytes per second.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from probe.export.drill_model import DrillDoc

Result = Literal["pass", "warn", "inconclusive", "fail"]
OutcomeName = Literal["done", "failed", "skipped", "cancelled", "aborted", "in_flight"]
Change = Literal["better", "same", "worse", "cannot_tell"]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Seconds = Annotated[float, Field(description="seconds")]
BytesPerSecond = Annotated[float, Field(ge=0, description="bytes per second of media")]
Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CauseDoc(_Part):
    """The common factor of what went wrong: in words, and as fields."""

    words: str
    fields: dict[str, str] = {}
    count: Count | None = Field(default=None, description="attempts that share it and went wrong")
    of: Count | None = Field(default=None, description="attempts that share it")


class ClockDoc(_Part):
    error_seconds: Seconds | None = None


class HealthDoc(_Part):
    samples: Count
    tainted_samples: Count
    loop_lag_seconds_max: Seconds | None = None
    decode_backlog_seconds_max: Seconds | None = None
    run_delay_ratio_max: float | None = None
    throttled_ratio_max: float | None = None
    pressure_ratio_max: float | None = None
    taints: list[str] = []


class ProbeDoc(_Part):
    version: str
    health: HealthDoc
    clock: ClockDoc


class QuorumDoc(_Part):
    """Conclusive runs there were, and how many it takes."""

    have: Count
    need: Count


class RegionDoc(_Part):
    region: str
    result: Result
    quorum: QuorumDoc


class SplitDoc(_Part):
    untainted: Count
    tainted: Count


class AttemptsDoc(_Part):
    """Sessions intended; the total is the sum of all below it."""

    total: Count
    done: SplitDoc
    failed: SplitDoc
    skipped: SplitDoc
    cancelled: SplitDoc
    aborted: SplitDoc
    in_flight: SplitDoc


class StepDoc(_Part):
    step: str
    kind: str
    service: str | None = None
    outcome: OutcomeName
    phase: str | None = None
    reason: str | None = None
    detail: str | None = None
    taints: list[str] = []
    seconds: Seconds | None = None
    optional: bool = False
    final: bool = False
    span_id: str


class LatencyDoc(_Part):
    n: Count
    p50: Seconds
    p95: Seconds
    max: Seconds
    clock_error: Seconds | None = Field(default=None, description="bound on the clocks' error; absent: unknown")
    clock_faults: Count = 0


class FramesDoc(_Part):
    """Frames by what they were; a verified frame was decoded too."""

    decoded: Count
    verified: Count
    lost: Count
    duplicate: Count
    reordered: Count
    corrupt: Count
    broken: Annotated[Count, Field(description="a fresh code over a picture that is not the programme's")]
    uncoded: Count
    foreign: Count
    stale: Count
    undecodable: Count
    skipped: Annotated[Count, Field(description="jumped over by our own player, to come nearer to live")] = 0


class FreezesDoc(_Part):
    """`count` and `seconds` by the W3C rule; `fixed` by 500 ms; rebuffering for buffered players only."""

    count: Count
    seconds: Seconds
    ratio: float | None = None
    fixed: Count
    rebuffers: Count | None = None
    rebuffer_seconds: Seconds | None = None
    rebuffer_ratio: float | None = None


class BitrateDoc(_Part):
    p50: BytesPerSecond
    min: BytesPerSecond
    max: BytesPerSecond
    renditions: list[str] = []


class SkewDoc(_Part):
    n: Count
    p50: Seconds
    max_abs: Seconds


class ReconnectDoc(_Part):
    step: str
    kind: str
    outcome: Literal["unaffected", "resumed", "restarted", "failed", "open"] | None = None
    outage_seconds: Seconds | None = None
    reconnect_seconds: Seconds | None = None
    so_far_seconds: Seconds | None = Field(
        default=None, description="the picture had been away for so long when the stay was ended; no outage, for it was not over"
    )
    attempts: Count
    phase: str | None = None
    reason: str | None = None
    detail: str | None = None
    taints: list[str] = []


class EdgeDoc(_Part):
    edge: str | None = None
    cache: str | None = None
    status: Annotated[str, Field(description="2xx, 3xx, 4xx, 5xx, or none where no answer came")]
    requests: Count


class SpreadDoc(_Part):
    n: Count
    p50: Seconds
    p95: Seconds
    max: Seconds


class RungDoc(_Part):
    """One rendition: what the manifest declares of it, and what came. Bits and frames a second."""

    rendition: str
    codecs: str | None = None
    width: Count | None = None
    height: Count | None = None
    bandwidth: Count | None = None
    frame_rate: float | None = None
    delivered_width: Count | None = None
    delivered_height: Count | None = None
    delivered_frame_rate: float | None = None
    delivered_bitrate: SpreadDoc | None = Field(default=None, description="bits per second of media, a value a second")


class DeliveryDoc(_Part):
    """A segmented player's stay: its manifest, its distance from live, its buffer."""

    reloads: Count
    discontinuities: Count
    backwards: Count
    unmoved_seconds_max: Seconds
    part_gap_seconds_max: Seconds | None = None
    live_latency_seconds: SpreadDoc | None = Field(default=None, description="by the platform's own wall clock")
    buffered_seconds: SpreadDoc | None = None
    switches: Count = 0


class CellDoc(_Part):
    """One cell of publisher × viewer protocol."""

    of: str = Field(description="step of the publisher; empty: several, or none of ours")
    ingest: str
    protocol: str
    device: str
    result: Result
    viewers: Count
    started: Count
    first_frame_seconds: Seconds | None = Field(default=None, description="median")
    e2e_latency_seconds: Seconds | None = Field(default=None, description="median")
    sound: bool | None = Field(default=None, description="heard by all; absent: none was sent, or too little was watched")
    reason: str | None = None


class EndedDoc(_Part):
    """How a stay ended that did not end as planned."""

    phase: str
    reason: str
    detail: str | None = None


class SessionDoc(_Part):
    session_id: str
    name: str
    step: str
    role: Literal["publisher", "viewer"]
    protocol: str
    device: str
    region: str
    join: str | None = None
    verify: str
    optional: bool = False
    span_id: str
    began_at: Time
    outcome: OutcomeName
    phase: str | None = None
    reason: str | None = None
    detail: str | None = None
    ending: Literal["planned", "crashed"] | None = None
    ended_by: EndedDoc | None = None
    taints: list[str] = []
    start_seconds: Seconds | None = Field(default=None, description="publisher: intent to acknowledged media")
    first_frame_seconds: Seconds | None = Field(default=None, description="viewer: intent to first verified frame")
    stages: dict[str, Seconds] = {}
    e2e_latency_seconds: LatencyDoc | None = None
    frames: FramesDoc | None = None
    freezes: FreezesDoc | None = None
    bitrate: BitrateDoc | None = None
    av_skew_seconds: SkewDoc | None = None
    reconnects: list[ReconnectDoc] = []
    edges: list[EdgeDoc] = []
    ingest: str | None = Field(default=None, description="protocol of the publisher it watches, or its own")
    of: str | None = Field(default=None, description="step of the publisher it watches")
    sounds: Count | None = Field(default=None, description="sound marks heard; absent: none were sent")
    ladder: list[RungDoc] = []
    delivery: DeliveryDoc | None = None
    facts: dict[str, str] = {}


class GroupDoc(_Part):
    """Sessions alike, where a run has too many to list. Failed ones are listed beside it all the same."""

    role: Literal["publisher", "viewer"]
    protocol: str
    device: str
    region: str
    sessions: Count
    outcomes: dict[str, Count]
    tainted: Count
    first_frame_seconds: SpreadDoc | None = None
    e2e_latency_seconds: SpreadDoc | None = None
    reconnects: dict[str, Count] = {}


class ObjectiveDoc(_Part):
    """One run's part in one objective: what its budget and its alerts count."""

    slo: str
    protocol: str | None = None
    outcome: Literal["good", "bad", "inconclusive"]


class RunDoc(_Part):
    run_id: str
    trace_id: str
    scenario: str
    mode: str
    seed: int
    publish_region: str
    region: str
    result: Result
    outcome: OutcomeName
    started_at: Time
    seconds: Seconds | None = None
    release: str | None = Field(default=None, description="of the platform, where the run was told or learned it")
    taints: list[str] = []
    attempts: AttemptsDoc
    available_seconds: dict[str, Seconds] = {}
    matrix: list[CellDoc] = []
    objectives: list[ObjectiveDoc] = []
    steps: list[StepDoc] = []
    sessions: list[SessionDoc] = []
    groups: list[GroupDoc] | None = Field(default=None, description="above 50 sessions: all of them by kind")
    notes: list[str] = []


class CheckDoc(_Part):
    name: str
    result: Result
    value: float | None = None
    unit: str | None = None
    threshold: str | None = None
    n: Count
    min_n: Count
    window: str | None = None
    region: str | None = None
    owner: str | None = None
    action: str | None = None
    phase: str | None = None
    reason: str | None = None
    subject: str | None = None


class DifferenceDoc(_Part):
    """One indicator against the build before. Values in seconds, or as shares of 1."""

    name: str = Field(description="in words")
    scenario: str
    publish_region: str
    region: str
    indicator: str
    protocol: str | None = None
    ingest: str | None = None
    device: str | None = None
    step: str | None = None
    unit: Literal["seconds", "share", "runs"] = Field(description="a time; a share of time; a share of good runs")
    change: Change
    before: float = Field(description="median over runs; of good runs their share")
    after: float
    runs_before: Count
    runs_after: Count
    shift: float = Field(description="after − before (Hodges–Lehmann; of shares, their difference)")
    low: float | None = Field(default=None, description="95 % interval of the shift; absent: too few runs for one")
    high: float | None = None
    least: float = Field(description="the smallest difference that matters")
    pairs_larger: Count | None = Field(
        default=None, description="pairs of a run before and one after, in which the later is larger"
    )
    pairs: Count | None = None
    runs_needed: Count | None = Field(default=None, description="on each side: so many would probably tell")
    stages: dict[str, float] = Field(default={}, description="of a start: by how much the median of each stage is longer")
    words: str


class ComparisonDoc(_Part):
    """These runs against those of a former build."""

    change: Change
    words: str
    release_before: str | None = None
    runs_before: Count
    runs_after: Count
    occasions_before: Count = Field(description="invocations that the runs before come from")
    differences: list[DifferenceDoc]
    not_comparable: list[str] = []
    notes: list[str] = []


class VerdictDoc(_Part):
    """One invocation's verdict and what it rests on."""

    schema_version: Literal[1] = 1
    kind: Literal["run", "smoke", "drill"]
    result: Result
    cause: CauseDoc | None = None
    started_at: Time
    evaluated_at: Time
    expires_at: Time | None = None
    probe: ProbeDoc
    target: str
    release: str | None = None
    regions: list[RegionDoc]
    runs: list[RunDoc]
    checks: list[CheckDoc]
    comparison: ComparisonDoc | None = Field(default=None, description="where a former build was given to compare with")
    drill: DrillDoc | None = Field(default=None, description="of kind drill")


def json_schema() -> dict[str, Any]:
    """The published JSON Schema of verdict.json."""
    schema = VerdictDoc.model_json_schema(mode="serialization")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {**head, **without_null(schema), "title": "verdict.json"}


def without_null(schema: Any) -> Any:
    """What is None here is absent in the file, so the schema allows no null and names none as a default."""
    if isinstance(schema, list):
        return [without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: without_null(value) for key, value in schema.items() if not (key == "default" and value is None)}
    choices = plain.pop("anyOf", None)
    if choices is None:
        return plain
    kept = [choice for choice in choices if choice != {"type": "null"}]
    return {**plain, **kept[0]} if len(kept) == 1 else {**plain, "anyOf": kept}
