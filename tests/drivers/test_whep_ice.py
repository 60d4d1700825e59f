"""The ways media may take: by relays of a real TURN server, directly, by one family of addresses; and what happens when none is
to be had."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from probe.drivers.base import Spec
from probe.drivers.whep import WhepViewer
from probe.drivers.whip import WhipPublisher
from probe.errors import Failure
from probe.model.frames import Reading
from probe.model.stage import Phase, Stage
from probe.net.client import Credential, origin_of
from probe.plan import IceServer
from probe.sandbox.launch import Sandbox
from tests.drivers.rtc_session import Session, publisher, session, viewer
from tests.drivers.signalling import only_family, rogue
from tests.net.servers import Authority
from tests.peers import coturn, pion
from tests.sandbox.clients import on_air, user
from tests.tools import requires_ipv6

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def turn(authority: Authority) -> AsyncIterator[coturn.Coturn]:
    async with coturn.running(certificate=authority.pem("127.0.0.1")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[pion.Pion]:
    """A pion server that our publisher publishes into."""
    async with pion.running() as running, session(running.url) as io:
        async with WhipPublisher().open(publisher(f"{running.url}/whip"), io):
            await io.acknowledged()
            yield running


def relayed(*servers: IceServer, url: str) -> Spec:
    return viewer(url, ice="relay", ice_servers=servers)


async def refusal(io: Session, spec: Spec) -> Failure:
    """How opening it fails, and that it does so within the start's deadline."""
    began = time.monotonic()
    with pytest.raises(Failure) as caught:
        async with WhepViewer().open(spec, io):
            pass
    assert time.monotonic() - began < 5
    return caught.value


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_a_stream_plays_over_a_relay_and_over_nothing_else(
    transport: str, turn: coturn.Coturn, server: pion.Pion, authority: Authority
) -> None:
    async with session(server.url, tls=authority.client()) as io:
        async with WhepViewer().open(relayed(turn.server(transport), url=f"{server.url}/whep"), io):
            frames = await io.frames(20)
        assert {f.reading for f in frames} == {Reading.CODE}
        assert io.facts["ice"].startswith(f"relay/{transport} → ") and io.facts["ice"].endswith(", ipv4")
        assert io.facts["family"] == "ipv4" and io.notes == []
        stages = [piece.stage for piece in io.stages.slices]
        assert stages.index(Stage.ICE) < stages.index(Stage.SIGNAL), "asking the relay is ICE, before the offer too"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_publisher_sends_over_a_relay(transport: str, turn: coturn.Coturn) -> None:
    async with pion.running() as own, session(own.url) as io:
        spec = publisher(f"{own.url}/whip", ice="relay", ice_servers=(turn.server(transport),))
        async with WhipPublisher().open(spec, io):
            await io.acknowledged()
        assert io.facts["ice"].startswith(f"relay/{transport} → ")
        assert (await own.state())["publisher"] == 0


async def test_the_sandbox_plays_over_a_relay(turn: coturn.Coturn) -> None:
    async with Sandbox.start() as sandbox, user(sandbox) as owner:
        room = await owner.room()
        async with on_air(owner, room), user(sandbox, "viewer") as fan, session(sandbox.url) as io:
            credential = Credential(fan.token, frozenset({origin_of(sandbox.url)}))
            url = f"{sandbox.url}/rooms/{room}/whep"
            spec = viewer(url, credential, ice="relay", ice_servers=(turn.server("tcp"),))
            async with WhepViewer().open(spec, io):
                assert {f.reading for f in await io.frames(5)} == {Reading.CODE}
            assert io.facts["ice"].startswith("relay/tcp → ")


async def test_only_relayed_candidates_are_offered_and_our_own_address_stays_with_us(turn: coturn.Coturn) -> None:
    async with rogue() as far, session(far.url) as io:
        async with WhepViewer().open(relayed(turn.server(), url=f"{far.url}/session"), io):
            pass
    candidates = set(re.findall(r"a=candidate:.* typ (.*)\r", far.offers[0]))
    assert candidates == {"relay raddr 0.0.0.0 rport 9"}


async def test_beside_direct_pairs_relays_are_offered_too_and_the_direct_one_is_taken(turn: coturn.Coturn) -> None:
    async with rogue() as far, session(far.url) as io:
        spec = viewer(f"{far.url}/session", ice_servers=(turn.server("udp"), turn.server("tcp"), turn.stun))
        async with WhepViewer().open(spec, io):
            assert io.facts["ice"].startswith("host/udp")
    kinds = re.findall(r"a=candidate:.* typ (\w+)", far.offers[0])
    assert kinds.count("relay") == 4, "two, in each of two sections"
    assert "srflx" not in kinds, "no NAT stands between us and this server"
    assert io.notes == []


async def test_direct_asks_no_turn_server_whoever_names_it(turn: coturn.Coturn) -> None:
    before = turn.allocations()
    link = f'<{turn.url()}>; rel="ice-server"; username="{coturn.USER}"; credential="{coturn.PASSWORD}"'
    async with rogue(headers={"Location": "/session/1", "Link": link}) as far, session(far.url) as io:
        spec = viewer(f"{far.url}/session", ice="direct", ice_servers=(turn.server(), turn.stun))
        async with WhepViewer().open(spec, io):
            assert io.facts["ice"].startswith("host/udp")
        assert "typ relay" not in far.offers[0]
    assert turn.allocations() == before


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_a_relay_that_only_the_answer_names_does_too(
    transport: str, turn: coturn.Coturn, server: pion.Pion, authority: Authority
) -> None:
    named = f'<{turn.url(transport)}>; rel="ice-server"; username="{coturn.USER}"; credential="{coturn.PASSWORD}"'
    async with rogue(headers={"Location": "/session/1", "Link": named}) as far:
        async with session(far.url, tls=authority.client()) as io:
            async with WhepViewer().open(relayed(url=f"{far.url}/session"), io):
                assert io.facts["ice"].startswith(f"relay/{transport} → ")
            assert "a=candidate" not in far.offers[0]


async def test_without_any_relay_there_is_no_candidate() -> None:
    async with rogue() as far, session(far.url) as io:
        failure = await refusal(io, relayed(url=f"{far.url}/session"))
        assert (failure.phase, failure.reason) == (Phase.ICE, "no_candidates") and "names a TURN server" in str(failure)
        assert far.deletes == ["/session/1"]


async def test_a_wrong_password_is_a_refusal_of_its_own_and_is_never_shown(turn: coturn.Coturn) -> None:
    async with rogue() as far, session(far.url) as io:
        spec = relayed(turn.server(password="wr0ng-password"), url=f"{far.url}/session")
        failure = await refusal(io, spec)
        assert (failure.phase, failure.reason) == (Phase.AUTH, "refused"), str(failure)
        assert "wr0ng" not in repr(spec) + str(failure)
        assert far.offers == [], "there was nothing to offer"


async def test_a_relay_that_may_not_reach_the_server_fails_ice_at_once_and_says_so() -> None:
    async with coturn.running(denied_peer_ip="127.0.0.1") as strict, rogue() as far, session(far.url) as io:
        began = time.monotonic()
        failure = await refusal(io, relayed(strict.server(), url=f"{far.url}/session"))
        assert (failure.phase, failure.reason) == (Phase.ICE, "failed") and "403" in str(failure)
        assert time.monotonic() - began < 3


async def test_of_several_relays_the_one_by_udp_is_taken(turn: coturn.Coturn) -> None:
    async with rogue() as far, session(far.url) as io:
        async with WhepViewer().open(relayed(turn.server("tcp"), turn.server("udp"), url=f"{far.url}/session"), io):
            assert io.facts["ice"].startswith("relay/udp")


async def test_one_dead_server_of_several_is_noted_and_the_others_do(turn: coturn.Coturn) -> None:
    async with rogue() as far, session(far.url) as io:
        dead = IceServer(url="turn:127.0.0.1:9?transport=tcp", username="a", credential="b")
        async with WhepViewer().open(relayed(dead, turn.server(), url=f"{far.url}/session"), io):
            assert io.facts["ice"].startswith("relay/udp")
        (note,) = io.notes
        assert "ice/no_candidates" in note and "ECONNREFUSED" in note


@pytest.mark.parametrize("ways", ["relay", "all"])
async def test_a_silent_relay_is_not_waited_for_where_there_is_another_way(ways: str, turn: coturn.Coturn) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as hole:
        hole.bind(("127.0.0.1", 0))
        silent = IceServer(url=f"turn:127.0.0.1:{hole.getsockname()[1]}", username="a", credential="b")
        async with rogue() as far, session(far.url) as io:
            spec = viewer(f"{far.url}/session", ice=ways, ice_servers=(silent, turn.server()))
            async with WhepViewer().open(spec, io):
                assert io.facts["ice"].startswith("relay/udp" if ways == "relay" else "host/udp")
            (note,) = io.notes
            assert "ice/timeout: no answer from 127.0.0.1" in note
            assert io.spent()[Stage.ICE] < (1.2e9 if ways == "relay" else 2.2e9)


async def test_the_first_servers_failure_is_the_one_that_is_told(authority: Authority, turn: coturn.Coturn) -> None:
    async with rogue() as far, session(far.url) as io:
        untrusted, dead = turn.server("tls"), IceServer(url="turn:127.0.0.1:9?transport=tcp", username="a", credential="b")
        failure = await refusal(io, relayed(untrusted, dead, url=f"{far.url}/session"))
        assert (failure.phase, failure.reason) == (Phase.TLS, "untrusted")


async def test_a_turn_server_in_a_private_network_is_refused() -> None:
    async with rogue() as far, session(far.url) as io:
        private = IceServer(url="turn:10.1.2.3", username="a", credential="b")
        failure = await refusal(io, relayed(private, url=f"{far.url}/session"))
        assert (failure.phase, failure.reason) == (Phase.ICE, "address_refused")


async def test_a_silent_stun_server_costs_what_is_said_and_no_more() -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    with contextlib.closing(transport):
        silent = IceServer(url=f"stun:127.0.0.1:{transport.get_extra_info('sockname')[1]}")
        async with rogue() as far, session(far.url) as io:
            async with WhepViewer().open(viewer(f"{far.url}/session", ice_servers=(silent,)), io):
                assert io.facts["ice"].startswith("host/udp")
            assert ["ice/timeout" in note for note in io.notes] == [True]
            assert 1e9 < io.spent()[Stage.ICE] < 3e9


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
async def test_media_goes_by_the_family_that_is_asked_for(family: str) -> None:
    requires_ipv6()
    async with rogue() as far, session(far.url) as io:
        async with WhepViewer().open(viewer(f"{far.url}/session", family=family), io):
            assert (io.facts["ice"], io.facts["family"]) == (f"host/udp → host, {family}", family)
    addresses = re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) ", far.offers[0])
    assert addresses and all((":" in ip) == (family == "ipv6") for ip in addresses)


async def test_an_answer_without_the_family_asked_for_has_no_candidates() -> None:
    requires_ipv6()
    async with rogue(spoil=only_family("ipv4")) as far, session(far.url) as io:
        failure = await refusal(io, viewer(f"{far.url}/session", family="ipv6"))
        assert (failure.phase, failure.reason) == (Phase.ICE, "no_candidates") and "IPv6" in str(failure)


async def test_a_relay_that_goes_away_ends_the_session_and_is_named(server: pion.Pion) -> None:
    async with coturn.running() as mortal, session(server.url) as io:
        async with WhepViewer().open(relayed(mortal.server("tcp"), url=f"{server.url}/whep"), io):
            await io.frames(2)
            mortal.child.stop()
            failure = await io.failure()
        assert (failure.phase, failure.reason) == (Phase.PLAYING, "ended")
        assert "the TURN server 127.0.0.1 (tcp) closed the connection" in str(failure)


async def test_a_path_of_ours_stands_between_us_and_the_relay(turn: coturn.Coturn, server: pion.Pion) -> None:
    for transport in ("udp", "tcp"):
        async with session(server.url, path=True) as io:
            assert io.path is not None
            async with WhepViewer().open(relayed(turn.server(transport), url=f"{server.url}/whep"), io):
                await io.frames(5)
                assert io.facts["ice"].startswith(f"relay/{transport} → ")
                cut = io.path.cut()
                with pytest.raises(TimeoutError):
                    while True:
                        assert (await io.frames(1, deadline=0.5))[0].arrived < cut + 50_000_000
                io.path.restore()
                await io.frames(1)
