"""The three plants: 5 % loss, 500 kbit/s, 100 ms. Who watches under each, and what is said of them in a table."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.truth.measure import Measured, Viewer, behind, measure
from tests.truth.namespaces import Cable, cable

LOSS = 0.05
RATE = 500_000


def under_both(seconds: float) -> Measured:
    """The short one: WHEP under loss, HLS at a rate."""
    viewers = [
        Viewer("none", "whep"),
        Viewer("link", "whep", "loss: 5%"),
        Viewer("hls-link", "hls", "down: 500kbps", "edge-a"),
        Viewer("kernel", "whep", kernel=True),
        Viewer("hls-kernel", "hls", edge="edge-b", kernel=True),
    ]

    def plant(wire: Cable, port: int) -> None:
        wire.lose(LOSS, None)
        wire.limit(RATE, port, datagrams=False)

    return _watched(viewers, plant, seconds)


def under_loss(seconds: float) -> Measured:
    viewers = [
        Viewer("none", "whep"),
        Viewer("link", "whep", "loss: 5%"),
        Viewer("hls-none", "hls", edge="edge-a"),
        Viewer("hls-link", "hls", "loss: 5%", "edge-a"),
        Viewer("kernel", "whep", kernel=True),
        Viewer("hls-kernel", "hls", edge="edge-b", kernel=True),
    ]
    return _watched(viewers, lambda wire, port: wire.lose(LOSS, port), seconds)


def under_rate(seconds: float) -> Measured:
    viewers = [
        Viewer("none", "whep"),
        Viewer("link", "whep", "down: 500kbps"),
        Viewer("hls-link", "hls", "down: 500kbps", "edge-a"),
        Viewer("kernel", "whep", kernel=True),
        Viewer("hls-kernel", "hls", edge="edge-b", kernel=True),
    ]
    return _watched(viewers, lambda wire, port: wire.limit(RATE, port, datagrams=True), seconds)


def under_delay(seconds: float) -> Measured:
    viewers = [
        Viewer("none", "whep"),
        Viewer("link", "whep", "delay: 100ms"),
        Viewer("hls-none", "hls", edge="edge-a"),
        Viewer("hls-link", "hls", "delay: 100ms", "edge-b"),
    ]
    return _watched(viewers, lambda wire, port: None, seconds)


def _watched(viewers: list[Viewer], plant: Callable[[Cable, int], None], seconds: float) -> Measured:
    with tempfile.TemporaryDirectory(prefix="truth-") as state, cable() as wire, behind(wire, Path(state)) as platform:
        return measure(wire, platform, viewers, partial(plant, wire), seconds, Path(state) / "out")


COLUMNS = (
    *("path", "started", "ended by", "first frame ms", "e2e p50 ms", "e2e p95 ms", "pictures", "lost", "w3c freezes", "frozen s"),
    *("kB/s", "sound lost %", "nacks", "plis", "rebuffered %", "segments kbit/s"),
)


def _number(value: float | None, scale: float = 1, digits: int = 0) -> str:
    return "" if value is None else f"{value * scale:.{digits}f}"


def table(title: str, measured: Measured) -> str:
    """What the probe reports of each viewer side by side, and what was really done to it."""
    rows = [COLUMNS]
    for name, session in measured.sessions.items():
        if session["role"] != "viewer":
            continue
        e2e, frames, freezes = (session.get(k) or {} for k in ("e2e_latency_seconds", "frames", "freezes"))
        picture = measured.facts(name, "rtp picture")
        whep = session["protocol"] == "whep"
        rows.append(
            (
                f"{session['protocol']} {name.removeprefix('hls-')}",
                session["outcome"] + (f" {session['phase']}/{session['reason']}" if "phase" in session else ""),
                f"{ended['phase']}/{ended['reason']}" if (ended := session.get("ended_by")) else "",
                _number(session.get("first_frame_seconds"), 1_000),
                _number(e2e.get("p50"), 1_000),
                _number(e2e.get("p95"), 1_000),
                _number(frames.get("verified")),
                _number(frames.get("lost")),
                _number(freezes.get("count")),
                _number(freezes.get("seconds"), digits=2),
                _number(measured.bytes_per_second(name), 1e-3, 1),
                _number(measured.sound_lost(name), 100, 1),
                _number(picture.get("nacks", 0) if whep else None),
                _number(picture.get("plis", 0) if whep else None),
                _number(freezes.get("rebuffer_ratio"), 100, 1),
                _number(measured.segment_rate(name), 1e-3),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    truth = [
        f"  link/ says of {session['protocol']} {name.removeprefix('hls-')}: "
        + "; ".join(f"{k.removeprefix('network ')}: {v}" for k, v in session["facts"].items() if k.startswith("network") and v)
        for name, session in measured.sessions.items()
        if any(k.startswith("network") for k in session.get("facts", {}))
    ]
    if measured.counted:
        seen, down, up, *stream = measured.counted
        truth.append(f"  nft dropped {down} of {seen} datagrams to us ({100 * down / seen if seen else 0:.1f} %), {up} from us")
        if stream:
            truth.append(f"  nft dropped {stream[0]} segments of the stream to us, {stream[1]} from us")
    truth += [
        f"  tbf of the {what}: {sent} bytes in {packets} packets sent, {dropped} dropped"
        for what, (sent, packets, dropped) in zip(("stream", "datagrams"), reversed(measured.shaped), strict=False)
    ]
    return "\n".join([title, *lines, *truth, ""])
