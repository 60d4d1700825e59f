"""Giving finished runs to an agent that stays: written down first, sent until they are taken, kept for the next time if not.

Idempotent by the run's id: an answer that was lost costs nothing but asking again. The other agent's word is believed as to
whether it has taken a run, and for nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import aiohttp
from yarl import URL

from probe.agent.handed import Handed, encode
from probe.clock import SystemClock
from probe.model.clock import NS

WITHIN = 30.0  # s for all of them
_EACH = 20.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
_MOST_KEPT = 200  # runs; the oldest go first
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_DOOR = frozenset({401, 403})  # a mistake of ours that somebody can put right
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipient:
    """`url`: origin of the other agent's HTTP service. `login` reads user and password, where it asks for them, and raises
    OSError where it cannot."""

    url: str
    login: Callable[[], tuple[str, str]] | None = None


class HandOver:
    """Runs on their way; `folder` holds those that are not taken yet, and is made when there are any."""

    def __init__(self, recipient: Recipient, folder: Path, clock: SystemClock) -> None:
        self._recipient, self._folder, self._clock = recipient, folder, clock

    def add(self, handed: Handed) -> None:
        """Write it down. Raises OSError where the disk does not take it. For a thread."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        place = self._folder / f"{handed.run_id}.run"
        new = place.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(encode(handed))
            file.flush()
            os.fsync(file.fileno())
        new.rename(place)
        for old in self._kept()[:-_MOST_KEPT]:
            _log.error("run %s was never taken, and makes room for newer ones", old.stem)
            old.unlink(missing_ok=True)

    async def deliver(self, seconds: float = WITHIN) -> int:
        """Send all there are, those of earlier lives included, for at most so long. Returns how many were not taken."""
        refused, ends, pause = 0, self._clock.now() + int(seconds * NS), _FIRST_PAUSE
        why = ""
        timeout = aiohttp.ClientTimeout(total=_EACH)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
            waiting = self._kept()
            while waiting:
                try:
                    status, why = await self._send(session, waiting[0])
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    status, why = 503, str(error) or type(error).__name__
                why = f"{status} {why}"
                if status in _DOOR:
                    break
                if status not in _AGAIN:
                    place = waiting.pop(0)
                    if status >= 300:
                        refused += 1
                        _log.error("run %s was refused for good: %s", place.stem, why)
                    await asyncio.to_thread(place.unlink, missing_ok=True)
                    pause = _FIRST_PAUSE
                elif self._clock.now() + int(pause * NS) >= ends:
                    break
                else:
                    await asyncio.sleep(pause)
                    pause = min(_LONGEST_PAUSE, 2 * pause)
        if waiting:
            _log.error("%d runs were not taken by %s and wait for the next time: %s", len(waiting), self._recipient.url, why)
        return refused + len(waiting)

    async def _send(self, session: aiohttp.ClientSession, place: Path) -> tuple[int, str]:
        login = self._recipient.login
        auth = None if login is None else aiohttp.BasicAuth(*login(), encoding="utf-8")
        body = await asyncio.to_thread(place.read_bytes)
        url = URL(self._recipient.url) / "-" / "runs" / place.stem
        kind = {"Content-Type": "application/x-ndjson"}
        async with session.put(url, data=BytesIO(body), auth=auth, headers=kind, allow_redirects=False) as answer:
            words = (await answer.content.read(400)).decode(errors="replace")
            return answer.status, " ".join(words.split())

    def _kept(self) -> list[Path]:
        """Oldest first: a run's id begins with its time."""
        return sorted(self._folder.glob("*.run")) if self._folder.exists() else []
