"""Naming why a start did not happen.

When a start's deadline passes, nothing has raised: what is known is the stage that was open and what the frames that came
looked like. That is enough to say where and why, and it is the same for every protocol.
"""

from __future__ import annotations

from collections import Counter

from probe.errors import Failure, Misconfigured, Unsupported
from probe.model.outcome import Aborted, Failed, Outcome
from probe.model.stage import Phase, Stage
from probe.wire.playback import Sight

_SILENT: dict[Stage, tuple[Phase, str]] = {
    Stage.FIRST_PACKET: (Phase.FIRST_PACKET, "silence"),
    Stage.KEYFRAME: (Phase.KEYFRAME, "none"),
    Stage.ACK: (Phase.ACK, "none"),
    Stage.FIRST_FRAME: (Phase.FIRST_FRAME, "none"),
}
_SEEN: tuple[tuple[Sight, str], ...] = (
    (Sight.FOREIGN, "foreign"),
    (Sight.STALE, "stale"),
    (Sight.BLACK, "black"),
    (Sight.BROKEN, "broken"),
    (Sight.STILL, "still"),
    (Sight.CORRUPT, "undecodable"),
    (Sight.UNCODED, "uncoded"),
)


def by_pictures(tally: Counter[Sight], undecodable: int) -> Failed | None:
    """What the pictures that did come say; None when none came at all. The commonest kind names it."""
    seen = [(tally[sight], reason) for sight, reason in _SEEN if tally[sight]]
    if seen:
        count, reason = max(seen, key=lambda pair: pair[0])
        return Failed(Phase.FIRST_FRAME, reason, f"{count} pictures, none of this broadcast")
    if undecodable:
        return Failed(Phase.FIRST_FRAME, "undecodable", f"{undecodable} pictures arrived, none could be decoded")
    return None


def at_deadline(open_stage: Stage, tally: Counter[Sight], undecodable: int, seconds: float) -> Outcome:
    """The outcome of a start whose deadline passed with `open_stage` open. A deadline that finds the probe itself at work
    is the probe's failure, and aborts."""
    detail = f"deadline of {seconds:g} s passed"
    if open_stage in (Stage.PROBE, Stage.FIRST_FRAME, Stage.KEYFRAME):
        pictures = by_pictures(tally, undecodable)
        if pictures is not None:
            return pictures
    if open_stage is Stage.PROBE:
        return Aborted(f"{detail} while the probe itself was at work")
    if open_stage in _SILENT:
        phase, reason = _SILENT[open_stage]
        return Failed(phase, reason, detail)
    return Failed(Phase(open_stage.value), "timeout", detail)


def of_group(group: BaseExceptionGroup[BaseException]) -> Outcome:
    """What a driver's TaskGroup raised: the first error that is ours names it, a bug is a bug."""
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        ours = leaf.subgroup((Failure, Unsupported, Misconfigured))
        leaf = (ours or leaf).exceptions[0]
    if isinstance(leaf, Failure | Unsupported):
        return leaf.outcome
    return Aborted(str(leaf) if isinstance(leaf, Misconfigured) else f"{type(leaf).__name__}: {leaf}")
