"""The configuration in force, and whether the files still say it.

What they say is taken whole or not at all. A refusal is of the files as they were: they are looked at on, those included that
brought it about, so that it heals by the file that is put right, whichever that is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from operator import attrgetter

from probe.agent.loading import Loaded, Unusable, fingerprint

_log = logging.getLogger(__name__)
_LOOK = 5.0  # s between looks at the files
# What belongs to a running agent: its identity, its addresses, its processes.
_FIXED = {
    "agent": attrgetter("config.agent"), "region": attrgetter("region"), "state": attrgetter("state"),
    "listen": attrgetter("config.listen"), "web": attrgetter("web"), "store": attrgetter("config.store"),
    "telemetry": attrgetter("config.telemetry"), "workers": attrgetter("config.workers"),
}  # fmt: skip


class Configuration:
    """`loaded` is in force; `refused` says why what the files say now is not, and is empty where it is. `read` reads them, in a
    thread; it raises Unusable."""

    def __init__(self, loaded: Loaded, read: Callable[[], Loaded], *, look: float = _LOOK) -> None:
        self.loaded = loaded
        self.refused: tuple[str, ...] = ()
        self._read, self._look = read, look
        self._files = loaded.files
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have them read again, whether they changed or not."""
        self._asked.set()

    async def changed(self) -> None:
        """Until they are to be read again."""
        while not self._asked.is_set():
            try:
                async with asyncio.timeout(self._look):
                    await self._asked.wait()
            except TimeoutError:
                if await asyncio.to_thread(fingerprint, list(self._files)) != self._files:
                    return
        self._asked.clear()

    async def renewed(self) -> Loaded | None:
        """What the files say now, to be put in force; None where it is refused."""
        try:
            loaded = await asyncio.to_thread(self._read)
        except Unusable as error:
            self._files = error.files
            self.refused = tuple(str(mistake) for mistake in error.mistakes)
            return None
        except Exception as bug:  # whatever stands in a file must not end an agent that runs
            _log.exception("the configuration could not be read")
            self._files = await asyncio.to_thread(fingerprint, list(self._files))
            self.refused = (f"it could not be read: {type(bug).__name__}",)
            return None
        self._files = loaded.files
        self.refused = tuple(
            f"{name} changes only with a restart" for name, value in _FIXED.items() if value(loaded) != value(self.loaded)
        )
        return None if self.refused else loaded
