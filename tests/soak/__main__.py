"""`python -m tests.soak`: the same run over and over, to find what happens once in a hundred.

(a) healthy: one sandbox, a short run again and again: every one must be go, and the sandbox must not grow.
(b) hog: the same while twice as many processes as there are cores compute. The probe is starved, and so is the platform
    on the same machine; pass and inconclusive are both right, and nothing may be blamed on the platform.
(c) nginx: an unmodified nginx-rtmp with 6 s segments and a 3 s cut, healthy: every one must be go.
(d) agent: an agent on its schedule while all that it depends on breaks at random (agent.py).
(e) kills: an agent killed at random moments, again and again (agent.py).
(f) canaries: as many runs of an agent as a day has minutes, and no secret in all that leaves it (canaries.py).

Those that are named are done; all of them where none is. Runs that were not as they should be keep their files and are named with
run id and seed. Exit code 1 if there are any.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.support import smoke
from tests.e2e.test_nginx_hls import on_air, watch
from tests.faults.platform import Platform, Ran
from tests.soak import agent as agents
from tests.soak import canaries as birds
from tests.soak.growth import Growth
from tests.soak.tally import Tally, identity, plain, table, why, word
from tests.tools import ROOT, cpu_hog

SHORT = Path(__file__).parent / "short.yaml"
GO = {"go", "warn"}
DEFAULTS = {"healthy": 100, "hog": 20, "nginx": 10, "agent": 30.0, "kills": 100, "canaries": 1440}
TIMEOUT = 120.0  # s: twice what a starved run's own deadlines add up to


@dataclass
class Soak:
    """Runs, counted and judged; `bad` is what must not be."""

    out: Path
    seed: int = 0
    tallies: list[Tally] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)

    async def repeat(
        self, part: str, times: int, run: Callable[[Path], Awaitable[Ran]], *, allowed: set[str], each: Callable[[], None]
    ) -> None:
        """`run` so many times, each with a directory of its own; `each` is called after each."""
        tally = Tally(part)
        self.tallies.append(tally)
        for n in range(1, times + 1):
            out = self.out / f"{part}-{n}"
            began = time.monotonic()
            try:
                ran = await run(out)
            except TimeoutError:
                ran = Ran(-1, "", "it did not end in time and was killed", {}, out)
            took = time.monotonic() - began
            tally.count(ran, took)
            print(f"{part} {n}/{times} {word(ran)} {took:.1f} s", flush=True)
            if word(ran) not in ("go", "warn"):
                print(f"    {identity(ran)}: {why(ran)}", flush=True)
            if word(ran) in allowed:
                shutil.rmtree(out, ignore_errors=True)
            else:
                self.bad.append(f"{part} {n}: {word(ran)}: {identity(ran)}: {why(ran)}; files in {out}")
            each()

    async def healthy(self, times: int) -> None:
        with _sandbox() as platform:
            growth = Growth(platform.pid)
            await self.repeat("healthy", times, lambda out: _short(platform, out), allowed=GO, each=growth.look)
            print(growth)
            self.bad += growth.complaints()

    async def hog(self, times: int) -> None:
        with _sandbox() as platform, cpu_hog(2 * (os.cpu_count() or 1)):
            await self.repeat("hog", times, lambda out: _short(platform, out), allowed={*GO, "inconclusive"}, each=_nothing)

    async def nginx(self, times: int) -> None:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            async with on_air(Path(folder)) as server:
                await self.repeat("nginx", times, lambda out: watch(server, out), allowed=GO, each=_nothing)

    async def agent(self, minutes: float) -> None:
        self._add(f"agent, {minutes:g} min", *await agents.soak(minutes, self.seed, self.out))

    async def kills(self, times: int) -> None:
        self._add("kills", *await agents.kills(times, self.seed, self.out))

    async def canaries(self, times: int) -> None:
        with tempfile.TemporaryDirectory(prefix="soak-canaries-") as folder:
            self._add(f"canaries, {times} runs", *await birds.day(Path(folder), times, self.seed))
            shutil.copy(Path(folder) / "log", self.out / "canaries.log")

    def _add(self, part: str, tables: list[list[agents.Row]], bad: list[str]) -> None:
        self.tables += [plain(rows) for rows in tables]
        self.bad += [f"{part}: {words}" for words in bad]


def _nothing() -> None:
    pass


@contextlib.contextmanager
def _sandbox() -> Iterator[Platform]:
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, Platform.started(Path(folder)) as platform:
        yield platform


async def _short(platform: Platform, out: Path) -> Ran:
    return await smoke(out, SHORT, "--json", env=platform.environment, deadline=TIMEOUT)


async def soak(options: argparse.Namespace) -> Soak:
    """The parts that were asked for, one after the other."""
    parts = Soak(options.out, options.seed)
    print(f"seed {parts.seed}", flush=True)
    named = any(value is not None for value in (getattr(options, name) for name in DEFAULTS))
    for name, usual in DEFAULTS.items():
        given = getattr(options, name)
        if times := (0 if named else usual) if given is None else given:
            await getattr(parts, name)(times)
    return parts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Many runs; none may blame a healthy platform.")
    parser.add_argument("--healthy", type=int, metavar="N", help="healthy runs (default: 100)")
    parser.add_argument("--hog", type=int, metavar="M", help="runs on a starved machine (default: 20)")
    parser.add_argument("--nginx", type=int, metavar="K", help="runs on nginx-rtmp (default: 10)")
    parser.add_argument("--agent", type=float, metavar="MINUTES", help="an agent while all else breaks (default: 30)")
    parser.add_argument("--kills", type=int, metavar="N", help="an agent's ends by kill -9 (default: 100)")
    parser.add_argument("--canaries", type=int, metavar="N", help="an agent's runs, searched for secrets (default: 1440)")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().getrandbits(32), help="of what is random in (d), (e) and (f)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "soak", help="where runs that went wrong keep their files")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    done = asyncio.run(soak(options))
    print("\n" + "\n\n".join([*([table(done.tallies)] if done.tallies else []), *done.tables]) + "\n")
    print("\n".join(done.bad) or "nothing was blamed on a healthy platform")
    return 1 if done.bad else 0


if __name__ == "__main__":
    sys.exit(main())
