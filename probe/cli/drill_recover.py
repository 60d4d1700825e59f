"""`probe drill recover`: what drills that were killed left in place is put back; and said, file by file, entry by entry.

Also what the boot and a timer run (deploy/systemd). It ends when it has said what it did, whatever hangs in a thread.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probe.cli import exits
from probe.clock import BootClock, SystemClock
from probe.drill.book import Entry
from probe.drill.ledger import FOLDER
from probe.drill.recover import Found, Means, recover
from probe.drill.undoing import UNDO, Outcome, Undone
from probe.errors import ConfigError, Located
from probe.export.figures import rfc3339, seconds
from probe.export.words import printable
from probe.net.redact import Redactor


async def run(state: Path | None, *, look_only: bool, force_expired: bool, as_json: bool) -> int:
    """Print what there was and what became of it; the exit code. Raises ConfigError."""
    directory = drills(state)
    means = Means(clock=SystemClock(), boot=BootClock(), redactor=Redactor())
    try:
        found = await recover(directory, means, look_only=look_only, force_expired=force_expired)
    except OSError as error:
        raise ConfigError([Located(str(directory), 0, 0, "--state", f"cannot be read: {error.strerror}")]) from error
    well = all(one.well for one in found)
    if as_json:
        print(json.dumps({"state": str(directory), "well": well, "ledgers": [_document(one) for one in found]}, indent=2))
    else:
        print("\n".join(line for one in found for line in _lines(one)) or f"{directory}: nothing is left to be put back")
    code = 0 if well else exits.NOT_RESTORED
    if any(thread.name.startswith(UNDO) for thread in threading.enumerate()):
        sys.stdout.flush()
        os._exit(code)  # an undo that blocks would be waited for
    return code


def drills(state: Path | None) -> Path:
    """Where ledgers of drills are kept, by the option `--state`. Raises ConfigError where it was said, and is not there."""
    try:
        said = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "stream-probe"
    except RuntimeError as error:
        if state is None:
            raise ConfigError([Located("--state", 0, 0, "", "there is no home directory; say where: --state DIR")]) from error
    if state is not None and not state.is_dir():
        raise ConfigError([Located(str(state), 0, 0, "--state", "is no directory; name the one the drill was run with")])
    return (said if state is None else state) / FOLDER


def _lines(found: Found) -> list[str]:
    if found.book is None:
        return [printable(found.refused, 2000)]
    book = found.book
    runner = "is running" if book.alive else "its runner is dead"
    lines = [f"drill {printable(book.drill)} of {rfc3339(book.opened_unix_ns)} ({runner}), {found.path}"]
    if book.torn and not book.alive:
        lines.append(
            f"  torn: its last line was not written to its end ({book.torn} bytes): what it was to announce had not begun"
        )
    lines += [f"  {_name(entry)}: left: {why}" for entry, why in found.left]
    for entry, undone in found.undone:
        lines.append(f"  {_name(entry)}: {_became(undone)}")
    for entry in [entry for entry, undone in found.undone if undone.state is Outcome.FAILED] + [entry for entry, _ in found.left]:
        lines += [f"    {printable(entry.fault)} by hand: {printable(command.undo, 400)}" for command in entry.commands]
    return lines


def _name(entry: Entry) -> str:
    return f"{printable(entry.fault)} ({printable(', '.join(entry.targets), 400)})"


def _became(undone: Undone) -> str:
    detail = f": {printable(undone.detail, 400)}" if undone.detail else ""
    tries = f", {undone.tries} tries" if undone.tries > 1 else ""
    word = "NOT RESTORED" if undone.state is Outcome.FAILED else f"{undone.state}, and seen to be"
    return f"{word} (by {undone.by}{tries}){detail}"


def _document(found: Found) -> dict[str, Any]:
    if found.book is None:
        return {"ledger": str(found.path), "well": False, "refused": found.refused}
    return {
        "ledger": str(found.path),
        "drill": found.book.drill,
        "run": found.book.run,
        "opened_at": rfc3339(found.book.opened_unix_ns),
        "running": found.book.alive,
        "well": found.well,
        "torn_bytes": 0 if found.book.alive else found.book.torn,
        "entries": [*_left(found.left), *(_undone(entry, undone) for entry, undone in found.undone)],
    }


def _left(left: Sequence[tuple[Entry, str]]) -> list[dict[str, Any]]:
    return [{**_entry(entry), "state": "open", "detail": why} for entry, why in left]


def _undone(entry: Entry, undone: Undone) -> dict[str, Any]:
    took = None if undone.seen is None else seconds(undone.seen - undone.began)
    about = {"state": str(undone.state), "by": undone.by, "tries": undone.tries, "took_seconds": took, "detail": undone.detail}
    return {**_entry(entry), **{key: value for key, value in about.items() if value not in (None, "")}}


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "fault": entry.fault,
        "kind": entry.kind,
        "class": str(entry.klass),
        "targets": list(entry.targets),
        "expires_at": rfc3339(entry.wall_unix_ns),
        "undo": [command.undo for command in entry.commands],
    }
