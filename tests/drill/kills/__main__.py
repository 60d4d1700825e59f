"""`python -m tests.drill.kills [--times 60] [--real 7] [--seed N] [--only KIND …]`: drills killed at random; is anything left?

Every kind of fault that this machine can have, two or three at a time, in turns; every way to die, in turns. A line for each, a
summary, and exit 1 where anything was left in place, beyond its expiry, or in a ledger.

Most are drills of a stand-in, which does of a runner what is for safety, and no more; --real are of `probe drill run` itself."""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from probe.model.clock import MS
from tests.drill.kills.kill import WAYS, Killed, NotBegun, kill
from tests.drill.kills.targets import Target, Targets, targets


async def show(times: int, seed: int, only: frozenset[str], real: int = 0, verbose: bool = True) -> list[Killed]:
    """All kills, each told as it is done."""
    rng, done = random.Random(seed), list[Killed]()
    with tempfile.TemporaryDirectory(prefix="kills-") as where:
        async with targets(Path(where), only) as found:
            if verbose:
                print(f"{len(found.all)} targets: {', '.join(target.name for target in found.all)}; seed {seed}")
                for absent in found.absent:
                    print(f"not here: {absent}")
            for n in range(times + real):
                folder = Path(where) / f"drill-{n}"
                folder.mkdir()
                chosen = _chosen(found, n, rng)
                way = WAYS[(n if n < times else n - times) % len(WAYS)]
                try:
                    done.append(await kill(folder, chosen, way, found.env, rng, real=n >= times))
                except NotBegun as why:
                    print(f"{n + 1:3} –   not begun, and not counted: {' '.join(str(why).split())[-200:]}", flush=True)
                    continue
                if verbose:
                    print(line(n, done[-1]), flush=True)
    return done


def _chosen(found: Targets, n: int, rng: random.Random) -> list[Target]:
    """The next in turn, and one or two others, of whose eyes none sees another's doing."""
    chosen, others = [found.all[n % len(found.all)]], list(found.all)
    rng.shuffle(others)
    most = rng.choice([2, 3])
    for other in others:
        if len(chosen) < most and not any(_same_eyes(other.kind, one.kind) for one in chosen):
            chosen.append(other)
    return chosen


def _same_eyes(one: str, other: str) -> bool:
    return one == other or {one, other} == {"nft", "dns"}


def line(n: int, killed: Killed) -> str:
    words = "; ".join([*killed.left, *killed.trouble]) or ("" if killed.in_time else "after its expiry")
    began, back = (f"{value / MS:7.0f}" if value is not None else "      –" for value in (killed.began, killed.back))
    how = f"{n + 1:3} {'ok ' if killed.well else 'BAD'} {killed.way:20} at {killed.moment[:24]:24}"
    return f"{how} began {began} ms, last seen broken {back} ms  [{' + '.join(killed.names)}] ledger: {killed.state} {words}"


def summary(done: list[Killed], seconds: float) -> str:
    well = sum(killed.well for killed in done)
    broken = sum(1 for killed in done if killed.state.partition(" ")[0].isdecimal())
    undoers = Counter(by for killed in done for by in killed.undoers)
    lines = [f"{well} of {len(done)} restored by expiry, seen from outside ({broken} had broken something); {seconds:.0f} s"]
    for words, ways in (("death", [way for way in WAYS if way not in ("SIGTERM", "Ctrl-C", "SIGSTOP")]), ("expiry", ["SIGSTOP"])):
        began = sorted(killed.began for killed in done if killed.began is not None and killed.way in ways)
        if began:
            middle, worst = statistics.median(began) / MS, began[-1] / MS
            lines.append(f"undo began after {words}: median {middle:.0f} ms, most {worst:.0f} ms (n = {len(began)})")
    lines.append(f"ledgers undone by: {', '.join(f'{by} {count}' for by, count in sorted(undoers.items()))}")
    memory = [killed.memory for killed in done if killed.memory is not None]
    if memory:
        rss, pss = (statistics.median(values) / 2**20 for values in zip(*memory, strict=True))
        lines.append(f"the watchdog's memory, median: RSS {rss:.0f} MiB, PSS {pss:.0f} MiB")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.drill.kills", description=__doc__)
    parser.add_argument("--times", type=int, default=60)
    parser.add_argument("--real", type=int, default=0, help="so many more, of `probe drill run` itself, half a minute each")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--only", action="append", default=[], help="fake, process, load, disk, net, toxiproxy, http or sandbox")
    given = parser.parse_args()
    began = time.monotonic()
    done = asyncio.run(show(given.times, given.seed, frozenset(given.only), given.real))
    print(summary(done, time.monotonic() - began))
    return 0 if all(killed.well for killed in done) else 1


if __name__ == "__main__":
    sys.exit(main())
