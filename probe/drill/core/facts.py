"""What happened in a drill: frozen facts, JSON both ways, in the order they happened (`drill.jsonl` in --out).

`at` is monotonic ns of the runner's clock, the same clock as the observations of the runs it watched, so that faults, frames,
alerts and actions stand on one axis. What a viewer lived through is not here: that is in the observations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, get_args


class Phase(StrEnum):
    """Of a drill, in this order; `done` from any of them."""

    CHECK = "check"
    STEADY = "steady"
    ANNOUNCE = "announce"
    INJECT = "inject"
    OBSERVE = "observe_injected"
    HOLD = "hold"
    RESTORE = "restore"
    OBSERVE_RESTORED = "observe_restored"
    RECOVERY = "recovery"
    DONE = "done"


class Verdict(StrEnum):
    """Exit codes: pass 0, weakness 1, inconclusive, invalid, aborted 3, not_restored 5."""

    PASS = "pass"  # noqa: S105  # a verdict
    WEAKNESS = "weakness"
    INCONCLUSIVE = "inconclusive"  # the probe could not tell
    INVALID = "invalid"  # the fault was never seen to be there
    ABORTED = "aborted"
    NOT_RESTORED = "not_restored"


class Did(StrEnum):
    """Of a fault."""

    WILL = "will"  # in the ledger, on disk
    INJECTING = "injecting"
    INJECTED = "injected"  # the call came back
    SEEN_INJECTED = "seen_injected"
    RESTORING = "restoring"
    SEEN_RESTORED = "seen_restored"
    GONE = "gone"  # its target vanished
    FAILED = "failed"  # to be injected, observed or restored: `detail`


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillBegan:
    at: int
    drill: str
    run: str  # UUIDv7 of this execution
    owner: str
    scenario: str
    regions: tuple[str, ...]
    targets: tuple[str, ...]
    wall_unix_ns: int
    probe_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    at: int
    phase: Phase
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultDid:
    """`fault`: its name in the drill file; `kind`: its row in the table; `by`: runner, watchdog, target."""

    at: int
    fault: str
    kind: str
    did: Did
    targets: tuple[str, ...] = ()
    detail: str = ""
    by: str = "runner"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertChanged:
    """An alert or a gate that fires, or no longer does. `source`: gate (ours, judged on this drill's traffic), prometheus,
    alertmanager. `ours`: expected of this drill's regions and services; else it may be a real incident."""

    at: int
    source: str
    name: str
    firing: bool
    severity: str = ""
    region: str = ""
    owner: str = ""
    ours: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSeen:
    """Something done about it: an announcement, a gate's command, a person's note."""

    at: int
    who: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A condition as it was read: of `part` steady, meanwhile, abort, recovery. `met` None: not to be said."""

    at: int
    part: str
    condition: str
    met: bool | None
    value: float | None = None
    n: int = 0
    region: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillEnded:
    at: int
    verdict: Verdict
    reason: str
    wall_unix_ns: int


DrillFact = DrillBegan | Entered | FaultDid | AlertChanged | ActionSeen | Checked | DrillEnded


def to_json(fact: DrillFact) -> dict[str, Any]:
    """A JSON object; `fact` names its kind."""
    return {"fact": type(fact).__name__, **asdict(fact)}


_KINDS = {kind.__name__: kind for kind in get_args(DrillFact)}
_ENUMS: dict[str, type[StrEnum]] = {"phase": Phase, "verdict": Verdict, "did": Did}


def from_json(data: Mapping[str, Any]) -> DrillFact:
    """The inverse of `to_json`. Raises ValueError on an unknown kind or fields that are not its own."""
    try:
        values = {
            name: _ENUMS[name](value) if name in _ENUMS else tuple(value) if isinstance(value, list) else value
            for name, value in data.items()
            if name != "fact"
        }
        fact: DrillFact = _KINDS[data["fact"]](**values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"is no fact of a drill: {error}") from error
    return fact
