"""A folder of generated files, kept as what generates them says: written, compared, and rid of what is no longer made.

Each file is replaced in one step, so that Prometheus never loads half of one. What is ours stands in a manifest with the sum of
what we wrote: a file that was there before us is refused, never overwritten; one that we no longer make is removed, unless
somebody has changed it since.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from probe.errors import ConfigError, Located

MANIFEST = ".probe-rules.json"
_MOST = 4 << 20  # bytes of a manifest


@dataclass(frozen=True, slots=True)
class Differences:
    """Paths below the folder, sorted. `kept`: no longer made, but changed by somebody."""

    missing: tuple[str, ...]
    changed: tuple[str, ...]
    stale: tuple[str, ...]
    kept: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed or self.stale)


def differences(folder: Path, files: Mapping[str, str]) -> Differences:
    """How a folder differs from what would be generated."""
    ours = _manifest(folder)
    now = {path: _on_disk(folder / path) for path in {*files, *ours}}
    gone = sorted(path for path in ours if path not in files and now[path] is not None)
    return Differences(
        missing=tuple(sorted(path for path in files if now[path] is None)),
        changed=tuple(sorted(path for path, text in files.items() if now[path] not in (None, _sum(text)))),
        stale=tuple(path for path in gone if now[path] == ours[path]),
        kept=tuple(path for path in gone if now[path] != ours[path]),
    )


def write(folder: Path, files: Mapping[str, str]) -> Differences:
    """Make it so; what was different. Raises ConfigError where a file is in the way that is not ours, or cannot be written."""
    ours, found = _manifest(folder), differences(folder, files)
    strange = [path for path in found.changed if path not in ours]
    if strange:
        words = "is here already and was not made by `probe rules`; move it away, or choose another --out"
        raise ConfigError([Located(str(folder / path), 0, 0, "", words) for path in strange])
    sums = {path: _sum(text) for path, text in files.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _put(folder / MANIFEST, _told({**ours, **sums}))  # ended in the middle, all of it is still known as ours
        for path in (*found.missing, *found.changed):
            _put(folder / path, files[path])
        for path in found.stale:
            (folder / path).unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                (folder / path).parent.rmdir()
        _put(folder / MANIFEST, _told(sums))
    except OSError as error:
        raise ConfigError([Located(str(error.filename or folder), 0, 0, "", f"cannot be written: {error.strerror}")]) from error
    return found


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _manifest(folder: Path) -> dict[str, str]:
    """Path → sum of what we wrote; only of what lies below the folder, whatever the file says."""
    try:
        with (folder / MANIFEST).open(encoding="utf-8") as file:
            found = json.loads(file.read(_MOST))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError([Located(str(folder / MANIFEST), 0, 0, "", f"cannot be read: {error}; remove it")]) from error
    if not isinstance(found, dict) or not isinstance(found.get("files"), dict):
        raise ConfigError([Located(str(folder / MANIFEST), 0, 0, "", "is no manifest of ours; remove it")])
    return {path: str(total) for path, total in found["files"].items() if _below(path)}


def _below(path: str) -> bool:
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts


def _told(sums: Mapping[str, str]) -> str:
    return json.dumps({"made_by": "probe rules", "files": dict(sorted(sums.items()))}, indent=1) + "\n"


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _on_disk(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    except OSError as error:
        raise ConfigError([Located(str(path), 0, 0, "", f"cannot be read: {error.strerror}")]) from error
