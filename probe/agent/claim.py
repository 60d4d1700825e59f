"""A state directory is one agent's: two on one ledger and one outbox would undo and count what is the other's."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probe.errors import ConfigError, Located

_MOST = 256


@contextmanager
def claimed(state: Path, agent: str) -> Iterator[str]:
    """It is there, it can be written to, and nobody else has it while the block lasts; the kernel lets go of it however this
    process ends. Yields the name of the agent that had it before, empty where none is known: a host, or a pod, may be called
    otherwise by now. Raises ConfigError."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(state, os.W_OK | os.X_OK):
            raise PermissionError(0, "it is not writable by this user")
        descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _mistake(state, f"cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _signed(descriptor) or "it does not say which"
            raise _mistake(state, f"another agent has it ({owner}); give each a directory of its own") from None
        before = _signed(descriptor).partition(",")[0]
        _sign(descriptor, f"{agent}, process {os.getpid()}\n")
        yield before
    finally:
        os.close(descriptor)


def _signed(descriptor: int) -> str:
    return os.pread(descriptor, _MOST, 0).decode("utf-8", "replace").strip()


def _sign(descriptor: int, words: str) -> None:
    """For whoever comes second; a full disk does not keep us from being first."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, words.encode(), 0)
    except OSError:
        pass


def _mistake(state: Path, words: str) -> ConfigError:
    return ConfigError([Located(str(state), 0, 0, "state", words)])
