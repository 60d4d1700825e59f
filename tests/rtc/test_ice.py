"""ICE where checks are lost before the other side is ready for them: no session may wait for a retransmission."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import aioice.stun
import pytest
from aioice.candidate import Candidate
from aioice.ice import CandidatePair, Connection
from aioice.stun import Class, Message, Method

from probe.link.path import Path
from probe.rtc.answering import answer
from probe.rtc.ice import Agent, Reach
from probe.rtc.peer import Link
from probe.rtc.relay import relay_answer, relay_offer
from tests.rtc.pair import CLOCK, pair
from tests.tools import wait_until

NEVER = 3600.0  # s; a check that is lost is not repeated by a timer within any test


@pytest.fixture(autouse=True)
def _no_retransmission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.stun, "RETRY_RTO", NEVER)


async def test_checks_lost_before_the_offerer_had_the_answer_cost_no_retransmission() -> None:
    async with Path(CLOCK) as path, pair(connect=False) as two:
        sdp = await answer(two.server, await relay_offer(await two.client.offer(), path))
        agent = two.server._secures[0].agent

        def all_sent() -> bool:
            return bool(agent._check_list) and all(p.state is CandidatePair.State.IN_PROGRESS for p in agent._check_list)

        await wait_until(all_sent, what="the server's first checks")
        await wait_until(lambda: path.down.stray, what="a check at the relay, which does not know its sender yet")
        await two.client.accept(await relay_answer(sdp, path))
        async with asyncio.timeout(5):
            assert await two.client.up() is Link.UP and await two.server.up() is Link.UP


async def test_two_sides_whose_answers_are_lost_do_not_keep_each_other_busy() -> None:
    agent = Agent.adopt(Connection(ice_controlling=False), Reach(loopback=True))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far, contextlib.ExitStack() as stack:
        far.setblocking(False)
        far.bind(("127.0.0.1", 0))
        await agent.gather_candidates()
        ours = next(c for c in agent.local_candidates if c.host == "127.0.0.1")
        agent.remote_username, agent.remote_password = "far", "p" * 22
        await agent.add_remote_candidate(Candidate("1", 1, "udp", 1, "127.0.0.1", far.getsockname()[1], "host"))
        await agent.add_remote_candidate(None)
        connecting = asyncio.create_task(agent.connect())
        stack.callback(connecting.cancel)
        loop = asyncio.get_running_loop()
        requests: list[bytes] = []

        async def heard(wanted: Class) -> None:
            while True:
                data, source = await loop.sock_recvfrom(far, 2048)
                message = aioice.stun.parse_message(data)
                if message.message_class is Class.REQUEST and source[1] == ours.port:
                    requests.append(message.transaction_id)
                if message.message_class is wanted and source[1] == ours.port:
                    return

        async with asyncio.timeout(5):
            await heard(Class.REQUEST)
            for _ in range(20):
                check = Message(message_method=Method.BINDING, message_class=Class.REQUEST)
                check.attributes["USERNAME"] = f"{agent.local_username}:far"
                check.attributes["PRIORITY"] = 1
                check.attributes["ICE-CONTROLLING"] = 1
                check.add_message_integrity(agent.local_password.encode())
                await loop.sock_sendto(far, bytes(check), (ours.host, ours.port))
                await heard(Class.RESPONSE)
        await agent.close()
        with pytest.raises(ConnectionError):
            await connecting
        assert len(requests) == 2 and len(set(requests)) == 1, "one check, sent again once"
