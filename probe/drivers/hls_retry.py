"""What a player tries again, how often, and what no repetition mends.

Before the first picture, what a platform that has only just begun does wrong (404, nothing listed, an empty segment) is tried
again, five times in three seconds; what no repetition mends is told at once. Afterwards a player heals itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from probe.errors import Failure
from probe.model.stage import Phase

T = TypeVar("T")

START_PAUSES = (0.25, 0.5, 0.75, 1.5)  # seconds between the attempts at a start's playlist, and at its first segment
BACKOFF_FIRST, BACKOFF_MAX = 0.25, 2.0
STRIKES = 5  # answers that are no segment before it is left out

_AGAIN_STATUSES = frozenset({"http_404", "http_408", "http_425", "http_429"})
_NEVER_PHASES = frozenset({Phase.AUTH, Phase.RESOLVE, Phase.TLS})
_NEVER_REASONS = frozenset(
    {
        "not_a_playlist",
        "too_large",
        "too_many_lines",
        "unsupported",
        "no_variant",
        "address_refused",
        "redirect_loop",
        "redirect_refused",
    }
)
_WIRE = frozenset({"timeout", "reset", "closed", "refused", "unreachable", "failed"})


async def persist(attempt: Callable[[], Awaitable[T]]) -> T:
    """Its result, once it succeeds; its Failure where no repetition mends it, or the last did not."""
    for pause in START_PAUSES:
        try:
            return await attempt()
        except Failure as failure:
            if not _passing(failure):
                raise
        await asyncio.sleep(pause)
    return await attempt()


def backoff(tries: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return min(BACKOFF_MAX, BACKOFF_FIRST * 2.0 ** (min(max(tries, 1), 8) - 1))


def strike(failure: Failure) -> bool:
    """An answer came and was no segment: another attempt is one less."""
    return failure.reason not in _WIRE


def _passing(failure: Failure) -> bool:
    """Whether a platform that has only just begun may do better the next time."""
    phase, reason = failure.phase, failure.reason
    if phase in _NEVER_PHASES or reason in _NEVER_REASONS or (phase is Phase.PLAYLIST and reason == "malformed"):
        return False
    return not reason.startswith("http_4") or reason in _AGAIN_STATUSES
