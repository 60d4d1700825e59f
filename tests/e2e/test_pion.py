"""Any WHIP/WHEP server: the scenario that needs no product services, against a WebRTC stack that is not ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.support import containing, explained, sessions, smoke, stages_add_up
from tests.peers import pion

TOKENS = {"WHIP_TOKEN": "canary-whip-6b1f0c", "WHEP_TOKEN": "canary-whep-9d27ae"}


@pytest.mark.timing
async def test_a_foreign_webrtc_stack_is_published_to_watched_cut_off_and_come_back_to(tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with pion.running() as server:
        env = {"PLATFORM_URL": server.url, "WHIP_URL": "/whip", "WHEP_URL": "/whep", **TOKENS}
        ran = await smoke(out, "scenarios/bare-whip-whep.yaml", "-v", env=env)
        left = await server.state()
    assert ran.exit == 0, explained(ran)
    assert (left["publisher"], left["viewer"]) == (0, 0), "sessions were not DELETEd"
    assert left["plis"] > 0

    (publisher,) = sessions(ran, "publisher")
    viewers = sessions(ran)
    assert [publisher["protocol"], *(v["protocol"] for v in viewers)] == ["whip", "whep", "whep"]
    for viewer in viewers:
        stages_add_up(viewer)
        latency = viewer["e2e_latency_seconds"]
        assert latency["n"] > 30 and 0 < latency["clock_error"] < 0.1
        assert -latency["clock_error"] <= latency["p50"] < 1, explained(ran)
        assert latency["p50"] <= latency["p95"] <= latency["max"]
        assert viewer["frames"]["foreign"] == viewer["frames"]["corrupt"] == 0
        (cut,) = viewer["reconnects"]
        assert (cut["kind"], cut["step"]) == ("flap", "cut")
        assert cut["outcome"] in ("resumed", "restarted"), explained(ran)
        # The path was gone for 1.5 s; a viewer came back after it was, and not before.
        assert 1.4 < cut["outage_seconds"] < 6, explained(ran)
        assert 0 < cut["reconnect_seconds"] < 4.5, explained(ran)
    assert {"signal", "ice", "dtls", "ack"} <= publisher["stages"].keys()

    assert containing(out, *TOKENS.values()) == []
    assert not any(token in ran.stdout + ran.stderr for token in TOKENS.values())
