"""Counters of agents as a real Prometheus would have seen them for a day, and goes on to scrape them.

Windows of hours cannot be waited for, and scaled ones would be other rules. So the past is written into Prometheus's own blocks,
and the present goes on from there on the same series: the rules are those that ship.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from aiohttp import web

Series = tuple[str, tuple[tuple[str, str], ...]]  # name, labels


@dataclass
class Figures:
    """`now`: values by series, to be changed; `was`: by how much they have grown a minute."""

    address: str
    now: dict[Series, float] = field(default_factory=dict)
    was: dict[Series, float] = field(default_factory=dict)

    def series(self, name: str, minute: float = 0.0, **labels: str) -> Series:
        """A new one. A counter has grown by so much each minute; a gauge is and was 1."""
        key = (name, tuple(sorted(labels.items())))
        self.was[key] = minute
        self.now[key] = 0.0
        return key

    def history(self, hours: float, seen: Mapping[Series, float]) -> str:
        """Samples until now, a minute apart in the last hour, five before; of a series in `seen` until so many minutes before
        now, and they are scraped no more."""
        minutes, until = int(hours * 60), time.time()
        times = [*range(minutes, 70, -5), *range(70, -1, -1)]
        host = (("instance", self.address), ("job", "probe"))
        lines = []
        families: dict[str, list[Series]] = {}
        for key in self.was:
            families.setdefault(key[0], []).append(key)
        for name, keys in families.items():
            counter = name.endswith("_total")
            lines.append(f"# TYPE {name.removesuffix('_total')} {'counter' if counter else 'gauge'}")
            for key in keys:
                text = _text(name, (*key[1], *host))
                for back in (back for back in times if back >= seen.get(key, 0)):
                    value = self.was[key] * (minutes - back) if counter else 1.0
                    lines.append(f"{text} {value:.6g} {until - back * 60 - 5:.3f}")
                    self.now[key] = value
        for key in seen:
            del self.now[key]
        return "\n".join([*lines, "# EOF\n"])

    def page(self) -> str:
        return "".join(f"{_text(name, labels)} {value!r}\n" for (name, labels), value in self.now.items())


def _text(name: str, labels: tuple[tuple[str, str], ...]) -> str:
    pairs = ",".join(f'{key}="{value}"' for key, value in labels)
    return f"{name}{{{pairs}}}"


@contextlib.asynccontextmanager
async def exposed() -> AsyncIterator[Figures]:
    """Figures served at /metrics."""
    application = web.Application()
    runner = web.AppRunner(application, shutdown_timeout=1.0)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=figures.page())

    application.router.add_get("/metrics", metrics)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        figures = Figures(f"{host}:{port}")
        yield figures
    finally:
        await runner.cleanup()
