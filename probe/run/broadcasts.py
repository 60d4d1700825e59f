"""What is on air in a run, as its viewers need to know it: whose code they expect, and the name of the stream."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from probe.plan import PublishStep, ViewSpec


@dataclass(slots=True)
class Broadcast:
    """One publish step. `ordinals`: of its publish sessions so far; `started_at`: its start, None where it has not."""

    step: PublishStep
    started_at: int | None = None
    ordinals: list[int] = field(default_factory=list)


class Ordinals(Collection[int]):
    """Those of several broadcasts, as they grow."""

    def __init__(self, broadcasts: Sequence[Broadcast]) -> None:
        self._broadcasts = broadcasts

    def __contains__(self, ordinal: object) -> bool:
        return any(ordinal in b.ordinals for b in self._broadcasts)

    def __iter__(self) -> Iterator[int]:
        return (o for b in self._broadcasts for o in b.ordinals)

    def __len__(self) -> int:
        return sum(len(b.ordinals) for b in self._broadcasts)


class Broadcasts:
    """All of a run."""

    def __init__(self) -> None:
        self._by_step: dict[str, Broadcast] = {}

    def begin(self, step: PublishStep) -> Broadcast:
        self._by_step[step.name] = made = Broadcast(step)
        return made

    def watched(self, view: ViewSpec) -> list[Broadcast]:
        """Whose code a view expects: those it names, else everybody's."""
        return [b for name, b in self._by_step.items() if not view.of or name in view.of]

    def started(self, view: ViewSpec) -> list[Broadcast]:
        """Those of them that went live."""
        return [b for b in self.watched(view) if b.started_at is not None]

    def stream(self, view: ViewSpec) -> str | None:
        """The template of the stream's name, where the view's address has it and it is one broadcast's."""
        named = "${stream}" in view.url + view.access.streamid
        watched = self.watched(view) if named and len(view.of) == 1 else []
        return watched[0].step.stream if watched else None
