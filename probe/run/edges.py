"""`edges: each`: every address that a name stands for, watched on its own.

What is probed is the host that the media comes from. A platform's playlist often stands on the platform's host and its segments
on a CDN's, or the first request is redirected to an edge; so a first look follows redirects and playlists (RFC 8216: master,
media, last segment) or a manifest (DASH: the first segment of its last period) to the host of the media itself. Only that
host's name is pinned: everything else a viewer asks is resolved as ever. Where the look comes to nothing the address's own
host is taken, and the viewers say what is wrong. Of WHEP, RTMP, SRT and WebSockets it is always the address's own host;
WHEP's media then goes wherever the answer says.
Names are looked up once, when the viewers begin; what a name comes to stand for later is for the next run to see.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import ModuleType

from yarl import URL

from probe.drivers.base import SessionRow, Spec
from probe.errors import ProbeError
from probe.model.bounds import MOST_ADDRESSES as MOST
from probe.model.clock import NS
from probe.model.stage import Phase, Stage
from probe.net.client import Client
from probe.wire import mpd, playlist
from probe.wire.playlist import Master

_PLAYLISTS = 2  # master, media
_SECONDS = 5.0
_MARK = b"\xef\xbb\xbf"
_BEGINNINGS = {b"#EXTM3U": playlist, b"<?xml": mpd, b"<MPD": mpd}
_ENOUGH = 64  # bytes that tell what an answer is


@dataclass(frozen=True, slots=True)
class Pin:
    """One address of a host, to be used alone. Empty: any."""

    ip: str = ""
    host: str = ""


ANY = Pin()


async def each(row: SessionRow, spec: Spec, client: Client) -> tuple[list[Pin], str]:
    """A pin for each address of the media's host, at most 16, and what a person should know of it. Where the name cannot be
    resolved it is ANY alone: a viewer will meet the same failure, and count it."""
    media = spec.url
    if media.startswith(("http://", "https://")) and Stage.SIGNAL not in row.stages:
        try:
            async with asyncio.timeout(row.start / NS):
                media = await _look(spec, client)
        except (ProbeError, TimeoutError):
            pass
    try:
        url = URL(media)
    except ValueError:
        return [ANY], ""
    host = url.raw_host or ""
    try:
        found = await client.using(family=spec.family).resolve(host, url.port or 0, phase=Phase.CONNECT, most=MOST + 1)
    except ProbeError:
        return [ANY], ""
    note = f"{host} has more than {MOST} addresses: the first {MOST} are watched" if len(found) > MOST else ""
    return [Pin(ip, host) for ip, _ in found[:MOST]], note


async def _look(spec: Spec, client: Client) -> str:
    """URL of the media behind the address, or as near to it as a manifest or two playlists lead. Raises Failure, Unsupported."""
    http = client.using(own_pool=True, family=spec.family)
    url = spec.url
    try:
        for _ in range(_PLAYLISTS):
            async with http.stream(
                "GET", url, purpose="the media", phase=Phase.PLAYLIST, credential=spec.credential, limit=mpd.MAX_BYTES,
                timeout=_SECONDS,
            ) as answer:  # fmt: skip
                url = answer.url
                body = bytearray()
                async for piece, _ in answer.chunks():
                    body += piece
                    if len(body) >= _ENOUGH and _kind(bytes(body[:_ENOUGH])) is None:
                        return url
            url, further = await asyncio.to_thread(_leads, bytes(body), url)
            if not further:
                break
    finally:
        await http.close()
    return url


def _kind(body: bytes) -> ModuleType | None:
    head = body[:_ENOUGH].removeprefix(_MARK).lstrip()
    return next((reader for beginning, reader in _BEGINNINGS.items() if head.startswith(beginning)), None)


def _leads(body: bytes, url: str) -> tuple[str, bool]:
    """Where an answer leads, and whether there is another answer to look at. Raises Failure or Unsupported."""
    kind = _kind(body)
    if kind is playlist:
        read = playlist.parse(body, url)
        if isinstance(read, Master):
            return read.variants[0].uri, True
        return read.segments[-1].uri if read.segments else url, False
    if kind is mpd:
        every = [r for period in mpd.parse(body, url).periods[-1:] for r in period.representations]
        return every[0].base if every else url, False
    return url, False
