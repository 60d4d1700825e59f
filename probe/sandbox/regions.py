"""Regions, and the edge their viewers are sent to.

A viewer says where it is by `?region=`, since on one machine all come from one address; a real platform sees that by itself.
Each region has an edge of its own. One that is down is noticed within STEERED, and the region's viewers are sent to the
other from then on, until it is back. Who names no region is sent to each edge in turn.
"""

from __future__ import annotations

from aiohttp import web

from probe.model.clock import NS
from probe.sandbox.context import PLATFORM, Platform
from probe.sandbox.faults import EDGES, REGIONS
from probe.sandbox.web import serves

STEERED = 2 * NS


def region_of(request: web.Request) -> str:
    """Where the caller says it is; empty where that is nowhere."""
    region = request.query.get("region", "")
    return region if region in REGIONS else ""


def edge_for(platform: Platform, way: str, region: str) -> str:
    """The edge that the next viewer of `way` in `region` is sent to."""
    if region:
        return _edge_of(platform, region)
    home = EDGES[platform.next_viewer[way] % len(EDGES)]
    platform.next_viewer[way] += 1
    return _standing(platform, home)


def _edge_of(platform: Platform, region: str) -> str:
    home = REGIONS[region]
    return other_edge(home) if platform.faults.acting("region_moved", region=region) else _standing(platform, home)


def _standing(platform: Platform, home: str) -> str:
    down = platform.faults.acting("edge_down", edge=home)
    noticed = down is not None and platform.clock.wall().unix_ns - down.starts >= STEERED
    return other_edge(home) if noticed and not platform.faults.acting("steering_stuck") else home


def other_edge(edge: str) -> str:
    """The one that takes over from `edge`."""
    return EDGES[1 - EDGES.index(edge)]


@serves("steering")
async def edges(request: web.Request) -> web.Response:
    """GET /edges?region= → {edges: {name: url}}, and for a region its own edge (`home`) and the one it is sent to (`edge`)."""
    platform = request.app[PLATFORM]
    answer: dict[str, object] = {"edges": {name: platform.config.url(name) for name in EDGES}}
    if region := region_of(request):
        answer |= {"region": region, "home": REGIONS[region], "edge": _edge_of(platform, region)}
    return web.json_response(answer)


async def move(platform: Platform, region: str) -> None:
    """End the media sessions of a region's viewers, who then come back to where they are sent."""
    for room in list(platform.rooms.values()):
        for viewer in room.live.viewers():
            if viewer.region == region:
                room.live.put_out = True
                await viewer.close()


ROUTES = [web.get("/edges", edges)]
