"""The scenarios for nginx-rtmp and node-media-server, as they ship, against the real ones: every cell of the grid."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.support import explained, sessions, smoke, stages_add_up
from tests.faults.platform import Ran
from tests.peers import nginx, node_media_server

SCENARIOS = Path("scenarios")


def every_cell(ran: Ran, latencies: dict[str, tuple[float, float]]) -> None:
    """Go; the grid is one broadcast by RTMP × the protocols of `latencies` (seconds: above, below), each seen and heard."""
    assert ran.exit == 0 and ran.verdict["result"] in ("pass", "warn"), explained(ran)
    (run,) = ran.verdict["runs"]
    cells = {cell["protocol"]: cell for cell in run["matrix"]}
    assert set(cells) == set(latencies), cells
    for protocol, cell in cells.items():
        assert (cell["of"], cell["ingest"], cell["result"]) == ("rtmp", "rtmp", "pass"), explained(ran)
        assert cell["viewers"] == cell["started"] == 1 and cell["sound"] is True, cell
        above, below = latencies[protocol]
        assert above < cell["e2e_latency_seconds"] < below, cell
        (viewer,) = sessions(ran, protocol=protocol)
        stages_add_up(viewer)
        assert viewer["ending"] == "planned", explained(ran)
        frames = viewer["frames"]
        assert frames["verified"] > 60, frames
        assert not any(frames[kind] for kind in ("broken", "corrupt", "foreign", "undecodable")), frames
    (publisher,) = sessions(ran, role="publisher")
    assert publisher["ending"] == "planned" and not publisher["reconnects"], explained(ran)


@pytest.mark.timing
async def test_what_comes_into_nginx_is_seen_over_rtmp_hls_and_dash(tmp_path: Path) -> None:
    async with nginx.running(fragment=1) as server:
        ran = await smoke(
            tmp_path / "out",
            SCENARIOS / "nginx-rtmp.yaml",
            env={
                "NGINX_RTMP_PORT": str(server.rtmp_port),
                "NGINX_HTTP_PORT": str(server.http_port),
                "NGINX_SETTLE": "4s",
                "NGINX_WATCH": "4s",
            },
        )
    every_cell(ran, {"rtmp": (0, 1), "hls": (1, 6), "dash": (1, 6)})


@pytest.mark.timing
async def test_what_comes_into_node_media_server_is_seen_over_rtmp_http_flv_and_ws_flv(tmp_path: Path) -> None:
    async with node_media_server.running() as server:
        ran = await smoke(
            tmp_path / "out",
            SCENARIOS / "node-media-server.yaml",
            env={"NMS_RTMP_PORT": str(server.rtmp_port), "NMS_HTTP_PORT": str(server.http_port)},
        )
    every_cell(ran, {"rtmp": (0, 1), "http-flv": (0, 1), "ws-flv": (0, 1)})
