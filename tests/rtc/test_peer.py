"""Peers over real sockets: what is sent arrives whole, losses are mended or asked about, and nothing outlives a close."""

from __future__ import annotations

import asyncio
import statistics
import time
from fractions import Fraction

import pytest
from aiortc import RTCSessionDescription
from aiortc.rtp import RTCP_PSFB_FIR, RtcpPsfbPacket

from probe.rtc.dtls import Certificate
from probe.rtc.peer import Link, new_peer, prefer
from probe.rtc.receiver import request_keyframe
from probe.rtc.sender import Report, UnitTrack, on_keyframe_request, on_report
from tests.rtc.pair import Pair, pair
from tests.tools import steady, wait_until


def sequence(data: bytes) -> int:
    return int.from_bytes(data[2:4], "big")


async def test_units_arrive_as_they_were_sent() -> None:
    async with pair() as two:
        await two.send(20)
        await wait_until(lambda: len(two.units) == 20, what="20 units")
        assert [u.timestamp - two.units[0].timestamp for u in two.units] == [3000 * i for i in range(20)]
        assert two.units[0].keyframe and not two.units[1].keyframe
        assert all(u.first_arrived <= u.last_arrived for u in two.units)
        assert two.first_packets == [two.units[0].first_arrived]
        counts = two.receiver.counts
        assert (counts.lost, counts.nacks, counts.plis, counts.garbage) == (0, 0, 0, 0)
        assert counts.packets == two.sender.packets and counts.bytes == two.sender.bytes
        assert str(two.client.selected) == "host/udp → host, ipv4"
        assert two.links == [Link.ICE_UP, Link.UP]


async def test_lost_packets_are_asked_for_again_and_mended() -> None:
    async with pair() as two:
        seen: set[int] = set()

        def every_seventh_once(data: bytes) -> bool:
            number = sequence(data)
            beginning, first = not seen, number not in seen
            seen.add(number)
            # Of a packet before the first that came nobody knows, so nobody asks for it: that takes a keyframe, not a NACK.
            return first and not beginning and number % 7 == 0

        two.lose(every_seventh_once)
        await two.send(60)
        await wait_until(lambda: len(two.units) >= 58, what="the units")
        assert two.receiver.counts.lost == 0 and two.receiver.counts.nacks > 5
        steps = {b.timestamp - a.timestamp for a, b in zip(two.units, two.units[1:], strict=False)}
        assert steps == {3000}


async def test_a_loss_that_cannot_be_mended_is_asked_about_and_playing_resumes_at_a_keyframe() -> None:
    async with pair() as two:
        asked = asyncio.Event()
        on_keyframe_request(two.sender, asked.set)
        await two.send(5, every=1000)
        await wait_until(lambda: len(two.units) == 5)
        dead: set[int] = set()

        def one_for_good(data: bytes) -> bool:
            """One packet, and every retransmission."""
            if not dead:
                dead.add(sequence(data))
            return sequence(data) in dead or data[1] & 0x7F in _rtx_types(two)

        two.lose(one_for_good)
        sending = asyncio.create_task(two.send(200, every=1000))
        try:
            async with asyncio.timeout(5):
                await asked.wait()
            assert len(two.units) == 5, "nothing that builds on what is lost"
        finally:
            sending.cancel()
            await asyncio.wait([sending])
        two.sent = 3000  # a multiple of `every`: the keyframe that was asked for
        await two.send(3, every=1000)
        await wait_until(lambda: len(two.units) >= 7, what="units after the keyframe")
        assert two.units[5].keyframe and two.units[5].lost_before >= 1
        assert two.receiver.counts.plis >= 1


def _rtx_types(two: Pair) -> set[int]:
    return {number for number, codec in two.receiver._codecs.items() if codec.name.lower() == "rtx"}


async def test_joining_between_keyframes_asks_for_one_and_asks_again() -> None:
    async with pair() as two:
        asked: list[float] = []
        on_keyframe_request(two.sender, lambda: asked.append(time.monotonic()))
        two.sent = 1
        await two.send(130, every=1_000_000, pause=0.01)
        await wait_until(lambda: len(asked) >= 2, what="a second request")
        assert two.units == [] and asked[1] - asked[0] > 0.4, "not one per frame"


async def test_requests_for_keyframes_are_rate_limited() -> None:
    async with pair() as two:
        asked: list[None] = []
        on_keyframe_request(two.sender, lambda: asked.append(None))
        await two.send(3)
        for _ in range(50):
            request_keyframe(two.receiver)
        await two.send(10)
        assert len(asked) <= 1 and two.receiver.counts.plis <= 1


async def test_a_fir_reaches_the_sender() -> None:
    async with pair() as two:
        asked = asyncio.Event()
        on_keyframe_request(two.sender, asked.set)
        entry = two.sender._ssrc.to_bytes(4, "big") + bytes([1, 0, 0, 0])
        two.receiver._secure.send_rtcp_now(RtcpPsfbPacket(fmt=RTCP_PSFB_FIR, ssrc=1, media_ssrc=0, fci=entry))
        async with asyncio.timeout(2):
            await asked.wait()


async def test_reports_acknowledge_what_arrived_and_the_first_comes_at_once() -> None:
    async with pair() as two:
        reports: list[tuple[float, Report]] = []
        on_report(two.sender, lambda report: reports.append((time.monotonic(), report)))
        await two.send(1)
        began = time.monotonic()
        await wait_until(lambda: reports, what="a report")
        assert reports[0][0] - began < 0.4, "not after the usual second"
        assert 0 < reports[0][1].received <= two.sender.packets
        await two.send(30)
        await wait_until(lambda: reports[-1][1].received > reports[0][1].received, what="a report of more")


async def test_garbage_from_an_authenticated_peer_is_counted_and_survived() -> None:
    async with pair() as two:
        await two.send(2)
        transport = two.server._secures[0]
        rubbish = (b"", b"\x1c", b"\x7f\x00\x00", bytes([24, 0xFF, 0xFF, 1]), bytes([28]), bytes(1200))
        for number, payload in enumerate(rubbish):
            head = bytes([0x80, 0x80 | _payload_type(two)]) + (40_000 + number).to_bytes(2, "big")
            packet = head + bytes(4) + (77).to_bytes(4, "big") + payload
            transport.agent.send_now(transport._tx_srtp.protect(packet))
        for rtcp in (b"\x81\xc9\x00\x01" + bytes(4), b"\x80\xc8\x00\x06" + bytes(24), b"\xa1\xce\x00\x02" + bytes(8)):
            transport.agent.send_now(transport._tx_srtp.protect_rtcp(rtcp))
        await two.send(10)
        assert two.client.connectionState == "connected"
        assert two.receiver.counts.garbage > 0


def _payload_type(two: Pair) -> int:
    return next(number for number, codec in two.receiver._codecs.items() if codec.name == "H264")


async def test_strangers_fill_no_queue_and_no_table() -> None:
    async with pair() as two:
        secure = two.receiver._secure
        for ssrc in range(500):
            secure.agent.data_received(bytes([0x80, 0x60]) + bytes(6) + ssrc.to_bytes(4, "big") + bytes(30), 1)
        assert len(secure._ssrcs) <= 1 and secure.garbage >= 500
        for _ in range(5000):
            secure.agent.data_received(b"\x16" + bytes(40), 1)
        assert secure.agent._queue.qsize() <= 256


async def test_a_goodbye_is_told_as_an_end() -> None:
    async with pair() as two:
        await two.server.close()
        await wait_until(lambda: Link.ENDED in two.links, what="the end")
        assert two.client.ended


async def test_close_is_bounded_when_the_far_side_is_gone() -> None:
    async with pair() as two:
        await two.send(2)
        for secure in two.server._secures:
            secure.agent.abort()
        began = time.monotonic()
        await two.client.close()
        assert time.monotonic() - began < 1.2


async def test_one_that_has_no_time_to_close_politely_leaves_no_task_either(monkeypatch: pytest.MonkeyPatch) -> None:
    before = asyncio.all_tasks()
    async with pair() as two:
        monkeypatch.setattr("probe.rtc.peer.CLOSE", 0.0)
        async with asyncio.TaskGroup() as group:  # as upstream, on a transport that failed, closes beside us
            group.create_task(two.client.close())
            group.create_task(two.client.close())
        await two.server.close()
        await wait_until(lambda: asyncio.all_tasks() == before)


async def test_close_in_the_middle_of_ice_leaves_nothing() -> None:
    async with pair(connect=False) as two:
        offer = await two.client.offer()
        answer = offer.replace("a=setup:actpass", "a=setup:active").replace("a=recvonly", "a=sendonly")
        await two.client.accept(answer)  # its own addresses, with credentials nobody answers to
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await two.client.close()
        assert time.monotonic() - began < 0.5


async def test_an_offer_holds_what_we_take_and_no_more() -> None:
    async with pair(connect=False) as two:
        prefer(two.client.addTransceiver("audio", direction="recvonly"), "opus")
        offer = await two.client.offer()
        assert [line.split()[1] for line in offer.splitlines() if line.startswith("a=rtpmap") and "rtx" not in line] == [
            "H264/90000",
            "H264/90000",
            "VP8/90000",
            "opus/48000/2",
        ]
        assert offer.index("42e01f") < offer.index("42001f")
        assert "goog-remb" not in offer and "abs-send-time" not in offer
        assert "127.0.0.1" in offer and "a=end-of-candidates" in offer
        assert len(two.client._secures) == 1, "one transport for all media"


async def test_loopback_is_gathered_only_where_asked() -> None:
    peer = new_peer(loopback=False)
    try:
        peer.addTransceiver("video", direction="recvonly")
        assert "127.0.0.1" not in await peer.offer()
        assert peer._secures[0].agent.stun_server is None
    finally:
        await peer.close()


async def test_a_track_nobody_reads_takes_nothing_and_a_slow_one_resumes_at_a_keyframe() -> None:
    track = UnitTrack("video", limit=3)
    base = Fraction(1, 90_000)
    assert not track.push(b"x", 0, base, True)
    reading = asyncio.create_task(track.recv())
    await asyncio.sleep(0)
    assert track.push(b"key", 0, base, True)
    assert bytes(await reading) == b"key"
    for n in range(3):
        assert track.push(b"a", n, base, False)
    assert not track.push(b"b", 3, base, False), "full: nothing but a keyframe now"
    assert not track.push(b"b", 4, base, False)
    assert track.push(b"next", 5, base, True)
    assert bytes(await track.recv()) == b"next" and track.dropped == 5
    track.stop()


@pytest.mark.timing
async def test_ice_takes_less_than_the_sleep_upstream_begins_with() -> None:
    took = []
    async with pair():
        pass  # what the first of a process imports and makes is not timed
    async with steady(0.1):
        for _ in range(7):
            async with pair(connect=False) as two:
                marks: dict[Link, float] = {}
                two.client.on_link = lambda link, marks=marks: marks.setdefault(link, time.monotonic())
                began = time.monotonic()
                await two.connect()
                took.append(marks[Link.ICE_UP] - began)
    assert statistics.median(took) < 0.040, f"offer, answer and ICE: {took}"


async def test_what_breaks_on_our_side_of_connecting_is_told_and_blames_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the system refuses pyOpenSSL memory that can be written and run."""

    def refused(*_: object, **__: object) -> None:
        raise MemoryError("no memory for a callback")

    async with pair(connect=False) as two:
        monkeypatch.setattr(Certificate, "_create_ssl_context", refused)
        await two.server.setRemoteDescription(RTCSessionDescription(sdp=await two.client.offer(), type="offer"))
        await two.server.setLocalDescription(await two.server.createAnswer())
        await two.client.accept(two.server.localDescription.sdp)
        async with asyncio.timeout(5):
            assert await two.client.up() is Link.BROKEN
        assert isinstance(two.client.bug, MemoryError)
        assert await two.client.up() is Link.BROKEN
