"""Names of runs and traces.

A run has a UUIDv7 (RFC 9562), a 32-bit number and 64 random bits. Number and random bits stand in the picture, and the
128-bit trace id is made of both, so a viewer elsewhere joins the trace from the picture alone.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunIds:
    """`number` fits 32 bits, `trace_low` 64; neither is 0."""

    run_id: str
    number: int
    trace_low: int

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return trace_id(self.number, self.trace_low)


def trace_id(number: int, trace_low: int) -> str:
    """64 bits hashed from the run's number, then its 64 random bits, as 32 hex digits (W3C trace context)."""
    high = hashlib.blake2b(number.to_bytes(4, "big"), digest_size=8, person=b"stream-probe").hexdigest()
    return f"{high}{trace_low:016x}"


def new_run_ids(unix_ms: int, rng: random.Random) -> RunIds:
    """Fresh ids at Unix time `unix_ms`; pass random.SystemRandom() outside tests."""
    return RunIds(uuid7(unix_ms, rng), rng.getrandbits(32) or 1, rng.getrandbits(64) or 1)


def uuid7(unix_ms: int, rng: random.Random) -> str:
    """A UUIDv7: 48 bits of Unix ms, then random bits."""
    value = (unix_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | rng.getrandbits(12) << 64 | 0b10 << 62 | rng.getrandbits(62)
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def span_id(rng: random.Random) -> str:
    """16 hex digits, never all zero."""
    return f"{rng.getrandbits(64) or 1:016x}"


def traceparent(trace: str, span: str) -> str:
    """W3C trace-context header value, sampled."""
    return f"00-{trace}-{span}-01"
