"""The sandbox as a process: its birth, its restarts, its end, and what it says meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import Awaitable
from pathlib import Path

import aiohttp
import psutil
import pytest

from probe.sandbox.launch import Sandbox, SandboxError
from tests.peers import otlp
from tests.sandbox.clients import Reply, on_air, user, watching
from tests.tools import ROOT, spawn, wait_until


async def back(sandbox: Sandbox, old: int) -> bool:
    """Is another server process answering?"""
    try:
        return bool((await sandbox.state())["server_pid"] != old)
    except SandboxError:
        return False


async def test_a_restart_keeps_urls_tokens_rooms_and_ledgers() -> None:
    async with Sandbox.start() as sandbox, user(sandbox) as probe:
        room = await probe.room("kept")
        await probe.call("POST", "/payments/coins", json={"amount": 5, "currency": "TEST", "ref": "kept"})
        await probe.call("POST", f"/rooms/{room}/gifts", json={"kind": "rose", "ref": "kept"})
        planted = await sandbox.plant("gift_lost", times=3)
        old = (await sandbox.state())["server_pid"]
        await sandbox.restart(down=0.3)
        await wait_until(lambda: back(sandbox, old), 10)
        assert (await probe.call("GET", "/auth/me")).json == {"user": "probe", "balance": 4}
        assert (await probe.call("GET", "/rooms?tag=kept")).json["rooms"][0]["id"] == room
        assert (await probe.call("GET", f"/rooms/{room}/gifts?ref=kept")).json["count"] == 1
        assert [fault["id"] for fault in (await sandbox.state())["faults"]] == [planted]


async def test_while_it_is_down_connections_are_refused_and_the_time_is_kept() -> None:
    async with Sandbox.start() as sandbox, user(sandbox) as probe:
        began = time.monotonic()
        await sandbox.restart(down=1.0)

        async def refused() -> bool:
            try:
                await probe.call("GET", "/rooms")
            except aiohttp.ClientConnectorError as error:
                return error.errno == 111
            except aiohttp.ClientError:
                pass
            return False

        await wait_until(refused, 1.0)
        await wait_until(sandbox.healthy, 10)
        assert time.monotonic() - began >= 1.0
        assert (await probe.call("GET", "/rooms")).status == 200


async def test_a_server_killed_from_outside_comes_back() -> None:
    async with Sandbox.start() as sandbox:
        old = (await sandbox.state())["server_pid"]
        os.kill(old, signal.SIGKILL)
        await wait_until(lambda: back(sandbox, old), 10)


async def test_a_port_that_is_taken_is_not_shared() -> None:
    async with Sandbox.start() as sandbox:
        with pytest.raises(SandboxError, match="before it was ready"):
            async with Sandbox.start(port=int(sandbox.url.rpartition(":")[2])):
                pass


async def test_after_a_restart_hls_goes_on_with_higher_numbers_behind_a_discontinuity() -> None:
    async with Sandbox.start() as sandbox, user(sandbox) as probe:
        room = await probe.room()
        numbers: list[tuple[int, int]] = []
        texts: list[str] = []

        async def listed() -> bool:
            reply = await probe.call("GET", f"/rooms/{room}/hls/index.m3u8")
            if reply.status != 200:
                return False
            text = (await probe.call("GET", next(line for line in reply.text.split() if line.startswith("http")))).text
            found = [re.search(rf"{tag}-SEQUENCE:(\d+)", text) for tag in ("MEDIA", "DISCONTINUITY")]
            assert found[0] and found[1]
            numbers.append((int(found[0][1]), int(found[1][1])))
            texts.append(text)
            return True

        async with on_air(probe, room):
            await wait_until(listed, 8)
            old = (await sandbox.state())["server_pid"]
            await sandbox.restart(down=0)
            await wait_until(lambda: back(sandbox, old), 10)
        assert not (await probe.call("GET", f"/rooms/{room}")).json["live"]
        async with on_air(probe, room, publish=1):
            await wait_until(listed, 8)
        before, after = numbers
        assert after[0] > before[0]
        assert after[1] > before[1]
        assert "#EXT-X-DISCONTINUITY\n" in texts[1]


async def test_state_outlives_the_sandbox_where_a_directory_is_given(tmp_path: Path) -> None:
    for number in range(2):
        async with Sandbox.start(tmp_path) as sandbox, user(sandbox) as probe:
            assert (await probe.call("GET", "/payments")).json["count"] == number
            await probe.call("POST", "/payments/coins", json={"amount": 1, "currency": "TEST", "ref": f"n{number}"})


async def test_open_flags_are_taken_up_again_after_a_restart() -> None:
    async with Sandbox.start() as sandbox, user(sandbox) as probe:
        room = await probe.room()
        old = (await sandbox.state())["server_pid"]
        await sandbox.plant("killed", on="payment", down=0)
        flag = (await probe.call("POST", f"/rooms/{room}/flags", json={"reason": "r", "ref": "f"})).json["flag"]
        with pytest.raises(aiohttp.ClientError):
            await probe.call("POST", "/payments/coins", json={})
        await wait_until(lambda: back(sandbox, old), 10)

        async def acted() -> bool:
            return bool((await probe.call("GET", f"/rooms/{room}/flags/{flag}")).json["state"] == "acted")

        await wait_until(acted, 2)


async def test_it_ends_within_two_seconds_in_the_midst_of_everything() -> None:
    async with Sandbox.start() as sandbox, user(sandbox) as probe:
        family = [psutil.Process(sandbox.pid), *psutil.Process(sandbox.pid).children(recursive=True)]
        assert len(family) == 2
        room = await probe.room()
        await sandbox.plant("hang", service="payment")
        async with probe.socket(room), on_air(probe, room), watching(probe, room) as seen, asyncio.TaskGroup() as tasks:
            hanging = tasks.create_task(refused_or_cut(probe.call("GET", "/payments")))
            await wait_until(lambda: seen.ours)
            began = time.monotonic()
            os.kill(sandbox.pid, signal.SIGTERM)
            await wait_until(lambda: not any(alive(process) for process in family), 3)
            assert time.monotonic() - began < 2.0
            assert await hanging


async def refused_or_cut(call: Awaitable[Reply]) -> bool:
    try:
        return (await call).status == 503
    except aiohttp.ClientError:
        return True


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


PARENT = """
import asyncio, os, sys
from probe.sandbox.launch import Sandbox
async def main():
    async with Sandbox.start() as sandbox:
        state = await sandbox.state()
        print(f"pids {sandbox.pid} {state['server_pid']}", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_kill_9_of_the_parent_leaves_nothing(tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with spawn([sys.executable, "-c", PARENT], tmp_path / "out", env=env) as parent:
        line = await parent.says("pids")
        family = [psutil.Process(int(pid)) for pid in line.split()[1:]]
        assert len(family) == 2
        assert list(tmp_path.glob("probe-sandbox-*"))
        os.kill(parent.pid, signal.SIGKILL)
        await wait_until(lambda: not any(alive(process) for process in family), 5, "the end of the orphans")
        assert not list(tmp_path.glob("probe-sandbox-*"))


async def test_kill_9_of_the_supervisor_leaves_nothing(tmp_path: Path) -> None:
    async with Sandbox.start(env={"TMPDIR": str(tmp_path)}) as sandbox:
        server = psutil.Process((await sandbox.state())["server_pid"])
        os.kill(sandbox.pid, signal.SIGKILL)
        await wait_until(lambda: not alive(server), 5)
        assert not list(tmp_path.glob("probe-sandbox-*"))


async def test_a_start_that_fails_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "platform.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(SandboxError, match="before it was ready"):
        async with Sandbox.start(tmp_path):
            pass


async def test_a_start_may_be_cancelled() -> None:
    async def start() -> None:
        async with Sandbox.start():
            pass

    async with asyncio.TaskGroup() as tasks:
        starting = tasks.create_task(start())
        await wait_until(lambda: psutil.Process().children())
        starting.cancel()
    assert starting.cancelled()


async def test_logs_are_json_lines_with_ids_and_without_secrets(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    async with Sandbox.start(logs=logs) as sandbox, user(sandbox) as probe:
        secrets = [probe.token, sandbox.admin_token, *sandbox.accounts.values()]
        room = await probe.room()
        async with probe.http.ws_connect(f"{sandbox.url}/rooms/{room}/chat?access_token={probe.token}"):
            pass
        await probe.call("GET", "/rooms", headers={"X-Request-ID": "named", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    lines = [json.loads(line) for line in logs.read_text().splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "named"]
    assert (line["service"], line["trace_id"], line["status"]) == ("room", "a" * 32, 200)
    assert not [secret for secret in secrets if secret in logs.read_text()]


async def test_spans_go_to_a_collector_where_there_is_one() -> None:
    async with otlp.running() as collector:
        async with Sandbox.start(env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}) as sandbox, user(sandbox) as probe:
            trace = "0af7651916cd43dd8448eb211c80319c"
            await probe.call("GET", "/rooms", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
            await wait_until(lambda: collector.tree(trace), 5)
        (span,) = collector.tree(trace)[""]
        assert (span.name, span.kind, span.parent) == ("GET /rooms", "server", "b7ad6b7169203331")
        assert span.resource["service.name"] == "sandbox-room"


async def test_a_collector_that_is_gone_delays_no_end() -> None:
    async with Sandbox.start(env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) as sandbox, user(sandbox) as probe:
        await probe.call("GET", "/rooms")
        supervisor = psutil.Process(sandbox.pid)
        began = time.monotonic()
        os.kill(sandbox.pid, signal.SIGTERM)
        await wait_until(lambda: not alive(supervisor), 3)
        assert time.monotonic() - began < 2.0
