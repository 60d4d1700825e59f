"""Which way, and what went it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Way(StrEnum):
    UP = "up"  # from us to the platform
    DOWN = "down"


@dataclass(slots=True)
class Traffic:
    """One way's totals. `dropped` are datagrams lost to a cut or a full socket; `stray` came from, or were for, nobody known.

    What the impairments did: `delayed` were held at all; `lost` by the loss model, `overflowed` at the tail of a full queue
    (of a stream's segments, both are sent again: `resent`); `duplicated`; `reordered` left after a later one."""

    packets: int = 0
    bytes: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    stray: int = 0
    stream_bytes: int = 0
    delayed: int = 0
    lost: int = 0
    overflowed: int = 0
    duplicated: int = 0
    reordered: int = 0
    resent: int = 0

    def told(self) -> str:
        """In a line, what is not nothing."""
        datagrams = f"{self.packets} datagrams" if self.packets else ""
        stream = f"{self.stream_bytes} bytes of streams" if self.stream_bytes else ""
        names = ("lost", "overflowed", "dropped", "duplicated", "reordered", "resent")
        return ", ".join(filter(None, (datagrams, stream, *(f"{n} {name}" for name in names if (n := getattr(self, name))))))
