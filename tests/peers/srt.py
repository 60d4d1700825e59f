"""libsrt itself, as Debian ships it: srt-live-transmit as a server between a publisher and a viewer, and ffmpeg's SRT.

`relaying` listens on two ports: what a caller sends to the one is given to a caller of the other, once both are there.
`ffmpeg_sending` is a listener that sends a file over and over, `ffmpeg_taking` one that writes what it is sent.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.tools import Child, free_port, missing, requires, spawn, wait_until

_LATENCY = 120


@dataclass(frozen=True)
class Relay:
    """A running srt-live-transmit."""

    child: Child
    ingest: int
    egress: int


@contextlib.asynccontextmanager
async def relaying(
    folder: Path, *, ingest_secret: str = "", egress_secret: str = "", key_bytes: int = 0, latency: int = _LATENCY
) -> AsyncIterator[Relay]:
    """`latency` in ms, on both ports; a secret makes its port demand it."""
    command = requires("srt-live-transmit", package="srt-tools")
    ports = [free_port(socket.SOCK_DGRAM) for _ in range(2)]
    urls = []
    for port, secret in zip(ports, (ingest_secret, egress_secret), strict=True):
        url = f"srt://127.0.0.1:{port}?mode=listener&latency={latency}"
        if secret:
            url += f"&passphrase={secret}" + (f"&pbkeylen={key_bytes}" if key_bytes else "")
        urls.append(url)
    with spawn([command, "-v", "-loglevel:note", *urls], folder / "srt-live-transmit.log") as child:
        await child.says(f"127.0.0.1:{ports[1]} ...")
        await child.says("listen...")
        yield Relay(child, *ports)


@contextlib.asynccontextmanager
async def sinking(folder: Path) -> AsyncIterator[int]:
    """A listener that takes what a caller sends and throws it away; its port."""
    port = free_port(socket.SOCK_DGRAM)
    command = [requires("srt-live-transmit", package="srt-tools"), "-v", "-loglevel:note"]
    source = f"srt://127.0.0.1:{port}?mode=listener&latency={_LATENCY}"
    with spawn([*command, source, "file://con"], folder / f"sinking-{port}.ts") as child:
        await wait_until(lambda: b"listen" in child.output.read_bytes(), 10, "a listener")
        yield port


@contextlib.contextmanager
def ffmpeg_sending(source: Path, port: int, folder: Path) -> Iterator[Child]:
    """A listener that sends the file's packets at their pace to whoever calls."""
    read = ["-re", "-stream_loop", "-1", "-i", str(source), "-c", "copy", "-f", "mpegts"]
    with spawn([_ffmpeg(), *read, f"srt://127.0.0.1:{port}?mode=listener"], folder / "sending.log") as child:
        yield child


@contextlib.contextmanager
def ffmpeg_taking(port: int, target: Path, folder: Path) -> Iterator[Child]:
    """A listener that writes what a caller sends into `target`, until the caller leaves."""
    write = ["-c", "copy", "-f", "mpegts", "-y", str(target)]
    source = f"srt://127.0.0.1:{port}?mode=listener"
    with spawn([_ffmpeg(), "-hide_banner", "-analyzeduration", "1M", "-i", source, *write], folder / "taking.log") as child:
        yield child


def _ffmpeg() -> str:
    command = requires("ffmpeg")
    if not any(Path(folder).glob("libsrt*.so*") for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu")):
        missing("ffmpeg has no SRT (package libsrt1.5-gnutls)")
    return command
