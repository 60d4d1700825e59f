"""What a ledger says, read whole and checked whole before one word of it is believed.

A last line that was not written to its end is *torn*: its write never came back, so by the write-ahead rule what it announced
had not begun. It is told, and nothing else about the file is in doubt. Anything else that is wrong (a line in the middle,
another version, another's file) refuses the file as a whole: to act on half of what one knows could break more than it mends.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probe.drill.faults.base import Command, Klass, Prepared, Record
from probe.drill.lines import Damaged, OtherVersion, decode
from probe.drill.locks import ALIVE, APPEND, closed, locked, opened, taken
from probe.errors import ConfigError, Located

MOST_BYTES = 8 * 2**20
_OWN = "clients:"
_SECTOR = 512  # bytes a disk writes as one, at least


class LedgerRefused(ConfigError):
    """One file, and one thing about it that keeps us from acting on it."""

    def __init__(self, path: Path, line: int, message: str, touched: Sequence[str] = ()) -> None:
        said = f"; what it can be read to have touched: {', '.join(touched)}" if touched else ""
        super().__init__([Located(str(path), line, 1 if line else 0, "", message + said)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A fault that was about to be, with all that its undo takes. `expires`: CLOCK_BOOTTIME ns of the boot `boot`; `wall_unix_ns`
    the same instant for people."""

    number: int
    fault: str
    kind: str
    klass: Klass
    targets: tuple[str, ...]
    record: Record
    commands: tuple[Command, ...]
    token: str
    expires: int
    boot: str
    wall_unix_ns: int
    restored_by: str = ""
    limit: str = ""

    @classmethod
    def of(cls, number: int, fault: str, kind: str, prepared: Prepared, token: str, expires: int, **when: Any) -> Entry:
        """`when`: boot, wall_unix_ns."""
        return cls(
            number=number,
            fault=fault,
            kind=kind,
            klass=prepared.klass,
            targets=prepared.targets,
            record=prepared.record,
            commands=prepared.commands,
            token=token,
            expires=expires,
            restored_by=prepared.restored_by,
            limit=prepared.limit,
            **when,
        )

    def line(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {
            "number": self.number,
            "fault": self.fault,
            "kind": self.kind,
            "klass": str(self.klass),
            "targets": list(self.targets),
            "record": dict(self.record),
            "commands": [[command.do, command.undo] for command in self.commands],
            "token": self.token,
            "expires": self.expires,
            "boot": self.boot,
            "wall_unix_ns": self.wall_unix_ns,
            "restored_by": self.restored_by,
            "limit": self.limit,
        }

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Entry:
        """Raises KeyError, TypeError or ValueError where it is none."""
        return cls(
            number=_number(said["number"]),
            fault=_text(said["fault"]),
            kind=_text(said["kind"]),
            klass=Klass(said["klass"]),
            targets=tuple(_text(target) for target in said["targets"]),
            record=dict(said["record"]),
            commands=tuple(Command(do=_text(do), undo=_text(undo)) for do, undo in said["commands"]),
            token=_text(said["token"]),
            expires=_number(said["expires"]),
            boot=_text(said["boot"]),
            wall_unix_ns=_number(said["wall_unix_ns"]),
            restored_by=_text(said["restored_by"]),
            limit=_text(said["limit"]),
        )

    @property
    def inside(self) -> bool:
        """Whether all it hits are our own clients: it lives in the runner's process, and can be ended there or with it."""
        return all(target.startswith(_OWN) for target in self.targets)

    def due(self, boot: str, now: int) -> bool:
        """Whether it must be gone by now: at its expiry, and after any restart."""
        return self.boot != boot or now >= self.expires


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an entry ended. `state`: restored or gone."""

    state: str
    by: str


@dataclass(slots=True, kw_only=True)
class Book:
    """A ledger as it stands. `torn`: bytes of an unfinished last line; `sound` those before it. `alive`: its runner lives."""

    path: Path
    drill: str = ""
    run: str = ""
    pid: int = 0
    boot: str = ""
    opened_unix_ns: int = 0
    entries: dict[int, Entry] = field(default_factory=dict)
    injected: set[int] = field(default_factory=set)
    ended: dict[int, Ended] = field(default_factory=dict)
    why: dict[int, str] = field(default_factory=dict)  # what the last try came to, of what is still open
    closed: bool = False
    torn: int = 0
    sound: int = 0
    alive: bool = False

    @property
    def open(self) -> list[Entry]:
        """What is not put back yet, newest first."""
        return [self.entries[number] for number in sorted(self.entries, reverse=True) if number not in self.ended]


def read(path: Path) -> Book:
    """The ledger at `path`. Raises LedgerRefused; FileNotFoundError where there is none."""
    try:
        descriptor = opened(path, os.O_RDONLY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LedgerRefused(path, 0, f"cannot be read ({error.strerror}): {_remedy(path)}") from error
    try:
        _require_ours(path, os.fstat(descriptor))
        with locked(descriptor, APPEND, shared=True):
            alive = taken(descriptor, ALIVE)
            data = contents(descriptor)
    except OSError as error:
        raise LedgerRefused(path, 0, f"cannot be read ({error.strerror}): {_remedy(path)}") from error
    finally:
        closed(descriptor)
    book = parse(path, data)
    book.alive = alive
    return book


def parse(path: Path, data: bytes) -> Book:
    """What these bytes of a file say. Raises LedgerRefused."""
    if len(data) > MOST_BYTES:
        raise LedgerRefused(path, 0, f"is longer than {MOST_BYTES >> 20} MiB, which none of ours is: {_remedy(path)}")
    book = Book(path=path)
    for number, line in enumerate(re.findall(rb"[^\n]*\n|[^\n]+", data), 1):
        try:
            _note(book, decode(line.removesuffix(b"\n")))
        except OtherVersion as other:
            words = f"was written by another version of this program (ledger version {other})"
            raise LedgerRefused(path, number, f"{words}: recover with that one: probe drill recover", _touched(book)) from None
        except (Damaged, KeyError, TypeError, ValueError) as error:
            if isinstance(error, Damaged) and _torn(data, book.sound):
                book.torn = len(data) - book.sound
                return book
            raise LedgerRefused(path, number, f"is damaged: {_remedy(path)}", _touched(book)) from None
        book.sound += len(line)
    return book


def _torn(data: bytes, begin: int) -> bool:
    """Whether what begins there is the last line, never written to its end: its newline is missing, or sectors of it are."""
    line = data[begin:]
    if b"\n" not in line:
        return not _whole_line(line[:-1])  # else all was written, and its newline was made something else
    if line.index(b"\n") != len(line) - 1 or b"\0" not in line:
        return False
    runs = [(begin + run.start(), begin + run.end()) for run in re.finditer(rb"\0+", line)]
    return all((first == begin or first % _SECTOR == 0) and last % _SECTOR == 0 for first, last in runs)


def _whole_line(line: bytes) -> bool:
    try:
        decode(line)
    except (Damaged, OtherVersion):
        return False
    return True


def _note(book: Book, said: Mapping[str, Any]) -> None:
    """Take in one line. Raises KeyError, TypeError, ValueError where it does not fit those before it."""
    event = said["event"]
    if event == "opened":
        if book.sound:
            raise ValueError
        book.drill, book.run, book.boot = _text(said["drill"]), _text(said["run"]), _text(said["boot"])
        book.pid, book.opened_unix_ns = _number(said["pid"]), _number(said["wall_unix_ns"])
        return
    if not book.sound:
        raise ValueError
    if event == "will":
        entry = Entry.read(said)
        if entry.number in book.entries:
            raise ValueError
        book.entries[entry.number] = entry
    elif event == "closed":
        book.closed = True
    elif event != "torn":
        _happened(book, event, book.entries[said["number"]], said)


def _happened(book: Book, event: str, entry: Entry, said: Mapping[str, Any]) -> None:
    """To an entry."""
    match event:
        case "injected":
            book.injected.add(entry.number)
        case "undone":
            book.ended[entry.number] = Ended(state=_text(said["state"]), by=_text(said["by"]))
        case "tried" | "not_undone":
            book.why[entry.number] = _text(said["why"])
        case "trying":
            pass
        case _:
            raise ValueError


def contents(descriptor: int) -> bytes:
    """All of a file, or so much of it that it is too long."""
    parts, size = [], 0
    while size <= MOST_BYTES and (part := os.pread(descriptor, 1 << 20, size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _require_ours(path: Path, status: os.stat_result) -> None:
    """Who can write a ledger can have us run its undo."""
    if not stat.S_ISREG(status.st_mode):
        raise LedgerRefused(path, 0, f"is no file: {_remedy(path)}")
    if status.st_uid != os.geteuid():
        words = f"belongs to user {status.st_uid}, and this is user {os.geteuid()}: recover as that user"
        raise LedgerRefused(path, 0, f"{words}: sudo -u '#{status.st_uid}' probe drill recover --state {path.parent.parent}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise LedgerRefused(path, 0, f"can be written by others, who could have put anything into it: {_remedy(path)}")


def _touched(book: Book) -> list[str]:
    return [target for entry in book.open for target in entry.targets]


def _remedy(path: Path) -> str:
    return f"look at what it names, put that back by hand, then move it away: mv {path} {path}.refused"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value
