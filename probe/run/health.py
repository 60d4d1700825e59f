"""The probe doubts itself: is it well enough for its measurements to be believed?

Twice a second it looks at what would spoil them: the event loop's lag, pictures waiting to be read, the time our threads
were ready to run and had no processor (`/proc/self/task/*/schedstat`, the kernel's own account, which catches what loop lag
misses: a starved decoder thread), CPU throttling by the cgroup, a publisher sending late, and a stepped system clock.
Where the platform stands on this same machine it starves with us, and our own threads do not tell: there the kernel's
account of everybody who waited for a processor (`/proc/pressure/cpu`) counts too. Elsewhere other people's work is no
reason to doubt ours. A figure out of bounds is a taint on whatever overlaps the interval; the judge drops tainted outcomes
and the minimum count decides. What cannot be read on this machine is absent, never 0.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from yarl import URL

from probe.clock import SystemClock
from probe.model.clock import MS, NS, Clock
from probe.model.observation import HealthSample

INTERVAL = 0.5
_BEAT = 0.02
_LASTING = 2.0  # s
_TASKS = "/proc/self/task"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Beyond these the probe is unwell. Seconds; shares of time.

    On two cores, sandbox beside us, the worst of 92 samples of healthy runs was: lag 56 ms, backlog 4 ms, delay 0.19, and
    on a quiet machine pressure 0.07. With four processes computing beside it: lag 264 ms, delay 0.15 to 0.66, pressure
    0.57 to 1 (median 0.93). A lag of 150 ms is three times what is normal, and a tenth of what a start may take by our
    objectives; pressure is a matter of everybody or hardly anybody waiting."""

    loop_lag: float = 0.150
    decode_backlog: float = 0.300
    run_delay: float = 0.50
    throttled: float = 0.10
    late: float = 0.150
    clock_step: float = 0.050
    pressure: float = 0.75


@dataclass(frozen=True, slots=True)
class Sources:
    """What the rest of the run can tell: the oldest unread picture (s), the worst lateness of our publishers (ns), and
    whether the platform shares this machine."""

    backlog: Callable[[], float]
    late: Callable[[], int]
    shared: bool = False


def on_this_machine(url: str) -> bool:
    """Whether a platform at `url` runs beside us, as far as its address says."""
    try:
        host = URL(url).host or ""
    except ValueError:  # no address at all, as whoever asks for it will tell
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def assess(sample: HealthSample, late: float, stepped: float, bounds: Bounds, *, shared: bool = False) -> tuple[str, ...]:
    """The taints of one sample: pure. `shared`: the platform is on this machine."""
    figures = (
        ("loop_lag", sample.loop_lag, bounds.loop_lag),
        ("decode_backlog", sample.decode_backlog, bounds.decode_backlog),
        ("cpu_starved", sample.run_delay, bounds.run_delay),
        ("cpu_throttled", sample.throttled, bounds.throttled),
        ("publisher_late", late, bounds.late),
        ("clock_step", abs(stepped), bounds.clock_step),
        ("machine_busy", sample.pressure if shared else None, bounds.pressure),
    )
    return tuple(name for name, value, bound in figures if value is not None and value > bound)


class Health:
    """Run `watch` beside the run; it emits a HealthSample every half second until cancelled."""

    def __init__(
        self, clock: Clock, emit: Callable[[HealthSample], None], sources: Sources, bounds: Bounds | None = None
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._sources = sources
        self._bounds = bounds or Bounds()
        self._delay = _run_delays()
        self._throttled = _throttled_ns()
        self._pressures = [(clock.now(), _pressure_us())]  # of the last seconds
        self._step = 0.0

    async def watch(self) -> None:
        began = self._clock.now()
        worst = 0
        backlog = 0.0
        try:
            while True:
                before = self._clock.now()
                await asyncio.sleep(_BEAT)
                now = self._clock.now()
                worst = max(worst, now - before - int(_BEAT * NS))
                backlog = max(backlog, self._sources.backlog())
                if now - began >= INTERVAL * NS:
                    self._sample(began, now, worst, backlog)
                    began, worst, backlog = now, 0, 0.0
        finally:
            if (now := self._clock.now()) - began > 50 * MS:
                self._sample(began, now, worst, backlog)

    def _sample(self, began: int, now: int, worst: int, backlog: float) -> None:
        took = now - began
        sample = HealthSample(
            at=now,
            took=took,
            loop_lag=max(0, worst) / NS,
            decode_backlog=backlog,
            run_delay=self._share_of_delay(took),
            throttled=self._share_throttled(took),
            pressure=self._share_of_pressure(now),
        )
        stepped = 0.0
        if isinstance(self._clock, SystemClock):
            drift = self._clock.stepped_ns() / NS
            stepped, self._step = drift - self._step, drift
        taints = assess(sample, self._sources.late() / NS, stepped, self._bounds, shared=self._sources.shared)
        self._emit(replace(sample, taints=taints))

    def _share_of_delay(self, took: int) -> float | None:
        """The worst thread's share: one starved decoder is enough to spoil a picture."""
        before, self._delay = self._delay, _run_delays()
        if self._delay is None:
            return None
        if before is None:
            return 0.0
        waits = [wait - before[thread] for thread, wait in self._delay.items() if thread in before]
        return max(waits, default=0) / took

    def _share_throttled(self, took: int) -> float | None:
        before, self._throttled = self._throttled, _throttled_ns()
        if before is None or self._throttled is None:
            return None
        return (self._throttled - before) / took

    def _share_of_pressure(self, now: int) -> float | None:
        """Over two seconds, one at least: a burst delays nobody by as much as a deadline."""
        self._pressures.append((now, _pressure_us()))
        while now - self._pressures[1][0] >= _LASTING * NS:
            del self._pressures[0]
        (then, before), (_, after) = self._pressures[0], self._pressures[-1]
        if before is None or after is None or now - then < _LASTING / 2 * NS:
            return None
        return (after - before) * 1000 / (now - then)


def _run_delays() -> dict[str, int] | None:
    """Per thread of ours: ns spent runnable without running, or None where the kernel does not tell."""
    delays: dict[str, int] = {}
    try:
        for thread in os.listdir(_TASKS):
            with suppress(OSError, IndexError, ValueError):  # a thread may end while we look
                delays[thread] = int(_small(f"{_TASKS}/{thread}/schedstat").split()[1])
    except OSError:
        return None
    return delays or None


def _small(path: str) -> bytes:
    """A file of a line: a Path and a text stream cost four times as much, for each of a hundred threads."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 256)
    finally:
        os.close(descriptor)


def _throttled_ns() -> int | None:
    """ns this cgroup (v2) was throttled so far, or None where there is no such account."""
    for line in _lines(Path("/sys/fs/cgroup/cpu.stat")):
        name, _, value = line.partition(" ")
        if name == "throttled_usec":
            return int(value) * 1000
    return None


def _pressure_us() -> int | None:
    """µs so far in which at least one task of this machine waited for a processor (PSI), or None where that is not told."""
    for line in _lines(Path("/proc/pressure/cpu")):
        kind, *figures = line.split()
        if kind == "some":
            return int(dict(figure.split("=") for figure in figures)["total"])
    return None


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text().splitlines()
    except OSError:
        return
