"""Encoded loops on disk, so that a machine encodes each of them once.

`$XDG_CACHE_HOME/stream-probe` or `~/.cache/stream-probe` (XDG Base Directory Specification). An entry is named by the hash of
what it was made from and says the hash of what it holds: one that is damaged, or another user's, counts as absent and is
written anew. Entries appear whole, by renaming. The oldest go when all of them grow too large. A cache that cannot be read or
written is no cache, and nobody hears of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

_MAGIC = b"stream-probe loop 1\n"
_SUFFIX = ".loop"
_DIGEST = hashlib.sha256().digest_size
_MOST = 1024  # units in an entry


def default_directory() -> Path | None:
    """Where the cache lies. None: this user has no home."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if named and Path(named).is_absolute():
        return Path(named) / "stream-probe"
    try:
        return Path.home() / ".cache" / "stream-probe"
    except RuntimeError:
        return None


class LoopCache:
    """`limit`: bytes of all entries together; `largest`: of one of them."""

    def __init__(self, directory: Path | None, *, limit: int = 256 << 20, largest: int = 32 << 20) -> None:
        self._directory, self._limit, self._largest = directory, limit, largest

    def get(self, key: str) -> list[bytes] | None:
        """The units kept under `key`, or None."""
        if self._directory is None:
            return None
        path = self._directory / (key + _SUFFIX)
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                what = os.fstat(file.fileno())
                if not stat.S_ISREG(what.st_mode) or what.st_uid != os.geteuid() or what.st_size > self._largest:
                    return None
                units = _read(file.read(self._largest))
            if units is not None:
                os.utime(path)
            return units
        except OSError:
            return None

    def put(self, key: str, units: Sequence[bytes]) -> None:
        """Keep `units` under `key` where that is possible."""
        body = struct.pack(f">{1 + len(units)}I", len(units), *map(len, units)) + b"".join(units)
        data = _MAGIC + hashlib.sha256(body).digest() + body
        if self._directory is None or len(data) > self._largest:
            return
        with contextlib.suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix="new-", suffix=_SUFFIX, dir=self._directory)
            try:
                with open(handle, "wb") as file:
                    file.write(data)
                os.replace(name, self._directory / (key + _SUFFIX))
            except OSError:
                os.unlink(name)
            self._shrink()

    def drop(self, key: str) -> None:
        """Forget what is under `key`."""
        if self._directory is not None:
            with contextlib.suppress(OSError):
                (self._directory / (key + _SUFFIX)).unlink()

    def _shrink(self) -> None:
        assert self._directory is not None
        entries = []
        for path in self._directory.glob("*" + _SUFFIX):
            with contextlib.suppress(OSError):
                what = path.lstat()
                entries.append((what.st_mtime_ns, what.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self._limit:
                return
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size


def _read(data: bytes) -> list[bytes] | None:
    """The units of an entry; None where it is not whole."""
    start = len(_MAGIC) + _DIGEST
    body = data[start:]
    if data[: len(_MAGIC)] != _MAGIC or hashlib.sha256(body).digest() != data[len(_MAGIC) : start] or len(body) < 4:
        return None
    (count,) = struct.unpack_from(">I", body)
    at = 4 * (1 + count)
    if count > _MOST or at > len(body):
        return None
    units = []
    for length in struct.unpack_from(f">{count}I", body, 4):
        units.append(body[at : at + length])
        at += length
    return units if at == len(body) else None
