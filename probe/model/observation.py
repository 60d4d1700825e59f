"""Facts. Frozen, picklable, JSON both ways; each carries run, session, seq and a monotonic `at`.

Everything the product says (metrics, traces, reports, verdicts) is derived from a list of these and nothing else.
High-rate facts are folded into one Window a second before they become observations.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Union, get_args, get_origin

from probe.model.outcome import Aborted, Cancelled, Done, Failed, Outcome, Skipped
from probe.model.stage import Phase, Stage

UNHEARD = "unheard"  # a session's fact: sound came that this probe cannot hear, and what it was; no silence of the platform's


class Role(StrEnum):
    PUBLISHER = "publisher"
    VIEWER = "viewer"


class CutOutcome(StrEnum):
    """How a cut ended."""

    UNAFFECTED = "unaffected"  # a buffer bridged it
    RESUMED = "resumed"  # the same session went on
    RESTARTED = "restarted"  # a new session took over
    FAILED = "failed"  # no verified frame within the reconnect deadline
    OPEN = "open"  # the stay was ended while the picture was away, and time to come back was left


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """`session` is a session id, or the name of a step, or empty for facts of the run itself."""

    run: str = ""
    session: str = ""
    seq: int = 0
    at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBegan(Fact):
    scenario: str
    mode: str
    seed: int
    publish_region: str
    region: str
    run_number: int
    trace_id: str
    span_id: str
    wall_unix_ns: int
    wall_error_ns: int | None = None
    target: str
    probe_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Fact):
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionBegan(Fact):
    """An attempt: counted at intent, before name resolution."""

    step: str
    name: str
    role: Role
    protocol: str
    device: str
    region: str
    publish_region: str
    join: str  # mid_stream | at_go_live
    verify: str  # code | moving
    buffered: bool
    optional: bool
    span_id: str
    ingest: str = ""  # protocol of the publisher that is watched, or its own; empty: several, or none of ours
    of: str = ""  # name of that publisher's step
    sound: bool = False  # sound is to be heard: its publisher sends some


@dataclass(frozen=True, slots=True, kw_only=True)
class StageDone(Fact):
    """One slice of a start. `attempt` 0 is the start itself; later ones are reconnects."""

    stage: Stage
    began: int
    took: int
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted(Fact):
    """First verified frame (viewer), media acknowledged (publisher). `took` = intent → there, the sum of its stages."""

    took: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded(Fact):
    """The start's outcome, and how the stay ended: `planned`, `crashed`, or empty where nothing ever started."""

    outcome: Outcome
    ending: str = ""
    ended_by: Failed | None = None
    facts: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Available(Fact):
    """Publisher start → the first viewer of `protocol` could start. `ingest`: the publisher's protocol."""

    protocol: str
    took: int
    ingest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDone(Fact):
    """One HTTP exchange, as the wire showed it. No query, no secret in `url`. `status` 0: no answer came."""

    service: str
    purpose: str
    method: str
    url: str
    edge: str
    cache: str
    status: int
    size: int
    took: int
    request_id: str
    span_id: str
    parent_span_id: str
    failure: Failed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerBegan(Fact):
    """A body without end begins: what is known of its request then, `took` from the request to the answer's headers. The
    RequestDone of the same id follows when it is over, and counts; a record that is cut off has this alone."""

    purpose: str
    request_id: str
    status: int
    edge: str
    cache: str
    took: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window(Fact):
    """One second of a session: counts within it, never cumulative. Latencies in seconds, one per verified frame. `skipped`:
    frames our own player jumped over to come nearer to live, which are no loss of the platform's."""

    took: int
    decoded: int = 0
    verified: int = 0
    lost: int = 0
    duplicate: int = 0
    reordered: int = 0
    corrupt: int = 0
    uncoded: int = 0
    foreign: int = 0
    stale: int = 0
    undecodable: int = 0
    bytes: int = 0
    media_seconds: float = 0.0
    latencies: tuple[float, ...] = ()
    clock_error: float | None = None
    clock_faults: int = 0
    skews: tuple[float, ...] = ()
    rendition: str = ""
    broken: int = 0
    width: int = 0  # of the last picture
    height: int = 0
    sounds: int = 0  # sound marks heard
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze(Fact):
    """A gap between shown frames. `rule`: w3c, fixed_500ms, or rebuffer for buffered players."""

    began: int
    took: int
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One rendition as declared. `name` is its label; what is not declared is None. Bits and frames a second."""

    name: str
    codecs: str = ""
    width: int | None = None
    height: int | None = None
    bandwidth: int | None = None
    frame_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder(Fact):
    """The renditions a manifest declares, as first seen."""

    rungs: tuple[Rung, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched(Fact):
    """From one rendition to another, at its first picture shown."""

    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(Fact):
    """One second of a segmented player's life: counts within it. Seconds; None where nothing told them.

    `live_latency`: the wall clock the platform puts on its media (PROGRAM-DATE-TIME, prft) against ours, for what is on screen.
    `buffered`: media not shown yet. `unmoved`: how long the manifest has stood still beyond its own pace. `part_gap`: the
    longest wait for the next part or segment beyond its own duration. `backwards`: media sequence numbers that went back."""

    reloads: int = 0
    discontinuities: int = 0
    backwards: int = 0
    unmoved: float = 0.0
    part_gap: float | None = None
    live_latency: float | None = None
    buffered: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CutBegan(Fact):
    kind: str
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored(Fact):
    """The path is back, seen by whoever cut it."""

    kind: str
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Fact):
    """A cut's end as one session saw it. `outage` and `reconnect` in ns by section 2 of the design; absent is absent. `so_far`:
    how long (ns) the picture had been away when the stay was ended before it was back; the outage would have been longer."""

    kind: str
    step: str
    outcome: CutOutcome
    outage: int | None = None
    reconnect: int | None = None
    attempts: int = 0
    failure: Failed | None = None
    so_far: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBegan(Fact):
    step: str
    kind: str
    service: str
    span_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone(Fact):
    step: str
    kind: str
    service: str
    outcome: Outcome
    took: int
    optional: bool = False
    final: bool = False  # a `finally` step


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSample(Fact):
    """The probe's look at itself over the last interval. `taints` names what was out of bounds; seconds and ratios."""

    took: int
    loop_lag: float
    decode_backlog: float | None = None
    run_delay: float | None = None  # share of time our threads were runnable and not running
    throttled: float | None = None
    pressure: float | None = None  # share of the last 2 s in which anybody on this machine waited for a processor
    taints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSeen(Fact):
    """Which release of the platform this run looks at, as soon as that is known."""

    release: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Fact):
    """Something a person should read and no number needs: a DELETE answered 405, a ledger entry swept."""

    text: str


Observation = (
    RunBegan | RunEnded | SessionBegan | StageDone | SessionStarted | SessionEnded | Available | RequestDone | Window | Freeze
    | AnswerBegan | Ladder | Switched | Delivery
    | CutBegan | Restored | Resumed | StepBegan | StepDone | HealthSample | Note | ReleaseSeen
)  # fmt: skip
_KINDS: dict[str, type] = {t.__name__: t for t in (*get_args(Observation), Rung, Done, Failed, Skipped, Cancelled, Aborted)}


def to_json(fact: Observation) -> dict[str, Any]:
    """A JSON object; its `kind` names the fact. Absent (None) fields are left out."""
    return typing.cast(dict[str, Any], _plain(fact))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        out: dict[str, Any] = {"kind": type(value).__name__}
        for f in dataclasses.fields(value):
            item = getattr(value, f.name)
            if item is not None:
                out["cut" if f.name == "kind" else f.name] = _plain(item)
        return out
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


def from_json(data: dict[str, Any]) -> Observation:
    """The inverse of `to_json`. Raises ValueError on an unknown kind or a field of the wrong shape."""
    return typing.cast(Observation, _build(data))


def _build(data: Any) -> Any:
    try:
        cls = _KINDS[data["kind"]]
        hints = _hints(cls)
        values = {name: _coerce(hints[name], data[key]) for name in hints if (key := "cut" if name == "kind" else name) in data}
        return cls(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not an observation: {error}") from error


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _coerce(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    if isinstance(value, dict):
        if origin is dict:
            return dict(value)
        return _build(value)
    if origin in (Union, types.UnionType):
        (hint, *_) = [h for h in get_args(hint) if h is not type(None)]
        return _coerce(hint, value)
    if origin is tuple:
        return tuple(_coerce(get_args(hint)[0], v) for v in value)
    if isinstance(hint, type) and issubclass(hint, Phase | Stage | Role | CutOutcome):
        return hint(value)
    return value
