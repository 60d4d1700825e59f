"""The embedded platform as its faults see it: its admin port, and what a fault shows to somebody who has no business there.

A platform that says a fault is planted says what it believes. Where a fault changes what anybody is answered, that is asked for
too: a status, a connection that is closed, an answer that does not come, a token that is no longer good. Where it shows only in
rooms, the platform's count of what it hit has to do.

Over HTTP alone: what stands in a record is enough, in whichever process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from probe.decide.asking import Away, Reply, ask, session

WITHIN = 1.5  # seconds for one question
_LATE = 1.0  # an answer slower than this is slow, whatever it was to be
_MOST = 256 * 1024

# What anybody may ask of each service; what it answers when it is well matters only in that it answers.
_ASKING = {
    "auth": ("GET", "/auth/me"),
    "room": ("GET", "/rooms"),
    "payment": ("GET", "/payments"),
    "gift": ("GET", "/rooms/-/gifts"),
    "chat": ("GET", "/rooms/-/chat"),
    "moderation": ("GET", "/rooms/-/flags/-"),
    "whip": ("POST", "/rooms/-/whip"),
    "whep": ("POST", "/rooms/-/whep"),
    "hls": ("GET", "/rooms/-/hls/index.m3u8"),
    "ll-hls": ("GET", "/rooms/-/ll/index.m3u8"),
    "http-flv": ("GET", "/rooms/-/live.flv"),
}


@dataclass(frozen=True, slots=True)
class Admin:
    """The admin port at `url`, behind its token."""

    url: str
    token: str

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, within: float = WITHIN) -> Reply:
        """Raises Away."""
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        async with session() as client:
            return await ask(client, method, self.url + path, sent, within, data, _MOST)

    async def json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Raises Away, also where it is refused."""
        reply = await self.call(method, path, body)
        told = read(reply)
        if not 200 <= reply.status < 300:
            raise Away(f"it answered {reply.status} {said(told)}".strip())
        return told


def read(reply: Reply) -> dict[str, Any]:
    """The JSON object that was answered; empty where it was none."""
    try:
        told = json.loads(reply.body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def said(told: Mapping[str, Any]) -> str:
    """Why it refused, in its words, short."""
    return " ".join(str(told.get("detail", told.get("error", ""))).split())[:200]


def look_of(fault: Mapping[str, Any], url: str, edges: Mapping[str, str], canary: str) -> dict[str, Any] | None:
    """Whom to ask for the effect of a planted fault, and what shows it; JSON. None: nobody outside of a room sees it."""
    kind, service = fault["fault"], fault.get("service", "")
    if "room" in fault:
        return None
    match kind:
        case "refuse" | "down" | "delay" | "hang" if service in _ASKING:
            method, path = _ASKING[service]
            shows = {"refuse": fault.get("status", 503), "down": "closed"}.get(kind, "late")
            return {"method": method, "url": url + path, "shows": shows} | (
                {"within": min(_LATE, 0.8 * float(fault["seconds"]))} if kind == "delay" else {}
            )
        case "edge_down" if fault.get("edge") in edges:
            return {"method": "GET", "url": f"{edges[fault['edge']]}/healthz", "shows": "closed"}
        case "edge_refuses" if fault.get("edge", "edge-b") in edges and fault.get("of", "hls") == "hls":
            return {
                "method": "GET", "url": f"{edges[fault.get('edge', 'edge-b')]}/hls/-/media.m3u8",
                "shows": fault.get("status", 503),
            }  # fmt: skip
        case "region_isolated":
            return {"method": "GET", "url": f"{url}/edges?region={quote(str(fault.get('region')))}", "shows": "closed"}
        case "region_moved":
            return {"method": "GET", "url": f"{url}/edges?region={quote(str(fault.get('region')))}", "shows": "moved"}
        case "tokens_revoked" if canary:
            return {"method": "GET", "url": f"{url}/auth/canary", "shows": 401, "token": canary}
    return None


async def shown(look: Mapping[str, Any]) -> bool | None:
    """Whether the effect is there; None: not to be said, since there was no answer at all."""
    headers = {"Authorization": f"Bearer {look['token']}"} if "token" in look else {}
    shows, within = look["shows"], look.get("within", _LATE)
    try:
        async with session() as client:
            reply = await ask(client, look["method"], look["url"], headers, within, most=_MOST)
    except Away as why:
        if why.nobody:
            return None
        return shows == ("late" if why.late else "closed") or (None if why.late else False)
    if shows == "moved":
        told = read(reply)
        return None if "edge" not in told else told["edge"] != told.get("home")
    return bool(reply.status == shows)


async def all_shown(looks: list[Mapping[str, Any] | None]) -> list[bool | None]:
    """As `shown`, all at once; None too where there is no way to look."""
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(shown(look)) if look is not None else None for look in looks]
    return [None if one is None else one.result() for one in asked]
