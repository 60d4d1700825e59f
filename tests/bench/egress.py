"""What watching costs, protocol by protocol, on one broadcast; beside it ffmpeg on the same addresses at the same time.

Like for like: both are sent the same pictures and the same sound and decode all of both, ffmpeg with one thread and into
nothing. What ours does beyond that is looking (the code, the picture below it, the chirp); it is measured in the same run and
told apart, so that decoding can be compared with decoding, and the whole with it as well.

python -m tests.bench.egress [PROTOCOL …]
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.ways import Way, on_air, order
from tests.faults.platform import Platform
from tests.tools import ROOT, Child, requires, spawn, wait_until

AT_MOST = 1.3  # times ffmpeg's CPU for decoding the same, looking left out
FEW, MANY, THEIRS = 2, 6, 2  # viewers of ours; ffmpeg's for decoding and for demuxing
WARM = 1.5
_SPOKEN = ("rtmp", "srt", "http-flv", "http-ts", "ll-hls", "hls", "dash")  # by ffmpeg as well
_LIKE = ("rtmp", "srt", "http-flv", "http-ts", "hls", "dash")  # of LL-HLS ffmpeg takes whole segments only: another protocol
_FRAME = re.compile(r"^frame=\s*(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Theirs:
    """One viewer of ffmpeg's for a second: CPU-seconds, pictures; MiB of its process."""

    cpu: float
    pictures: float
    mib: float


@dataclass(frozen=True, slots=True)
class Cost:
    """One protocol's. `looking` is the part of `cpu` that ffmpeg has nothing of."""

    protocol: str
    cpu: float
    looking: float
    mib: float
    pictures: float
    decode: Theirs | None
    copy: Theirs | None

    @property
    def whole(self) -> float | None:
        """All of ours to ffmpeg's decoding, picture by picture."""
        return self._against(self.cpu)

    @property
    def decoding(self) -> float | None:
        """The same of ours without the looking."""
        return self._against(self.cpu - self.looking)

    def _against(self, cpu: float) -> float | None:
        return (cpu / self.pictures) / (self.decode.cpu / self.decode.pictures) if self.decode else None


async def measure(folder: Path, way: Way, seconds: float) -> Cost:
    """Ours and ffmpeg's viewers of one protocol, all at once."""
    urls = iter(way.urls * (MANY + 2 * THEIRS if len(way.urls) == 1 else 1))
    with contextlib.ExitStack() as stack:
        spoken = way.protocol in _SPOKEN
        decoding = [stack.enter_context(_ffmpeg(folder, way, next(urls), n, decode=True)) for n in range(THEIRS * spoken)]
        copying = [stack.enter_context(_ffmpeg(folder, way, next(urls), n, decode=False)) for n in range(THEIRS * spoken)]
        what = {"protocol": way.protocol, "urls": list(urls)[:MANY], "token": way.token}
        told = {"few": FEW, "many": MANY, "warm": WARM, "seconds": seconds}
        ours = stack.enter_context(spawn(order("watching", **what, **told), folder / f"{way.protocol}.log", cwd=ROOT))
        await ours.says("steady", 60)
        for child in (*decoding, *copying):
            await wait_until(lambda c=child: _frames(c), 20, f"ffmpeg's pictures of {way.protocol}")  # type: ignore[misc]
        before = [_look(child) for child in (*decoding, *copying)]
        await wait_until(lambda: not ours.running(), seconds + 30, "the end of ours")
        after = [_look(child) for child in (*decoding, *copying)]
        assert ours.popen.returncode == 0, ours.text()
        spent = json.loads(ours.text().splitlines()[-1])
    each = [
        Theirs((b[1] - a[1]) / (b[0] - a[0]), (b[2] - a[2]) / (b[0] - a[0]), b[3] / 2**20)
        for a, b in zip(before, after, strict=True)
    ]
    looking = spent["seeing"] + spent["hearing"]
    return Cost(
        way.protocol, spent["cpu"], looking, spent["mib"], spent["pictures"], _mean(each[:THEIRS]), _mean(each[THEIRS:])
    )  # fmt: skip


def _mean(these: list[Theirs]) -> Theirs | None:
    if not these:
        return None
    return Theirs(*(statistics.mean(getattr(t, name) for t in these) for name in ("cpu", "pictures", "mib")))


@contextlib.contextmanager
def _ffmpeg(folder: Path, way: Way, url: str, number: int, *, decode: bool) -> Iterator[Child]:
    """Decodes with one thread, or only demuxes, and throws away."""
    headers = ["-headers", f"Authorization: Bearer {way.token}\r\n"] if way.token else []
    read = ["-threads", "1", *headers, "-i", url]
    write = ["-filter_threads", "1"] if decode else ["-c", "copy"]
    name = f"{way.protocol}-{'decode' if decode else 'copy'}-{number}.log"
    command = [requires("ffmpeg"), "-nostdin", "-hide_banner", "-loglevel", "error", "-nostats", "-progress", "pipe:1", *read]
    with spawn([*command, *write, "-f", "null", "-"], folder / name) as child:
        yield child


def _frames(child: Child) -> int:
    found = _FRAME.findall(child.text())
    return int(found[-1]) if found else 0


def _look(child: Child) -> tuple[float, float, int, int]:
    """(when, CPU-seconds, pictures, bytes) so far."""
    process = psutil.Process(child.pid)
    times = process.cpu_times()
    return time.monotonic(), times.user + times.system, _frames(child), process.memory_info().rss


def rows(costs: list[Cost]) -> list[tuple[str, ...]]:
    """For a table."""
    head = (
        "a viewer's second",
        "CPU-s",
        "of it looking",
        "pictures",
        "MiB",
        "ffmpeg decodes: CPU-s",
        "pictures",
        "MiB",
        "ratio, looking left out",
        "ratio of the whole",
        "ffmpeg copies: CPU-s",
    )
    out: list[tuple[str, ...]] = [head]
    for c in costs:
        theirs: tuple[str, ...] = ("–",) * 6
        if c.decode and c.copy and c.decoding and c.whole:
            theirs = (
                f"{c.decode.cpu:.4f}",
                f"{c.decode.pictures:.1f}",
                f"{c.decode.mib:.1f}",
                f"{c.decoding:.2f}",
                f"{c.whole:.2f}",
                f"{c.copy.cpu:.4f}",
            )
        out.append((c.protocol, f"{c.cpu:.4f}", f"{c.looking:.4f}", f"{c.pictures:.1f}", f"{c.mib:.2f}", *theirs))
    return out


def targets(costs: list[Cost]) -> dict[str, bool]:
    """What was aimed at, and whether it holds."""
    return {
        f"watching {c.protocol} costs at most {AT_MOST:g} of ffmpeg's decoding, looking left out: {c.decoding:.2f}"
        f" ({c.whole:.2f} with it)": c.decoding <= AT_MOST
        for c in costs
        if c.decoding is not None and c.protocol in _LIKE
    }


async def costs(folder: Path, platform: Platform, seconds: float, only: tuple[str, ...] = ()) -> list[Cost]:
    """Of each protocol, or of these, one after the other."""
    async with on_air(folder, platform) as ways:
        return [await measure(folder, way, seconds) for way in ways.values() if not only or way.protocol in only]


async def main(only: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "sandbox").mkdir()
        with Platform.started(folder / "sandbox") as platform:
            found = await costs(folder, platform, 6.0, only)
    for row in rows(found):
        print(*row, sep="  ")


if __name__ == "__main__":
    asyncio.run(main(tuple(sys.argv[1:])))
