"""Reading a secret from where a file says it is: an environment variable, a file, or what a command prints.

The one place where values come into the process. A command is for vaults (`vault kv get …`, `pass show …`): run without a
shell, in ten seconds at most, and what it says on stderr is not repeated, since it may quote what it was to hide.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
from pathlib import Path

from probe.net.redact import Redactor

MAX_BYTES = 64 * 1024
_COMMAND_SECONDS = 10.0


def read_secret(source: tuple[str, str]) -> str:
    """The value behind (kind, argument), trailing newlines removed; kind is env, file or command. Raises OSError, whose
    `strerror` says why and never what, where there is none."""
    kind, argument = source
    if kind == "env":
        value = os.environ.get(argument, "")
        if not value:
            raise OSError(0, "is not set")
        return value
    raw = _printed(shlex.split(argument)) if kind == "command" else _contents(Path(argument))
    try:
        value = raw.decode("utf-8").rstrip("\n")
    except UnicodeDecodeError:
        raise OSError(0, "not a text in UTF-8") from None
    if not value:
        raise OSError(0, "is empty")
    return value


def named(source: tuple[str, str]) -> str:
    """What a source is called in a message."""
    kind, argument = source
    return {"env": f"environment variable {argument}", "command": f"command {argument.split(' ')[0]}"}.get(kind, argument)


def revealed(source: tuple[str, str], redactor: Redactor) -> str:
    """As `read_secret`, and hidden from then on in whatever `redactor` is asked about; the error names the source."""
    try:
        value = read_secret(source)
    except OSError as error:
        raise OSError(0, f"{named(source)} {error.strerror}") from None
    redactor.add(value)
    return value


def _contents(path: Path) -> bytes:
    with path.open("rb") as file:
        return _bounded(file.read(MAX_BYTES + 1))


def _printed(command: list[str]) -> bytes:
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603  # the words of whoever wrote the file; no shell reads them
    except (ValueError, IndexError):
        raise OSError(0, "is no command") from None
    late = threading.Timer(_COMMAND_SECONDS, process.kill)
    late.start()
    try:
        assert process.stdout is not None
        with process, process.stdout as stream:
            raw = stream.read(MAX_BYTES + 1)
            if len(raw) > MAX_BYTES:
                process.kill()
        in_time = late.is_alive()
    finally:
        late.cancel()
    _bounded(raw)
    if process.returncode:
        raise OSError(0, f"ended with {process.returncode}" if in_time else f"took longer than {_COMMAND_SECONDS:g} s")
    return raw


def _bounded(raw: bytes) -> bytes:
    if len(raw) > MAX_BYTES:
        raise OSError(0, f"is longer than {MAX_BYTES // 1024} KiB")
    return raw
