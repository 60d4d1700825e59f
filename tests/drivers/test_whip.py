"""Publishing by WHIP, into a pion server and into servers that behave badly."""

from __future__ import annotations

import asyncio
import time

import pytest

from probe.drivers.whep import WhepViewer
from probe.drivers.whip import WhipPublisher
from probe.errors import Failure, Unsupported
from probe.model.frames import PublishRecord
from probe.model.stage import Phase, Stage
from probe.net.client import Credential, origin_of
from tests.drivers.rtc_session import publisher, session, viewer
from tests.drivers.signalling import only_codec, replaced, rogue, without, without_video
from tests.peers import pion
from tests.tools import wait_until


async def test_publishes_until_the_server_has_acknowledged_media() -> None:
    async with pion.running() as server, session(server.url) as io:
        async with WhipPublisher().open(publisher(f"{server.url}/whip"), io):
            assert io.stage() is Stage.PROBE, "the programme has released nothing yet"
            record = await io.acknowledged()
            assert io.stage() is Stage.ACK
            assert record.frames > 0 and record.bytes > 0 and record.last_ack is not None
            assert (await server.state())["publisher"] == 1
        assert (await server.state())["publisher"] == 0
        assert [s for s in io.spent() if s is not Stage.PROBE] == [Stage.CONNECT, Stage.SIGNAL, Stage.ICE, Stage.DTLS]
        assert io.facts["codec"] == "h264" and io.facts["ice"].startswith("host/")
        assert io.notes == []


async def test_acknowledgements_go_on_and_counts_grow() -> None:
    async with pion.running() as server, session(server.url) as io:
        async with WhipPublisher().open(publisher(f"{server.url}/whip"), io):
            first = await io.acknowledged()
            async with asyncio.timeout(5):
                while True:
                    later = await io.get()
                    if isinstance(later, PublishRecord) and later.last_ack != first.last_ack:
                        break
        assert later.last_ack is not None and first.last_ack is not None and later.last_ack > first.last_ack
        assert later.frames > first.frames and later.bytes > first.bytes


async def test_a_silent_programme_without_sound_is_published_too() -> None:
    async with pion.running() as server, session(server.url) as io:
        async with WhipPublisher().open(publisher(f"{server.url}/whip", audio=False), io):
            await io.acknowledged()
        assert io.facts["audio"] == "no"


async def test_the_servers_goodbye_ends_the_feed() -> None:
    async with pion.running() as server, session(server.url) as io:
        async with WhipPublisher().open(publisher(f"{server.url}/whip"), io):
            await io.acknowledged()
            await server.kick()
            failure = await io.failure()
            assert (failure.phase, failure.reason) == (Phase.PLAYING, "ended")
        assert io.notes == []


async def test_media_that_nobody_reports_is_never_acknowledged() -> None:
    async with rogue() as server, session(server.url) as io:
        async with WhipPublisher().open(publisher(f"{server.url}/session"), io):
            record = await io.get()
            assert isinstance(record, PublishRecord)
            assert record.frames > 0 and not record.acknowledged and record.last_ack is None
            assert io.stage() is Stage.ACK


BAD_ANSWERS: dict[str, tuple[dict[str, object], Phase, str]] = {
    "html": ({"body": b"<html></html>", "content_type": "text/html"}, Phase.SIGNAL, "not_sdp"),
    "no video": ({"spoil": without_video}, Phase.SIGNAL, "no_video"),
    "takes no video": ({"spoil": replaced(r"^a=recvonly", "a=inactive")}, Phase.SIGNAL, "no_video"),
    "setup:actpass": ({"spoil": replaced(r"^a=setup:\w+", "a=setup:actpass")}, Phase.SIGNAL, "sdp_rejected"),
    "no candidates": ({"spoil": without("a=candidate")}, Phase.ICE, "no_candidates"),
    "401": ({"status": 401}, Phase.AUTH, "http_401"),
    "409": ({"status": 409, "body": b"somebody publishes already", "content_type": "text/plain"}, Phase.SIGNAL, "http_409"),
    "500": ({"status": 500}, Phase.SIGNAL, "http_500"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_a_bad_answer_fails_for_its_own_reason(name: str) -> None:
    behaviour, phase, reason = BAD_ANSWERS[name]
    async with rogue(**behaviour) as server, session(server.url) as io:
        with pytest.raises(Failure) as caught:
            async with WhipPublisher().open(publisher(f"{server.url}/session"), io):
                pass
        assert (caught.value.phase, caught.value.reason) == (phase, reason), str(caught.value)
        assert server.deletes == (["/session/1"] if server.status == 201 else [])


async def test_a_server_that_takes_another_codec_only_is_unsupported() -> None:
    async with rogue(spoil=only_codec("VP9")) as server, session(server.url) as io:
        with pytest.raises(Unsupported, match="offered H264 42e01f.* answered VP9"):
            async with WhipPublisher().open(publisher(f"{server.url}/session"), io):
                pass


async def test_a_programme_in_vp8_is_offered_as_such_and_acknowledged() -> None:
    async with pion.running() as server, session(server.url) as io:
        async with WhipPublisher().open(publisher(f"{server.url}/whip", codec="vp8"), io):
            record = await io.acknowledged()
            assert record.frames > 0
        assert io.facts["codec"] == "vp8"


async def test_a_server_without_vp8_makes_a_programme_in_vp8_unsupported() -> None:
    async with rogue(spoil=replaced(r"VP8/", "VP9/")) as server, session(server.url) as io:
        with pytest.raises(Unsupported, match="offered VP8"):
            async with WhipPublisher().open(publisher(f"{server.url}/session", codec="vp8"), io):
                pass


async def test_a_viewer_that_joins_makes_the_loop_jump_to_a_keyframe_and_sees_it_intact() -> None:
    async with pion.running() as server, session(server.url) as sender, session(server.url) as io:
        async with WhipPublisher().open(publisher(f"{server.url}/whip", programme="portrait30"), sender):
            await sender.acknowledged()
            async with WhepViewer().open(viewer(f"{server.url}/whep"), io):
                frames = await io.frames(60)
    assert {(frame.width, frame.height) for frame in frames} == {(360, 640)}
    assert [frame.intact for frame in frames].count(True) >= 50
    assert False not in [frame.intact for frame in frames]


async def test_the_token_is_sent_with_the_offer() -> None:
    async with rogue() as server, session(server.url) as io:
        credential = Credential("s3cret-token", frozenset({origin_of(server.url)}))
        async with WhipPublisher().open(publisher(f"{server.url}/session", credential), io):
            pass
        assert server.authorizations == ["Bearer s3cret-token"]
        assert "s3cret" not in repr(io.requests) + repr(io.notes)


STAGES: dict[Stage, dict[str, object]] = {
    Stage.SIGNAL: {"hang": True},
    Stage.DTLS: {"deaf": True},
    Stage.ACK: {},
}


@pytest.mark.parametrize("stage", STAGES)
async def test_cancelled_while_a_server_hangs_nothing_is_left(stage: Stage) -> None:
    async with rogue(**STAGES[stage]) as server, session(server.url) as io:

        async def stay() -> None:
            async with WhipPublisher().open(publisher(f"{server.url}/session"), io):
                await asyncio.Event().wait()

        task = asyncio.create_task(stay())
        await wait_until(lambda: io.stage() is stage or task.done(), what=f"stage {stage}")
        assert not task.done(), task
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 1.5
        assert server.deletes == ([] if stage is Stage.SIGNAL else ["/session/1"])


async def test_a_path_of_ours_carries_the_publisher_too() -> None:
    async with pion.running() as server, session(server.url, path=True) as io:
        assert io.path is not None
        async with WhipPublisher().open(publisher(f"{server.url}/whip"), io):
            await io.acknowledged()
            assert io.path.up.packets > 20
