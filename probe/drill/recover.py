"""What drills that were killed left in place is put back, by whoever comes by: a person, the boot, a timer.

Every ledger of a state directory is read. What its runner is dead for is undone, all at once and each within a bound; what its
runner still guards is left to it. A file that is refused is told and left as it is, and then not all is well, whatever the
others say: nobody knows what it had in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from probe.clock import BootClock
from probe.drill.book import Book, Entry, LedgerRefused
from probe.drill.faults.base import Fault
from probe.drill.faults.table import fault as by_name
from probe.drill.ledger import Ledger, books
from probe.drill.undoing import BOUND, Bound, Outcome, Undone, undo_apart
from probe.model.clock import Clock
from probe.net.redact import Redactor

BY = "recover"


@dataclass(slots=True, kw_only=True)
class Found:
    """A ledger, and what was done about it. `book`: what it says; None where it is `refused`, with why. `undone`: what was tried
    to undo; `left`: what was not, and why."""

    path: Path
    book: Book | None = None
    refused: str = ""
    undone: list[tuple[Entry, Undone]] = field(default_factory=list)
    left: list[tuple[Entry, str]] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Nothing of it is in place that nobody sees to."""
        if self.book is None or any(undone.state is Outcome.FAILED for _, undone in self.undone):
            return False
        return self.book.alive or not self.left


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What undoing takes."""

    clock: Clock
    boot: BootClock
    redactor: Redactor
    bound: Bound = BOUND
    fault: Callable[[str], Fault] = by_name


async def recover(directory: Path, means: Means, *, look_only: bool = False, force_expired: bool = False) -> list[Found]:
    """The ledgers of `directory` that have something open, torn or refused. `look_only`: nothing is touched. With `force_expired`
    what a living runner should have undone by now is undone as well. Raises OSError where the directory cannot be read."""
    found = await asyncio.to_thread(_found, directory)
    async with asyncio.TaskGroup() as group:
        for one in found:
            if one.book is None:
                continue
            due = [] if look_only else [entry for entry in one.book.open if _ours(entry, one.book, means.boot, force_expired)]
            one.left = [(entry, _why(one.book)) for entry in one.book.open if entry not in due]
            if due or not (look_only or one.book.alive):  # or a torn line is to be cut off
                group.create_task(_put_back(one, due, means))
    return found


def _found(directory: Path) -> list[Found]:
    """Those that say something. Blocks."""
    found = []
    for path, book in books(directory):
        if isinstance(book, LedgerRefused):
            found.append(Found(path=path, refused=str(book)))
        elif book.open or (book.torn and not book.alive):
            found.append(Found(path=path, book=book))
    return found


async def _put_back(one: Found, due: list[Entry], means: Means) -> None:
    clock, redactor = means.clock, means.redactor
    try:
        ledger = await asyncio.to_thread(Ledger.joined, one.path, redactor=redactor, clock=clock, boot=means.boot)
    except (LedgerRefused, OSError) as error:  # it was sound a moment ago
        one.book, one.refused = None, str(error)
        return

    async def undone(entry: Entry) -> None:
        done = await undo_apart(entry, ledger, clock=clock, redactor=redactor, by=BY, bound=means.bound, fault=means.fault)
        one.undone.append((entry, done))

    try:
        async with asyncio.TaskGroup() as group:
            for entry in due:
                group.create_task(undone(entry))
    finally:
        await asyncio.to_thread(ledger.close)


def _ours(entry: Entry, book: Book, boot: BootClock, force_expired: bool) -> bool:
    return not book.alive or (force_expired and not entry.inside and entry.due(boot.boot(), boot.now()))


def _why(book: Book) -> str:
    return f"its drill is running (process {book.pid}) and will put it back" if book.alive else "its runner is dead"
