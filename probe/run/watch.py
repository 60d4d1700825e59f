"""What counts as progress, for each role: a newer verified picture shown, or more of our media acknowledged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from probe.model.frames import FrameRecord, PublishRecord, Record
from probe.model.observation import Freeze, Window
from probe.model.outcome import Failed
from probe.model.stage import Phase
from probe.wire.playback import Playback, Sight


@dataclass(frozen=True, slots=True)
class Step:
    """One step forward. `arrived`: its bytes reached us; `shown`: it was seen. `publish`: ordinal of the publish session it is
    of, None where nothing tells."""

    arrived: int
    shown: int
    publish: int | None = None


class Watch(Protocol):
    def on_record(self, record: Record) -> tuple[Step | None, list[Freeze]]: ...
    def interrupted(self) -> None: ...
    def stalled(self) -> Failed: ...
    def standing(self, now: int) -> int | None: ...
    def window(self, now: int, *, force: bool = False) -> Window | None: ...
    @property
    def tally(self) -> Counter[Sight]: ...
    @property
    def undecodable(self) -> int: ...


class ViewerWatch:
    """Pictures, verified by `Playback`."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback
        self._at_progress: dict[Sight, int] = {}
        self._undecodable_at_progress = 0

    def on_record(self, record: Record) -> tuple[Step | None, list[Freeze]]:
        before = self._playback.progress
        freezes = self._playback.on_record(record)
        after = self._playback.progress
        if after is None or after is before:
            return None, freezes
        self._at_progress = dict(self._playback.tally)
        self._undecodable_at_progress = self._playback.undecodable
        publish = record.code.publish if isinstance(record, FrameRecord) and record.code is not None else None
        return Step(after.arrived, after.shown, publish), freezes

    def interrupted(self) -> None:
        self._playback.interrupted()

    def stalled(self) -> Failed:
        """Why nothing progresses: what the pictures since the last good one were."""
        since = self._playback.tally - Counter(self._at_progress)
        for sight, reason in (
            (Sight.FOREIGN, "foreign"),
            (Sight.STALE, "stale"),
            (Sight.BLACK, "black"),
            (Sight.BROKEN, "broken"),
            (Sight.UNCODED, "foreign"),
        ):
            if since[sight]:
                return Failed(Phase.PLAYING, reason, f"{since[sight]} pictures since the last verified one")
        if undecodable := self._playback.undecodable - self._undecodable_at_progress:
            return Failed(Phase.PLAYING, "undecodable", f"{undecodable} pictures since the last verified one")
        return Failed(Phase.PLAYING, "frozen", "no new picture")

    def standing(self, now: int) -> int | None:
        """Since when (ns) the picture stands at `now`; None: it does not."""
        return self._playback.standing(now)

    def window(self, now: int, *, force: bool = False) -> Window | None:
        return self._playback.tick(now, force=force)

    @property
    def tally(self) -> Counter[Sight]:
        return self._playback.tally

    @property
    def undecodable(self) -> int:
        return self._playback.undecodable


@dataclass(slots=True)
class PublisherWatch:
    """Acknowledgements. `worst_late` is the longest a frame left after its own stamp since it was last asked."""

    last_ack: int | None = None
    worst_late: int = 0
    tally: Counter[Sight] = field(default_factory=Counter)
    undecodable: int = 0

    def on_record(self, record: Record) -> tuple[Step | None, list[Freeze]]:
        if not isinstance(record, PublishRecord):
            return None, []
        self.worst_late = max(self.worst_late, record.late_ns)
        if record.last_ack is None or not record.acknowledged or record.last_ack == self.last_ack:
            return None, []
        self.last_ack = record.last_ack
        return Step(record.last_ack, record.last_ack), []

    def interrupted(self) -> None:
        self.last_ack = None

    def stalled(self) -> Failed:
        return Failed(Phase.PLAYING, "frozen", "the receiver no longer acknowledges our media")

    def standing(self, now: int) -> int | None:
        """Acknowledgements come about once a second: that they no longer do only the stall timer can say."""
        return None

    def window(self, now: int, *, force: bool = False) -> Window | None:
        return None

    def take_late(self) -> int:
        """The worst lateness since the last call, ns."""
        late, self.worst_late = self.worst_late, 0
        return late
