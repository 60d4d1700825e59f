"""A line of a ledger: one JSON object that says its version, and ends with a checksum over all its bytes before that.

Length and newline alone would not do: after a loss of power a page that never reached the disk reads as zeros. CRC-32 finds
what a disk or an editor does by accident; it does not keep anybody from forging one (the file's mode and owner do that).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from zlib import crc32

VERSION = 1
LONGEST = 64 * 1024  # bytes of a line
_MARK = b',"sum":"'
_END = 10  # bytes after the mark: eight hex digits, a quote, a brace


class Damaged(Exception):
    """These are not the bytes of a line as it was written."""


class OtherVersion(Exception):
    """Written by another version of this program."""

    def __init__(self, version: object) -> None:
        super().__init__(str(version)[:20])


def encode(event: str, values: Mapping[str, Any]) -> bytes:
    """Its bytes, newline included. ValueError where it is no JSON, or longer than LONGEST."""
    body = json.dumps({"v": VERSION, "event": event, **values}, separators=(",", ":"), allow_nan=False).encode()[:-1]
    line = b'%b%b%08x"}\n' % (body, _MARK, crc32(body))
    if len(line) > LONGEST:
        raise ValueError(f"it takes {len(line)} bytes; at most {LONGEST} can be kept")
    return line


def decode(line: bytes) -> dict[str, Any]:
    """What a line without its newline says. Raises Damaged, OtherVersion."""
    body, mark, rest = line.rpartition(_MARK)
    sound = bool(mark) and len(rest) == _END and rest == b'%08x"}' % crc32(body)
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise Damaged from None
    if isinstance(said, dict) and isinstance(said.get("v"), int) and said["v"] != VERSION:
        raise OtherVersion(said["v"])
    if not sound or not isinstance(said, dict):
        raise Damaged
    return said
