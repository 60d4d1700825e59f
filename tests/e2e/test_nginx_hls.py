"""HLS as most of the world runs it: 6 s segments from a server that knows nothing of us."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from probe.media.clip import clip
from probe.media.programme import ProgrammeIds
from tests.e2e.support import HERE, explained, sessions, smoke
from tests.faults.platform import Ran
from tests.peers import nginx
from tests.tools import wait_until

SEGMENTS = 2  # 12 s of buffer, and the next segment within 6 s


@contextlib.asynccontextmanager
async def on_air(folder: Path) -> AsyncIterator[nginx.Nginx]:
    """nginx-rtmp with a looped clip in it, `SEGMENTS` segments of 6 s listed."""
    source = folder / "clip.mp4"
    source.write_bytes(clip("360p30", 6, ProgrammeIds(run=1, trace=2), unix_ms=time.time_ns() // 1_000_000, audio=False))
    async with nginx.running(fragment=6) as server, aiohttp.ClientSession() as http:
        with server.feed(source):

            async def listed() -> bool:
                async with http.get(server.hls_url()) as answer:
                    return answer.status == 200 and (await answer.text()).count("#EXTINF") >= SEGMENTS

            await wait_until(listed, 25, f"{SEGMENTS} segments")
            yield server


async def watch(server: nginx.Nginx, out: Path) -> Ran:
    """One run: a viewer, and 3 s without a network. For tests/soak too."""
    url = server.hls_url()
    return await smoke(out, HERE / "nginx-hls.yaml", env={"PLATFORM_URL": url.rsplit("/", 2)[0], "HLS_URL": url})


def healthy(ran: Ran) -> None:
    """Go: the buffer bridged the cut, and nothing was judged as if there were none."""
    assert ran.exit == 0, explained(ran)
    (viewer,) = sessions(ran, protocol="hls")
    assert (viewer["outcome"], viewer["ending"]) == ("done", "planned"), explained(ran)
    (cut,) = viewer["reconnects"]
    assert cut["outcome"] in ("unaffected", "resumed"), explained(ran)
    if cut["outcome"] == "unaffected":
        assert "outage_seconds" not in cut and "reconnect_seconds" not in cut
        assert viewer["freezes"]["rebuffers"] == 0, explained(ran)
    assert cut["attempts"] == 0, "a player with a buffer was torn down"
    assert viewer["verify"] == "moving" and "e2e_latency_seconds" not in viewer, "nothing of ours is in this picture"
    assert ran.verdict["result"] in ("pass", "warn"), explained(ran)


@pytest.mark.timing
async def test_a_healthy_hls_of_six_second_segments_is_go_in_spite_of_a_cut(tmp_path: Path) -> None:
    async with on_air(tmp_path) as server:
        ran = await watch(server, tmp_path / "out")
    healthy(ran)
    (viewer,) = sessions(ran)
    assert viewer["reconnects"][0]["outcome"] == "unaffected", explained(ran)
