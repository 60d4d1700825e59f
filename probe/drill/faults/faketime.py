"""The clock of one process, moved: libfaketime's offset file, which a target was started with (FAKETIME_TIMESTAMP_FILE).

The file holds one line, an offset in seconds; lines that begin with # are passed over, so ours says whose it is. (A file without
an offset leaves the library at the last one it read: refused.) It is written in place, by one write that covers what stood there:
a reader sees the old or the new offset, and a file that is mounted by itself into a container stays the same file. Where the
target ends, its file still says ours to its successor: the fault is the file's. Only whole seconds: the library reads a fraction
by the target's locale.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from probe.drill.faults.base import Observed, Refused, State
from probe.drill.faults.pins import Pin
from probe.model.clock import NS

_MOST = 256  # bytes of such a file
_OFFSET = re.compile(r"[+-]\d{1,12}", re.ASCII)
_START = (
    "start it with LD_PRELOAD=…/libfaketime.so.1 FAKETIME_TIMESTAMP_FILE=/… (holding +0)"
    " FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1"
)


@dataclass(frozen=True, slots=True)
class _Setting:
    """What of a process's environment is of the library; nothing else of it is kept."""

    file: str
    fixed: bool
    quick: bool
    monotonic: bool


def prepared(pin: Pin, step: int, token: str) -> dict[str, Any]:
    """The file, what stands in it and what is to stand in it. Raises Refused."""
    try:
        setting = _setting(pin)
        with open(f"/proc/{pin.pid}/maps", encoding="utf-8", errors="replace") as file:
            loaded = any("libfaketime" in line for line in file)
    except OSError as error:
        raise Refused(f"the environment of {pin} cannot be read: {error.strerror}", "of") from None
    if not loaded or not setting.file.startswith("/"):
        raise Refused(f"{pin} does not run under libfaketime with an offset file: {_START}", "of")
    if setting.fixed:
        raise Refused(f"{pin} has FAKETIME in its environment, which goes before the file: {_START}", "of")
    if not setting.quick:
        raise Refused(f"{pin} reads its offset only every 10 s: {_START}", "of")
    if not setting.monotonic:
        raise Refused(f"a step would move the monotonic clock of {pin} too, which no real step does: {_START}", "of")
    path = os.path.realpath(setting.file)
    try:
        if not os.path.samefile(path, f"/proc/{pin.pid}/root{setting.file}"):
            raise Refused(f"{pin} sees another {setting.file} than we do: it is in a mount namespace of its own", "of")
        before = read(path)
        os.close(os.open(path, os.O_WRONLY))
    except OSError as error:
        raise Refused(f"{setting.file}, the offset file of {pin}: {error.strerror}", "of") from None
    if not _OFFSET.fullmatch(before.strip()):
        raise Refused(f"{setting.file} is to hold an offset in whole seconds, such as +0, and nothing else", "of")
    return {"file": path, "before": before, "ours": f"{mark(token)}{int(before) + step // NS:+d}\n"}


def observed(record: Mapping[str, Any], token: str) -> Observed:
    try:
        now = read(record["file"])
    except FileNotFoundError:
        return Observed(State.GONE, f"there is no {record['file']} any more")
    except OSError as error:
        return Observed(State.UNKNOWN, f"{record['file']} cannot be read: {error.strerror}")
    if now.startswith(mark(token)):
        return Observed(State.INJECTED, f"{record['file']} says {now.removeprefix(mark(token)).strip()} s")
    return Observed(State.RESTORED, f"{record['file']} says {now.strip() or '+0'}"[:100])


def read(path: str) -> str:
    """Raises OSError."""
    with open(path, "rb") as file:
        raw = file.read(_MOST + 1)
    if len(raw) > _MOST:
        raise OSError(0, f"longer than {_MOST} bytes")
    return raw.decode(errors="replace")


def write(path: str, text: str) -> None:
    """Raises OSError."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        data = text.encode()
        os.pwrite(file, data.ljust(os.fstat(file).st_size, b"\n"), 0)
        os.ftruncate(file, len(data))
        os.fsync(file)
    finally:
        os.close(file)


def mark(token: str) -> str:
    return f"# sp-{token}\n"


def _setting(pin: Pin) -> _Setting:
    with open(f"/proc/{pin.pid}/environ", "rb") as file:
        words = [word.partition(b"=") for word in file.read(1 << 20).split(b"\0")]
    found = {key.decode(): value.decode(errors="replace") for key, _, value in words if b"FAKE" in key}
    cached = found.get("FAKETIME_CACHE_DURATION", "")
    return _Setting(
        file=found.get("FAKETIME_TIMESTAMP_FILE", ""),
        fixed="FAKETIME" in found,
        quick=found.get("FAKETIME_NO_CACHE") == "1" or cached in ("0", "1"),
        monotonic="1" in (found.get("FAKETIME_DONT_FAKE_MONOTONIC"), found.get("DONT_FAKE_MONOTONIC")),
    )
