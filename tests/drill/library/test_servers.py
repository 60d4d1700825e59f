"""The first drill of the library, against a real server whose process is ended and brought back by its supervisor."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.drill.core.facts import Did, FaultDid, Verdict
from tests.drill.library.servers import on_node_media_server


@pytest.mark.timeout(90)
async def test_a_real_server_is_brought_back_by_its_supervisor_and_viewers_return(tmp_path: Path) -> None:
    done = await on_node_media_server(tmp_path, ("http-flv", "rtmp"))
    assert done.ended.verdict is Verdict.PASS, done.ended.reason
    did = [fact.did for fact in done.facts if isinstance(fact, FaultDid)]
    assert did[-1] is Did.SEEN_RESTORED
    assert Did.SEEN_INJECTED in did
    assert not done.ended.left
