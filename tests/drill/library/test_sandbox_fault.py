"""The embedded platform is broken by its own switchboard: seen from outside, put back by anybody, never believed on its word."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from unittest.mock import patch

import aiohttp
import pytest

from probe.cli.serve import environment
from probe.drill.faults.base import Klass, NotUndone, State
from probe.sandbox.launch import Sandbox
from tests.drill.host.tools import Course, prepared, refusal
from tests.tools import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEEN_OUTSIDE: list[dict[str, Any]] = [
    {"fault": "refuse", "service": "gift", "status": 503},
    {"fault": "refuse", "service": "whep", "status": 404},
    {"fault": "down", "service": "chat"},
    {"fault": "delay", "service": "auth", "seconds": 2},
    {"fault": "hang", "service": "room"},
    {"fault": "edge_down", "edge": "edge-a"},
    {"fault": "edge_refuses", "edge": "edge-b"},
    {"fault": "region_isolated", "region": "us"},
    {"fault": "region_moved", "region": "eu"},
    {"fault": "tokens_revoked"},
]


async def listed(sandbox: Sandbox) -> list[str]:
    return [fault["name"] for fault in (await sandbox.state())["faults"]]


async def plant(*plant: dict[str, Any], lasts: float = 20.0) -> Course:
    return await prepared("sandbox", {"plant": list(plant)}, lasts=lasts)


@pytest.mark.parametrize("fault", SEEN_OUTSIDE, ids=lambda fault: "-".join(str(value) for value in fault.values()))
async def test_it_is_there_when_it_acts_and_gone_when_it_does_not(sandbox: Sandbox, fault: dict[str, Any]) -> None:
    course = await plant(fault)
    assert (await course.look()).state is State.RESTORED
    await course.inject()
    await course.sees(State.INJECTED)
    await course.restore()
    await course.restore()
    await course.sees(State.RESTORED)
    assert await listed(sandbox) == []


async def test_several_of_one_drill_are_there_when_all_are(sandbox: Sandbox) -> None:
    course = await plant({"fault": "edge_down", "edge": "edge-a"}, {"fault": "edge_down", "edge": "edge-b"})
    assert course.prepared.targets == ("sandbox:edge-a", "sandbox:edge-b")
    await course.inject()
    await course.sees(State.INJECTED)
    one = next(fault for fault in (await sandbox.state())["faults"] if fault["params"]["edge"] == "edge-b")
    await sandbox.heal(one["id"])
    seen = await course.look()
    assert seen.state is State.UNKNOWN
    assert "edge_down is not planted, and does nothing" in seen.detail


async def test_a_fault_that_is_accepted_and_never_acts_is_never_seen(sandbox: Sandbox) -> None:
    await sandbox.plant("sham")
    for fault in ({"fault": "edge_down", "edge": "edge-a"}, {"fault": "gift_lost"}):
        course = await plant(fault)
        await course.inject()
        assert fault["fault"] in await listed(sandbox)
        assert (await course.look()).state is State.UNKNOWN
        await course.restore()
        assert (await course.look()).state is State.RESTORED


async def test_one_that_shows_only_in_rooms_is_there_once_it_has_hit(sandbox: Sandbox) -> None:
    course = await plant({"fault": "expired_token"})
    await course.inject()
    assert (await course.look()).state is State.UNKNOWN
    async with aiohttp.ClientSession() as http:
        body = {"user": "probe", "password": sandbox.accounts["probe"]}
        assert (await http.post(f"{sandbox.url}/auth/login", json=body)).status == 200
    assert (await course.look()).state is State.INJECTED


async def test_it_ends_by_itself_at_its_expiry(sandbox: Sandbox) -> None:
    course = await plant({"fault": "refuse", "service": "gift"}, lasts=0.5)
    assert course.prepared.klass is Klass.SELF_HEALING
    await course.inject()
    await course.sees(State.INJECTED)
    await course.sees(State.RESTORED, 5)


async def test_what_others_planted_is_left_alone(sandbox: Sandbox) -> None:
    await sandbox.plant("refuse", service="payment", by="sp-00000000")
    await sandbox.plant("gift_lost")
    course = await plant({"fault": "refuse", "service": "gift"})
    await course.inject()
    await course.restore()
    assert await listed(sandbox) == ["refuse", "gift_lost"]


async def test_another_process_puts_it_back_from_the_record_alone(sandbox: Sandbox) -> None:
    course = await plant({"fault": "region_isolated", "region": "eu"})
    await course.inject()
    await course.sees(State.INJECTED)
    assert await course.undone_elsewhere() == "restored"
    assert sandbox.admin_token not in str(course.record)


async def test_a_restart_has_no_undo_and_is_over_when_the_server_answers() -> None:
    async with Sandbox.start() as own:
        with patch.dict(os.environ, environment(own)):
            course = await plant({"fault": "restart"}, lasts=1.0)
            assert course.prepared.klass is Klass.IRREVERSIBLE
            assert course.prepared.restored_by == "the sandbox's supervisor"
            await course.inject()
            assert "down" in (await course.sees(State.INJECTED)).detail
            with pytest.raises(NotUndone):
                await course.restore()
            await course.sees(State.RESTORED)
            await course.restore()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"plant": {"fault": "no-such"}}, "no fault 'no-such'"),
        ({"plant": {"fault": "edge_down", "edge": "edge-c"}}, "'edge-c' is not one of edge-a, edge-b"),
        ({"plant": {"fault": "restart"}, "admin": "http://127.0.0.1:1"}, "cannot be reached"),
        ({"plant": {"fault": "restart"}, "token": {"env": "NO_SUCH_TOKEN"}}, "NO_SUCH_TOKEN is not set"),
        ({"plant": {"fault": "gift_lost"}, "token": {"env": "VIEWER_PASSWORD"}}, "401 not_admin"),
    ],
)
async def test_what_cannot_be_done_is_said_before_anything_is_touched(sandbox: Sandbox, words: dict, why: str) -> None:
    assert why in await refusal("sandbox", words)
    assert await listed(sandbox) == []


@pytest.mark.parametrize(
    "plant",
    [{}, {"edge": "edge-a"}, {"fault": "killed"}, {"fault": "restart", "down": 3}, {"fault": "gift_lost", "for": 3}, []],
)
async def test_a_file_says_what_is_planted_and_not_for_how_long(plant: Any) -> None:
    with pytest.raises(ValueError, match="plant"):
        await prepared("sandbox", {"plant": plant})


async def test_tokens_that_expire_are_a_fault_of_their_own(sandbox: Sandbox) -> None:
    course = await prepared("token", {})
    await course.inject()
    await course.sees(State.INJECTED)
    async with aiohttp.ClientSession() as http:  # who logs in now is let in
        body = {"user": "probe", "password": sandbox.accounts["probe"]}
        token = (await (await http.post(f"{sandbox.url}/auth/login", json=body)).json())["token"]
        assert (await http.get(f"{sandbox.url}/rooms", headers={"Authorization": f"Bearer {token}"})).status == 200
    await course.restore()
    await course.sees(State.RESTORED)


async def test_a_sandbox_that_is_no_more_has_no_fault_any_more() -> None:
    async with Sandbox.start() as gone:
        with patch.dict(os.environ, environment(gone)):
            course, restarting = await plant({"fault": "gift_lost"}), await plant({"fault": "restart"})
            await course.inject()
    with patch.dict(os.environ, environment(gone)):
        for one in (course, restarting):
            await one.restore()
            assert (await one.look()).state is State.GONE


async def test_one_that_hangs_is_not_waited_for(sandbox: Sandbox) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    course = await plant({"fault": "edge_down", "edge": "edge-a"})
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    hanging = {**course.record, "admin": f"http://{host}:{port}"}
    assert (await course.fault.observe(hanging, course.io)).state is State.UNKNOWN
    with pytest.raises(NotUndone, match="no answer within"):
        await course.fault.restore(hanging, course.io)
    server.close()


async def test_one_that_answers_nonsense_is_not_taken_for_well(sandbox: Sandbox) -> None:
    answers = iter(['{"faults": [7]}', '{"faults": {}, "x": 1}', "[]", "nonsense", '{"faults": [{"params": {"by": 1}}, {}]}'])

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = next(answers).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    course = await plant({"fault": "edge_down", "edge": "edge-a"})
    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    lying = {**course.record, "admin": f"http://{host}:{port}"}
    assert {(await course.fault.observe(lying, course.io)).state for _ in range(5)} == {State.UNKNOWN}
    server.close()


async def test_nothing_is_left_of_what_these_tests_planted(sandbox: Sandbox) -> None:
    async def none() -> bool:
        return not await listed(sandbox)

    await wait_until(none)
