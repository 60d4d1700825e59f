"""What sending with a live code costs, spliced, over each ingest; beside it, at the same time, aiortc's own live encoder.

What is aimed at is the picture's, as aiortc's figure here is a picture's alone; what sound adds stands beside it.

python -m tests.bench.publishing
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.ways import login, publishing, room
from tests.faults.platform import Platform
from tests.peers import nginx, srt
from tests.tools import Child, wait_until

SIZES = {"360p30": 800_000, "720p30": 2_000_000, "1080p30": 4_000_000}  # bit/s
PICTURE = "whip without sound"
AT_MOST = {"360p30": 0.025, "720p30": 0.030, "1080p30": 0.040}  # CPU-seconds of a stream's second
CHEAPER = {"360p30": 8.0, "720p30": 14.0, "1080p30": 20.0}  # times, than encoding live


@dataclass(frozen=True, slots=True)
class Sent:
    """CPU-seconds of a stream's second in the publisher's process, by protocol; `live`: with aiortc's encoder over WHIP."""

    programme: str
    ours: dict[str, float]
    live: float


async def measure(folder: Path, platform: Platform, seconds: float) -> list[Sent]:
    """Sizes one after another, the ways to send one side by side."""
    token = login(platform, "probe")
    async with nginx.running(fragment=2) as server:
        return [await _size(folder, platform, server, token, programme, seconds) for programme in SIZES]


async def _size(folder: Path, platform: Platform, server: nginx.Nginx, token: str, programme: str, seconds: float) -> Sent:
    async with contextlib.AsyncExitStack() as stack:
        sink = await stack.enter_async_context(srt.sinking(folder))
        base = platform.ready["url"]
        targets = {
            PICTURE: (f"{base}/rooms/{room(platform, token)}/whip", token),
            "whip": (f"{base}/rooms/{room(platform, token)}/whip", token),
            "rtmp": (server.rtmp_url(programme), ""),
            "srt": (f"srt://127.0.0.1:{sink}", ""),
            "whip-aiortc": (f"{base}/rooms/{room(platform, token)}/whip", token),
        }
        common = {"programme": programme, "bitrate": SIZES[programme], "seconds": seconds}
        children = {
            name: stack.enter_context(
                publishing(folder, protocol=name.split()[0], url=url, token=token, audio=name != PICTURE, **common)
            )
            for name, (url, token) in targets.items()
        }
        spent = {protocol: await _figure(child, seconds + 30) for protocol, child in children.items()}
    live = spent.pop("whip-aiortc")
    return Sent(programme, spent, live)


async def _figure(child: Child, within: float) -> float:
    await child.says("on air", 30)
    said = await wait_until(lambda: child.text().partition("on air\n")[2].strip() or not child.running(), within, "a figure")
    assert isinstance(said, str), child.text()
    return float(json.loads(said.splitlines()[0]))


def rows(sent: list[Sent]) -> list[tuple[str, ...]]:
    """For a table."""
    head = ("a stream's second, CPU-s", *(sent[0].ours), "aiortc's encoder (WHIP)", "WHIP is cheaper")
    return [
        head,
        *(
            (s.programme, *(f"{cpu:.4f}" for cpu in s.ours.values()), f"{s.live:.4f}", f"{s.live / s.ours[PICTURE]:.1f} times")
            for s in sent
        ),
    ]


def targets(sent: list[Sent]) -> dict[str, bool]:
    """What was aimed at, and whether it holds."""
    held = {}
    for s in sent:
        most, cpu = AT_MOST[s.programme], s.ours[PICTURE]
        times = s.live / cpu
        held[f"publishing {s.programme}, {PICTURE}, ≤ {most:g} CPU-s a second: {cpu:.4f}"] = cpu <= most
        held[f"{s.programme} at least {CHEAPER[s.programme]:g} times cheaper than encoding live: {times:.1f}"] = (
            times >= CHEAPER[s.programme]
        )
    return held


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "sandbox").mkdir()
        with Platform.started(folder / "sandbox") as platform:
            sent = await measure(folder, platform, 8.0)
    for row in rows(sent):
        print(row)
    for target, ok in targets(sent).items():
        print("held  " if ok else "MISSED", target)


if __name__ == "__main__":
    asyncio.run(main())
