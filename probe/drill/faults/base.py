"""The seam of every fault: one file each in this folder, one row each in `table`.

A fault is prepared once, and from then on lives by its record alone: what is injected, looked at and put back stands in a
JSON object that was in the ledger, on disk, before anything was touched. So whoever reads the ledger can put it back: the
runner, the watchdog when the runner is dead, `probe drill recover` after a power cut. Nothing else may be needed: no
object, no handle, no memory of what was found at injection time that is not in the record.

`restore` is idempotent, owns only what bears `io.token`, and raises where it could not do its work; whether the fault is gone
is not its word but `observe`'s. A failed look is UNKNOWN, never RESTORED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from probe.drill.core.klass import Klass as Klass
from probe.errors import ProbeError
from probe.model.clock import Clock
from probe.net.redact import Redactor
from probe.net.secret import revealed

if TYPE_CHECKING:
    from probe.link.path import Path

Record = Mapping[str, Any]  # JSON; no secret in it, only references


class State(StrEnum):
    INJECTED = "injected"
    RESTORED = "restored"
    GONE = "gone"  # the target itself is no more, and the fault with it
    UNKNOWN = "unknown"  # a failed look is not "nothing there"


@dataclass(frozen=True, slots=True)
class Observed:
    """What a look at the target showed; `detail` in words, one short line, no secret."""

    state: State
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """One thing done and its undo, as a person would type or say it; for `--dry-run`, the ledger and the report."""

    do: str
    undo: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A fault made concrete: nothing is touched yet. `targets`: each thing hit, as `kind:name` (process:nginx/4711,
    sandbox:edge-b, netns:sp-1/eth0, toxiproxy:origin, kubernetes:live/pod/origin-0, http:https://…, clients:viewers,
    host:clock); what allow-lists, leases and the report speak of. `of`: how many there are that could have been hit.
    `record` may say `inject_within` and `seen_within`, ns, where its call takes longer than 5 s or is seen later than after 2 s.
    `restored_by`: who brings back what has no undo. `limit`: what ends it on the target's side when nobody can reach it."""

    klass: Klass
    targets: tuple[str, ...]
    of: int
    record: Record
    commands: tuple[Command, ...]
    restored_by: str = ""
    limit: str = ""


class Refused(ProbeError):
    """This host or this target cannot do it, and it is said before anything is touched. `where`: the parameter at fault, empty
    for the fault as a whole."""

    def __init__(self, message: str, where: str = "") -> None:
        self.where = where
        super().__init__(message)


class NotUndone(ProbeError):
    """A restore could not do its work; it will be tried again while its bound lasts."""


class Clients(Protocol):
    """Our own traffic, for faults of the last mile and of crowds. Only the runner has it: such faults end with its process.

    `who`: viewers, publisher, everybody, or the viewers of one protocol."""

    def paths(self, who: str) -> Sequence[Path]:
        """The `link/` paths of those who are there."""
        ...

    def arriving(self, token: str, who: str, act: Callable[[Path], object] | None) -> None:
        """`act` is done to the path of each who comes from now on, before its first connection; None: no more of `token`'s."""
        ...

    def playing(self, who: str) -> int:
        """How many play now."""
        ...

    async def depart(self, who: str) -> int:
        """All of them leave at once, without a word, and stay away; how many."""
        ...

    def away(self, who: str) -> int:
        """How many departed and have not been let back: what is done to them, whether or not the platform takes them."""
        ...

    async def come_back(self, who: str) -> int:
        """Those who departed return at the same instant; how many."""
        ...

    async def join(self, count: int, within: int) -> int:
        """So many more viewers over `within` ns; how many could begin."""
        ...

    def joined(self) -> int:
        """How many of those who joined are there."""
        ...

    async def leave(self) -> None:
        """Those who joined go."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultIO:
    """What a fault is given to act. `token`: 8 hex digits that name what it makes (nft table, toxic, label: `sp-<token>`); it
    owns nothing else. `expires`: CLOCK_BOOTTIME ns after which it must be gone. `clients`: None outside the runner."""

    clock: Clock
    token: str
    expires: int
    redactor: Redactor
    clients: Clients | None = None

    def secret(self, source: Sequence[str]) -> str:
        """The value of a reference (kind, argument), hidden from then on. Raises OSError, which names the reference."""
        kind, argument = source
        return revealed((kind, argument), self.redactor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparing:
    """What is known before anything is touched. `lasts`: ns it is to be held. `expires` as in FaultIO."""

    clock: Clock
    token: str
    lasts: int
    expires: int
    redactor: Redactor = field(default_factory=Redactor)


class Params(BaseModel):
    """Base of what a drill file writes under `with:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Fault(Protocol):
    """One kind of fault. Every method but `prepare` works from the record alone, in whichever process."""

    about: ClassVar[str]  # one line, for people choosing
    params: ClassVar[type[Params]]

    async def prepare(self, params: Any, given: Preparing) -> Prepared:
        """Find the targets, read what the undo will need, check that this host can do it. Touches nothing. Raises Refused."""
        ...

    async def inject(self, record: Record, io: FaultIO) -> None:
        """Break it. Raises what it raises: the runner then restores, whatever had been done by then."""
        ...

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        """Look at the target itself, never at what inject believes to have done. Raises nothing."""
        ...

    async def restore(self, record: Record, io: FaultIO) -> None:
        """Put it back. Idempotent; also right where inject never came to do anything. Raises NotUndone."""
        ...
