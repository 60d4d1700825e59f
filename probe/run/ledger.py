"""What a run creates on a platform is written here before it exists, and crossed out when it is undone.

One JSON-lines file per run, fsynced line by line and locked (flock) for as long as its process lives. A run killed -9
leaves its file behind without a lock; the next run on the same platform takes the lock, undoes what is open with its own
credentials, and removes the file. Entries hold requests, never secrets: an address that carries one (a signed query) is
remembered in this process only, and a kill leaves what it would have undone to be told of.

Undo by tag (`DELETE /rooms?tag=${run.tag}`) is complete: it is known before the thing is. Undo by an id that the platform
chooses is known only afterwards; a kill in between leaves an entry that can be told of but not undone.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

_MAX_FILE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`url` None: what it would take is not known (yet)."""

    number: int
    step: str
    platform: str
    method: str
    url: str | None
    account: str | None


class Ledger:
    """The file of one run, locked while open."""

    def __init__(self, directory: Path, run_id: str, redact: Callable[[str], str] = str) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = directory / f"{run_id}.jsonl"
        self._file = _locked(self.path, create=True)
        self._redact = redact
        self._open: dict[int, Entry] = {}
        self._count = 0

    def will(self, *, step: str, platform: str, method: str, url: str | None, account: str | None) -> int:
        """Write down, durably, what will have to be undone. Returns its number."""
        self._count += 1
        entry = Entry(number=self._count, step=step, platform=platform, method=method, url=url, account=account)
        self._open[entry.number] = entry
        known = None if url is None or self._redact(url) != url else url
        self._append(
            {"will": entry.number, "step": step, "platform": platform, "method": method, "url": known, "account": account}
        )
        return entry.number

    def named(self, number: int, url: str) -> None:
        """What it takes is known now: the platform has chosen the id."""
        self._open[number] = replace(self._open[number], url=url)
        if self._redact(url) == url:
            self._append({"named": number, "url": url})

    def undone(self, number: int) -> None:
        self._open.pop(number, None)
        self._append({"undone": number})

    def open_entries(self) -> list[Entry]:
        """What is not undone yet, newest first."""
        return sorted(self._open.values(), key=lambda entry: -entry.number)

    def close(self) -> None:
        """Unlock; a file with nothing open is removed."""
        if not self._open:
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _append(self, line: dict[str, object]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@dataclass(slots=True)
class Orphan:
    """What a dead run left. Call `undone` for each entry dealt with; the file goes when none is left."""

    path: Path
    entries: list[Entry]
    _file: IO[str]

    def undone(self, entry: Entry) -> None:
        self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps({"undone": entry.number}) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.entries.remove(entry)
        if not self.entries:
            self.path.unlink(missing_ok=True)


@contextmanager
def orphans(directory: Path) -> Iterator[list[Orphan]]:
    """The ledgers whose process is gone, locked against other sweepers meanwhile."""
    found: list[Orphan] = []
    try:
        for path in sorted(directory.glob("*.jsonl")) if directory.is_dir() else []:
            try:
                file = _locked(path, create=False)
            except (BlockingIOError, FileNotFoundError):
                continue  # its run is alive, or another sweeper has just finished it
            orphan = Orphan(path, _read(file), file)
            if orphan.entries:
                found.append(orphan)
            else:
                path.unlink(missing_ok=True)
                file.close()
        yield found
    finally:
        for orphan in found:
            orphan._file.close()


def _locked(path: Path, *, create: bool) -> IO[str]:
    """The file, ours alone. To `create` one is to wait for a sweeper that has just looked into it, and to begin again where it
    took the still empty file away: a lock on what has no name protects nothing."""
    while True:
        file = path.open("a+" if create else "r+", encoding="utf-8", errors="replace")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if create else fcntl.LOCK_NB))
            if not create or _is(path, file):
                return file
        except OSError:
            file.close()
            raise
        file.close()


def _is(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _read(file: IO[str]) -> list[Entry]:
    """Open entries, newest first. A torn last line was never acted upon: what it announced had not begun. What a disk made
    of others cannot be acted upon."""
    entries: dict[int, Entry] = {}
    file.seek(0)
    for line in file.read(_MAX_FILE).splitlines():
        try:
            data = json.loads(line)
            if "will" in data:
                entries[data["will"]] = Entry(
                    number=data["will"],
                    step=data["step"],
                    platform=data["platform"],
                    method=data["method"],
                    url=data["url"],
                    account=data["account"],
                )
            elif "named" in data:
                entries[data["named"]] = replace(entries[data["named"]], url=data["url"])
            else:
                entries.pop(data.get("undone"), None)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return sorted(entries.values(), key=lambda entry: -entry.number)
