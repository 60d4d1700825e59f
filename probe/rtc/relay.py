"""Candidates rewritten to the two sides of a relay, so that no direct pair remains between us and the server.

Both descriptions must go through here: with one real address left, ICE finds it (RFC 8445 learns peers from checks).
The default address of each section (c=, m= port, a=rtcp) is rewritten too, and related addresses are blanked.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from probe.link.path import Path

_CANDIDATE = re.compile(r"^a=candidate:(\S+) (\S+) (\S+) (\S+) (\S+) (\S+) typ (\S+).*$")


async def rewrite_candidates(sdp: str, move: Callable[[str, str, int], Awaitable[tuple[str, int] | None]]) -> str:
    """Each candidate as `move(type, ip, port)` says; where it says None the candidate is left out."""
    out: list[str] = []
    seen: set[str] = set()
    for line in sdp.splitlines():
        if line.startswith("m="):
            seen.clear()
            words = line.split(" ")
            line = " ".join([words[0], "0" if words[1] == "0" else "9", *words[2:]])
        elif line.startswith("c="):
            line = "c=IN IP4 0.0.0.0"
        elif line.startswith("a=rtcp:"):
            line = "a=rtcp:9 IN IP4 0.0.0.0"
        elif line.startswith("a=candidate:"):
            match = _CANDIDATE.match(line)
            moved = await move(match[7], match[5], int(match[6])) if match else None
            if match is None or moved is None:
                continue
            line = f"a=candidate:{match[1]} {match[2]} {match[3]} {match[4]} {moved[0]} {moved[1]} typ host"
            if line in seen:
                continue
            seen.add(line)
        out.append(line)
    return "\r\n".join(out) + "\r\n"


async def relay_offer(sdp: str, path: Path) -> str:
    """Our offer as the server shall see it: host candidates at the relay's server side, no others."""

    async def move(kind: str, ip: str, port: int) -> tuple[str, int] | None:
        if kind != "host":
            return None
        try:
            return await path.udp_local(ip, port)
        except (ValueError, OSError):  # not an address of this machine
            return None

    return await rewrite_candidates(sdp, move)


async def relay_answer(sdp: str, path: Path) -> str:
    """The server's answer as our agent shall see it, its addresses being literal: read_answer saw to that."""

    async def move(kind: str, ip: str, port: int) -> tuple[str, int] | None:
        return await path.udp_remote(ip, port)

    return await rewrite_candidates(sdp, move)
