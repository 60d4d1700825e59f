"""Viewing by WHEP: from a pion server fed by our own publisher, and from servers that behave badly at every stage."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import cast

import pytest
from aioice.ice import StunProtocol
from aioice.stun import Message

from probe.clock import SystemClock
from probe.drivers.base import SessionIO
from probe.drivers.whep import WhepViewer, _Player
from probe.drivers.whip import WhipPublisher
from probe.errors import Failure, Unsupported
from probe.media.feed import Feed
from probe.model.frames import Reading
from probe.model.stage import Phase, Stage, StageTimer
from probe.net.client import AddressPolicy, Credential, origin_of
from probe.rtc.receiver import UnitReceiver
from tests.drivers.rtc_session import RUN, TRACE, Session, publisher, session, viewer
from tests.drivers.signalling import only_codec, replaced, rogue, to, without, without_payload, without_video
from tests.peers import pion
from tests.tools import wait_until

TRANSPORT = [Stage.CONNECT, Stage.SIGNAL, Stage.ICE, Stage.DTLS, Stage.FIRST_PACKET, Stage.KEYFRAME]


@contextlib.asynccontextmanager
async def live() -> AsyncIterator[pion.Pion]:
    """A pion server that our publisher publishes into."""
    async with pion.running() as server, session(server.url) as io:
        async with WhipPublisher().open(publisher(f"{server.url}/whip"), io):
            await io.acknowledged()
            yield server


async def test_every_frame_from_a_foreign_server_carries_our_code() -> None:
    async with live() as server, session(server.url) as io:
        async with WhepViewer().open(viewer(f"{server.url}/whep"), io):
            frames = await io.frames(45)
        io.stages.finish(frames[0].decoded)
        assert (await server.state())["viewer"] == 0
    assert {f.reading for f in frames} == {Reading.CODE}
    codes = [f.code for f in frames if f.code is not None]
    assert {(c.run, c.trace, c.publish) for c in codes} == {(RUN, TRACE, 3)}
    assert [c.sequence - codes[0].sequence for c in codes] == list(range(45))
    assert frames[0].keyframe and all(f.arrived < f.decoded for f in frames)
    assert [s for s in io.spent() if s is not Stage.PROBE] == TRANSPORT
    assert io.stages.slices[-1].stage is Stage.PROBE, "decoding is the probe's"
    assert sum(io.spent().values()) == io.stages.total == frames[0].decoded - io.stages.intent
    assert io.facts["codec"] == "h264" and io.facts["audio"] == "yes"
    assert io.notes == []


async def test_joining_asks_the_publisher_for_a_keyframe() -> None:
    async with live() as server, session(server.url) as io:
        before = (await server.state())["plis"]
        async with WhepViewer().open(viewer(f"{server.url}/whep"), io):
            await io.frames(1)
        assert before <= (await server.state())["plis"] <= before + 1, "one at most: a keyframe comes within its repeat"


async def test_the_servers_goodbye_ends_the_feed() -> None:
    async with live() as server, session(server.url) as io:
        async with WhepViewer().open(viewer(f"{server.url}/whep"), io):
            await io.frames(1)
            await server.kick()
            failure = await io.failure()
        assert (failure.phase, failure.reason) == (Phase.PLAYING, "ended")
        assert io.notes == [], "that a session the server ended is gone already is no news"


async def test_a_path_of_ours_carries_everything_and_can_be_cut() -> None:
    async with live() as server, session(server.url, path=True) as io:
        assert io.path is not None
        async with WhepViewer().open(viewer(f"{server.url}/whep"), io):
            await io.frames(10)
            assert io.path.down.packets > 10 and io.path.connections >= 1
            cut = io.path.cut()
            with pytest.raises(TimeoutError):
                while True:
                    assert (await io.frames(1, deadline=0.5))[0].arrived < cut + 50_000_000
            restored = io.path.restore()
            assert (await io.frames(1))[0].arrived >= restored


async def test_media_that_comes_before_we_looked_was_not_waited_for_and_its_keyframe_is() -> None:
    clock = SystemClock()
    io = SimpleNamespace(clock=clock, feed=Feed(clock), stages=StageTimer(clock.now()))
    player = _Player(cast(SessionIO, io), cast(UnitReceiver, SimpleNamespace(ask_keyframe=lambda: None)))
    io.stages.enter(Stage.DTLS, clock.now())
    player.first_packet(clock.now())
    player.ready()
    assert io.stages.current is Stage.KEYFRAME
    assert [piece.stage for piece in io.stages.slices] == [Stage.PROBE, Stage.DTLS, Stage.FIRST_PACKET]


async def test_nobody_publishing_is_the_servers_404_with_what_it_said() -> None:
    async with pion.running() as server, session(server.url) as io:
        with pytest.raises(Failure) as caught:
            async with WhepViewer().open(viewer(f"{server.url}/whep"), io):
                pass
        assert (caught.value.phase, caught.value.reason) == (Phase.SIGNAL, "http_404")
        assert "nobody publishes" in str(caught.value)


async def test_a_closed_port_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    async with session(url) as io:
        with pytest.raises(Failure) as caught:
            async with WhepViewer().open(viewer(url), io):
                pass
    assert (caught.value.phase, caught.value.reason) == (Phase.CONNECT, "refused")


BAD_ANSWERS: dict[str, tuple[dict[str, object], Phase, str]] = {
    "html": ({"body": b"<!doctype html><h1>It works</h1>", "content_type": "text/html"}, Phase.SIGNAL, "not_sdp"),
    "empty": ({"body": b""}, Phase.SIGNAL, "not_sdp"),
    "binary": ({"body": bytes(range(256)) * 8}, Phase.SIGNAL, "not_sdp"),
    "lines that are none": ({"body": b"v=0\r\n" + b"\x00 no SDP \r\n" * 20}, Phase.SIGNAL, "not_sdp"),
    "too many lines": ({"body": b"v=0\r\n" + b"a=x\r\n" * 3000}, Phase.SIGNAL, "not_sdp"),
    "65 KiB": ({"body": b"v=0\r\n" + b"a=" + b"x" * 66_000}, Phase.SIGNAL, "too_large"),
    "no video": ({"spoil": without_video}, Phase.SIGNAL, "no_video"),
    "inactive video": ({"spoil": replaced(r"^a=sendonly", "a=inactive")}, Phase.SIGNAL, "no_video"),
    "setup:actpass": ({"spoil": replaced(r"^a=setup:\w+", "a=setup:actpass")}, Phase.SIGNAL, "sdp_rejected"),
    "no fingerprint": ({"spoil": without("a=fingerprint")}, Phase.SIGNAL, "sdp_rejected"),
    "no ICE credentials": ({"spoil": without("a=ice-pwd")}, Phase.SIGNAL, "sdp_rejected"),
    "no rtcp-mux": ({"spoil": without("a=rtcp-mux")}, Phase.SIGNAL, "sdp_rejected"),
    "a section too many": ({"spoil": lambda sdp: sdp + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"}, Phase.SIGNAL, "sdp_rejected"),
    "numbers that are none": ({"spoil": replaced(r"^a=rtpmap:\d+ ", "a=rtpmap:many ")}, Phase.SIGNAL, "sdp_rejected"),
    "no candidates": ({"spoil": without("a=candidate")}, Phase.ICE, "no_candidates"),
    "candidates that are names": ({"spoil": to("media.internal")}, Phase.ICE, "no_candidates"),
    "a cloud's metadata": ({"spoil": to("169.254.169.254")}, Phase.ICE, "address_refused"),
    "a private network": ({"spoil": to("10.1.2.3")}, Phase.ICE, "address_refused"),
    "202": ({"status": 202, "body": b"later"}, Phase.SIGNAL, "protocol"),
    "401": ({"status": 401}, Phase.AUTH, "http_401"),
    "403": ({"status": 403}, Phase.AUTH, "http_403"),
    "406": ({"status": 406}, Phase.SIGNAL, "http_406"),
    "503": ({"status": 503, "body": b"full", "content_type": "text/plain"}, Phase.SIGNAL, "http_503"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_a_bad_answer_fails_for_its_own_reason(name: str) -> None:
    behaviour, phase, reason = BAD_ANSWERS[name]
    async with rogue(**behaviour) as server, session(server.url) as io:
        with pytest.raises(Failure) as caught:
            async with WhepViewer().open(viewer(f"{server.url}/session"), io):
                pass
        assert (caught.value.phase, caught.value.reason) == (phase, reason), str(caught.value)
        # What was created is ended again, unless the server never said that it had created anything.
        created = server.status == 201 and reason != "too_large"
        assert server.deletes == (["/session/1"] if created else [])


UNSUPPORTED: dict[str, tuple[Callable[[str], str], str]] = {
    "High only": (replaced(r"profile-level-id=[0-9a-f]{6}", "profile-level-id=640c1f"), "answered H264 640c1f"),
    "VP9 only": (only_codec("VP9"), "answered VP9"),
    "no payload": (without_payload, "has no codec"),
    "SHA-1 only": (replaced(r"^a=fingerprint:\S+", "a=fingerprint:sha-1"), "sha-1"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
async def test_what_we_cannot_negotiate_is_unsupported_and_says_what_was_offered(name: str) -> None:
    spoil, says = UNSUPPORTED[name]
    async with rogue(spoil=spoil) as server, session(server.url) as io:
        with pytest.raises(Unsupported, match=says) as caught:
            async with WhepViewer().open(viewer(f"{server.url}/session"), io):
                pass
        if "fingerprint" not in str(caught.value):
            assert "offered" in str(caught.value) and "H264" in str(caught.value)


LOCATIONS = {
    "relative": ("session/7", "/session/7"),
    "absolute path": ("/a/b", "/a/b"),
    "with a query": ("/s?token=x&id=1", "/s?token=x&id=1"),
}


@pytest.mark.parametrize("name", LOCATIONS)
async def test_the_session_is_deleted_where_location_says(name: str) -> None:
    location, deleted = LOCATIONS[name]
    async with rogue(headers={"Location": location}) as server, session(server.url) as io:
        async with WhepViewer().open(viewer(f"{server.url}/session"), io):
            pass
        assert server.deletes == [deleted]
        assert io.notes == []


async def test_a_server_without_location_or_201_is_lived_with_and_noted() -> None:
    async with rogue(status=200, headers={}) as server, session(server.url) as io:
        async with WhepViewer().open(viewer(f"{server.url}/session"), io):
            pass
        assert server.deletes == []
        assert len(io.notes) == 2 and "200" in io.notes[0] and "Location" in io.notes[1]


@pytest.mark.parametrize("status", [404, 405, 501, 500])
async def test_a_refused_delete_is_survived_and_noted(status: int) -> None:
    async with rogue(delete_status=status) as server, session(server.url) as io:
        async with WhepViewer().open(viewer(f"{server.url}/session"), io):
            pass
        (note,) = io.notes
        assert f"http_{status}" in note


async def test_the_token_follows_a_redirect_within_its_origin_and_no_further() -> None:
    async with rogue() as near, rogue() as far:
        credential = Credential("s3cret-token", frozenset({origin_of(near.url)}))
        for server, seen in ((near, "Bearer s3cret-token"), (far, None)):
            near.redirect = f"{server.url}/elsewhere"
            async with session(near.url, far.url) as io:
                async with WhepViewer().open(viewer(f"{near.url}/session", credential), io):
                    pass
                assert server.authorizations[-1] == seen
                assert "s3cret" not in repr(io.requests)


async def test_loopback_candidates_need_to_be_asked_for() -> None:
    async with rogue() as server, session(allow=AddressPolicy.of("localhost")) as io:
        url = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(Failure) as caught:
            async with WhepViewer().open(viewer(f"{url}/session", loopback=False), io):
                pass
        assert (caught.value.phase, caught.value.reason) == (Phase.ICE, "address_refused")


def turn_link(port: int, host: str = "127.0.0.1") -> dict[str, str]:
    server = (
        f'<turn:{host}:{port}?transport=udp>; rel="ice-server"; username="probe"; credential="relay"; credential-type="password"'
    )
    return {"Location": "/session/1", "Link": server}


async def test_a_turn_server_of_the_answer_carries_what_goes_no_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    send = StunProtocol.send_stun

    def no_direct_way(self: StunProtocol, message: Message, addr: tuple[str, int]) -> None:
        if not (self.local_candidate.type == "host" and self.receiver.ice_controlling):
            send(self, message, addr)

    async with pion.running() as relay, rogue(headers=turn_link(relay.turn)) as server, session(server.url) as io:
        monkeypatch.setattr(StunProtocol, "send_stun", no_direct_way)
        async with asyncio.timeout(5), WhepViewer().open(viewer(f"{server.url}/session"), io):
            assert io.stage() is Stage.FIRST_PACKET
        assert io.facts["ice"].startswith("relay/") and io.notes == []


async def test_a_turn_server_in_a_private_network_is_left_out_and_noted() -> None:
    hole, into_hole = black_hole()
    with hole:
        async with rogue(spoil=into_hole, headers=turn_link(3478, "10.1.2.3")) as server, session(server.url) as io:
            task = asyncio.create_task(_stay(f"{server.url}/session", io))
            await wait_until(lambda: io.notes, what="the note")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert "address_refused" in io.notes[0] and "relay" not in io.notes[0]


async def test_a_dead_turn_server_holds_up_neither_the_start_nor_the_end() -> None:
    hole, _ = black_hole()
    with hole:
        async with rogue(headers=turn_link(hole.getsockname()[1])) as server, session(server.url) as io:
            began = time.monotonic()
            async with WhepViewer().open(viewer(f"{server.url}/session"), io):
                assert io.facts["ice"].startswith("host/")
            assert time.monotonic() - began < 1.5 and io.notes == []


def black_hole() -> tuple[socket.socket, Callable[[str], str]]:
    """A socket that never answers, and answers that name it."""
    hole = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    hole.bind(("127.0.0.1", 0))
    port = hole.getsockname()[1]
    return hole, lambda sdp: to("127.0.0.1", port)(replaced(r"^a=ice-pwd:.*\r$", "a=ice-pwd:" + "x" * 22 + "\r")(sdp))


async def _stay(url: str, io: Session) -> None:
    async with WhepViewer().open(viewer(url), io):
        await asyncio.Event().wait()


async def _cancelled_in(stage: Stage, io: Session, url: str) -> float:
    """Open, wait for `stage`, cancel; seconds that ending took."""

    task = asyncio.create_task(_stay(url, io))
    await wait_until(lambda: io.stage() is stage or task.done(), what=f"stage {stage}")
    assert not task.done(), task
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return time.monotonic() - began


@pytest.mark.parametrize("stage", [Stage.SIGNAL, Stage.ICE, Stage.DTLS, Stage.FIRST_PACKET])
async def test_cancelled_while_a_server_hangs_nothing_is_left(stage: Stage) -> None:
    hole, into_hole = black_hole()
    behaviour: dict[Stage, dict[str, object]] = {
        Stage.SIGNAL: {"hang": True},
        Stage.ICE: {"spoil": into_hole},
        Stage.DTLS: {"deaf": True},
        Stage.FIRST_PACKET: {},
    }
    with hole:
        async with rogue(**behaviour[stage]) as server, session(server.url) as io:
            assert await _cancelled_in(stage, io, f"{server.url}/session") < 1.5
            assert server.deletes == ([] if stage is Stage.SIGNAL else ["/session/1"])
            assert io.feed.closed or stage is Stage.SIGNAL


async def test_cancelled_while_playing_nothing_is_left() -> None:
    async with live() as server, session(server.url) as io:
        task = asyncio.create_task(_stay(f"{server.url}/whep", io))
        await io.frames(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await server.state())["viewer"] == 0
