"""`python -m tests.bench`: what things cost and how long they take, side by side in one run.

Ratios of one machine at one time, each with its spread (median, 10th to 90th percentile) and its n; figures of another
machine are other figures. Targets are told as held or missed; a miss is exit code 1, unless the probe was unwell meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench import agent, backtest, bench_code, egress, gates, matrix, publishing, rules, store
from tests.bench.runs import run, scenario, starts, stock, watched
from tests.faults.platform import Platform, Ran

PROBE_SHARE_MS = 15.0  # of a WHEP start, at the median
A_RUN = 3  # viewers of each protocol in one run of the latency table
FEW, MANY = 2, 6  # viewers of aiortc's, for the slope
Row = tuple[str, ...]


def table(title: str, rows: Sequence[Row]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    return "\n".join([title, *lines, ""])


def spread(values: Sequence[float]) -> str:
    """Median, and the 10th to 90th percentile."""
    if len(values) < 2:
        return "".join(f"{v:.1f}" for v in values)
    deciles = statistics.quantiles(values, n=10, method="inclusive")
    return f"{statistics.median(values):.1f} ({deciles[0]:.1f}–{deciles[-1]:.1f})"


async def latency(platform: Platform, folder: Path, count: int) -> tuple[str, list[float], int]:
    """The table of starts at random phases, the probe's share of each untainted WHEP start, and how many were tainted."""
    rans: list[Ran] = []
    for n in range(-(-count // A_RUN)):
        text = scenario({"whep": A_RUN, "hls": A_RUN}, phase=A_RUN)
        rans.append((await run(platform, folder / f"starts-{n}", text))[0])
    text, tainted = "", 0
    shares: list[float] = []
    for protocol in ("whep", "hls", "whip"):
        found = [start for start in starts(rans) if start[0] == protocol]
        clean = [(stages, total) for _, stages, total, taint in found if not taint]
        tainted += len(found) - len(clean)
        names = list(dict.fromkeys(name for stages, _ in clean for name in stages))
        ours = [stages.get("probe", 0.0) * 1000 for stages, _ in clean]
        rows: list[Row] = [("stage", "ms: median (10–90 %)", "n")]
        rows += [
            (name, spread([s[name] * 1000 for s, _ in clean if name in s]), str(sum(name in s for s, _ in clean)))
            for name in names
        ]
        rows.append(("platform's share", spread([t * 1000 - o for (_, t), o in zip(clean, ours, strict=True)]), str(len(clean))))
        rows.append(("probe's share", spread(ours), str(len(clean))))
        rows.append(("all", spread([t * 1000 for _, t in clean]), str(len(clean))))
        text += table(f"{protocol}: start, of the untainted ({len(found) - len(clean)} tainted)", rows) + "\n"
        shares = ours if protocol == "whep" else shares
    return text, shares, tainted


async def cost(platform: Platform, folder: Path, seconds: float) -> str:
    """CPU-seconds per second and MiB: a whole run's process and the sandbox's; and viewers as aiortc makes them."""
    idle = await watched(platform, folder / "idle", scenario({}, publish=False, watch=seconds))
    live = await watched(platform, folder / "live", scenario({}, watch=seconds))
    stocks = [await stock(platform, folder / f"stock-{n}", n, seconds) for n in (FEW, MANY)]

    def line(name: str, probe: tuple[float, float], sandbox: tuple[float, float]) -> Row:
        return (name, f"{probe[0]:.4f}", f"{probe[1]:.1f}", f"{sandbox[0]:.4f}", f"{sandbox[1]:.1f}")

    def less(a: tuple[float, float], b: tuple[float, float], by: int = 1) -> tuple[float, float]:
        return (a[0] - b[0]) / by, (a[1] - b[1]) / by

    each = less(stocks[1], stocks[0], MANY - FEW)
    rows: list[Row] = [
        ("", "probe CPU-s/s", "probe MiB", "sandbox CPU-s/s", "sandbox MiB"),
        line("idle (a run that waits)", idle.probe, idle.sandbox),
        line("+ a WHIP publisher, 360p30", less(live.probe, idle.probe), less(live.sandbox, idle.sandbox)),
        (f"aiortc's own WHEP viewer, everything decoded (slope {FEW}→{MANY})", f"{each[0]:.4f}", f"{each[1]:.1f}", "", ""),
    ]
    return table(f"a run, over {seconds:g} s each", rows)


async def bench(starts_wanted: int, seconds: float) -> int:
    """Print the tables; the exit code."""
    costs = bench_code.measure_all()
    print("frame code, no codec running\n" + bench_code.table(costs) + "\n", flush=True)
    print(table("looking at one viewer's stream for a second, 360p30, no codec running", bench_code.shares()), flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "sandbox").mkdir()
        with Platform.started(folder / "sandbox") as platform:
            text, shares, tainted = await latency(platform, folder, starts_wanted)
            print(text, flush=True)
            print(await cost(platform, folder, seconds), flush=True)
            watching = await egress.costs(folder, platform, seconds)
            print(
                table(f"watching one broadcast, 360p30: of {egress.MANY} viewers each, over {seconds:g} s", egress.rows(watching))
            )
            sending = await publishing.measure(folder, platform, seconds)
            title = f"publishing with a live code: the whole process, over {seconds:g} s"
            print(table(title, publishing.rows(sending)), flush=True)
        whole = await matrix.measure(folder)
        print(table("a whole matrix, everything decoded", matrix.rows(whole)), flush=True)
        agents = await agent.measure(folder)
        print(table("an agent", agent.rows(agents)), flush=True)
        (folder / "gates").mkdir()
        judged = gates.measure(folder / "gates")
        print(table("gates, judged every ten seconds", gates.rows(judged)), flush=True)
        (folder / "store").mkdir()
        kept = await store.measure(folder / "store")
        print(table(f"records in SQLite, {kept.runs:,} runs", store.rows(kept)), flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-rules-") as name:
        ruled = await rules.measure(Path(name))
    print(table("rules, for Prometheus", rules.rows(ruled)), flush=True)
    months = backtest.measure()
    print(table("a month's backtest of the shipped fleet", backtest.rows(months)), flush=True)
    at_360p = costs[0]
    held = {
        f"drawing at 360p ≤ {bench_code.BOUND_US:g} µs: {at_360p.draw_us:.1f}": at_360p.draw_us <= bench_code.BOUND_US,
        f"reading at 360p ≤ {bench_code.BOUND_US:g} µs: {at_360p.find_us:.1f}": at_360p.find_us <= bench_code.BOUND_US,
    }
    if shares:
        median = statistics.median(shares)
        held[f"probe's share of a WHEP start ≤ {PROBE_SHARE_MS:g} ms at the median: {median:.1f}"] = median <= PROBE_SHARE_MS
    held |= egress.targets(watching) | publishing.targets(sending) | matrix.targets(whole) | store.targets(kept)
    held |= agent.targets(agents) | gates.targets(judged) | rules.targets(ruled) | backtest.targets(months)
    for target, ok in held.items():
        print(f"{'held  ' if ok else 'MISSED'}  {target}")
    if tainted:
        print(f"the probe was unwell in {tainted} starts: this machine was not quiet")
    return 0 if all(held.values()) and shares else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Costs and latencies, as ratios of one machine.")
    parser.add_argument("--starts", type=int, default=21, metavar="N", help="starts of each protocol (default: 21)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each cost is watched (default: 5)")
    options = parser.parse_args()
    return asyncio.run(bench(options.starts, options.seconds))


if __name__ == "__main__":
    sys.exit(main())
