"""A drill that is well, and one prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from probe.drill.core.policy import Own, PolicyFile
from probe.drill.load import Loaded, load_whole
from probe.drill.prepare import Ready, prepared
from probe.model.clock import Wall
from probe.net.redact import Redactor
from tests.drill.file.faults import KINDS, kind

ROOM = Path(__file__).parent.parent / "room.yaml"
GOOD = """\
drill: origin-stops
owner: media-sre
comms: {channel: "#live", announce: "Drill: the origin stops"}
scenario: room
regions: [eu]
steady: {of: ["start >= 95%"], objectives: [room-start, first-frame, freezes], gates: [room-start, hold], within: 40s}
method:
  - stopped: {fault: stop, for: 8s, with: {who: origin}}
  - edge: {fault: stop, at: 4s, for: 8s, with: {who: edge, delay: 2s}}
meanwhile: "crash_free >= 50%"
abort: [{incident: true}, {budget: 10%}, {outside: "start[10s] < 50%"}, {gate: hold}, {when: "playing < 1% for 20s"}]
recovery:
  - {when: "start[10s] >= 99%", within: 60s}
  - {reconnect: 95%, within: 10s}
tags: origin
"""
NOTHING = Own()
NOW = 1_795_000_000 * 10**9  # 2026-11-18, a Wednesday, 11:06:40 UTC


class At:
    """A clock that stands."""

    def __init__(self, unix_ns: int = NOW) -> None:
        self._unix_ns = unix_ns

    def now(self) -> int:
        return 0

    def wall(self, at: int | None = None) -> Wall:
        return Wall(self._unix_ns, None)


def write(folder: Path, text: str = GOOD) -> Path:
    (folder / "room.yaml").write_text(ROOM.read_text())
    file = folder / "drill.yaml"
    file.write_text(text)
    return file


def loaded(folder: Path, text: str = GOOD, **changes: Any) -> Loaded:
    return load_whole(write(folder, text), env={}, kinds=KINDS, kind=kind, **changes)


async def ready(
    one: Loaded,
    policy: PolicyFile,
    own: Own = NOTHING,
    *,
    now: int = NOW,
    redactor: Redactor | None = None,
) -> tuple[Ready, ...]:
    return await prepared(
        one, policy, clock=At(now), expires=lambda use: use.until + 10**9, own=own, redactor=redactor or Redactor(), kind=kind
    )
