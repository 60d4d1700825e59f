"""Faults of a real Toxiproxy server, seen by connections through it; and servers that lie, hang or die."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from probe.drill.faults.base import NotUndone, State
from probe.drill.faults.toxiproxy import ToxiproxyParams
from tests.drill.host.tools import Course, prepared, refusal
from tests.peers import toxiproxy
from tests.peers.toxiproxy import Toxiproxy


@pytest.fixture
async def server() -> AsyncIterator[Toxiproxy]:
    async with toxiproxy.running() as running:
        yield running


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    """Answers each line with as many bytes as it asks for."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                writer.write(b"x" * int(line))
                await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    yield f"{host}:{port}"
    listening.close()


async def _fetched(listen: str, size: int = 1, within: float = 5.0) -> tuple[int, float]:
    """Bytes that came, and seconds it took, over a connection of its own; (-1, …) where it was refused or reset at once."""
    host, _, port = listen.rpartition(":")
    began, got = time.monotonic(), 0
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(b"%d\n" % size)
                while got < size and (piece := await reader.read(65536)):
                    got += len(piece)
            finally:
                writer.transport.abort()
    except TimeoutError:
        pass
    except OSError:
        got = -1
    return got, time.monotonic() - began


async def _toxics(server: Toxiproxy, proxy: str = "origin") -> list[str]:
    return [toxic["name"] for toxic in (await server.ask("GET", f"/proxies/{proxy}"))["toxics"]]


async def _course(server: Toxiproxy, **words: object) -> Course:
    return await prepared("toxiproxy", {"server": server.url, "proxies": "origin", **words})


Effect = Callable[[str], Awaitable[bool]]


async def _is_late(listen: str) -> bool:
    return (await _fetched(listen))[1] >= 0.3


async def _is_narrow(listen: str) -> bool:
    return (await _fetched(listen, 4000))[1] >= 0.3  # 10 kB/s


async def _is_silent(listen: str) -> bool:
    return (await _fetched(listen, within=0.4))[0] == 0


async def _is_cut(listen: str) -> bool:
    got, _ = await _fetched(listen)
    return got in (-1, 0)


async def _is_short(listen: str) -> bool:
    return (await _fetched(listen, 4000))[0] == 1000


@pytest.mark.parametrize(
    ("words", "effect"),
    [
        ({"latency": "300ms"}, _is_late),
        ({"bandwidth": "80kbps"}, _is_narrow),
        ({"timeout": "0s"}, _is_silent),
        ({"reset_peer": "0s"}, _is_cut),
        ({"limit_data": "1kB"}, _is_short),
        ({"down": True}, _is_cut),
    ],
)
async def test_it_is_felt_by_who_connects_seen_by_who_looks_and_put_back(server, upstream, words, effect: Effect):
    listen = await server.proxy("origin", upstream)
    course = await _course(server, **words)
    assert course.prepared.targets == ("toxiproxy:origin",) and course.prepared.of == 1
    assert not await effect(listen) and (await course.look()).state is State.RESTORED
    await course.restore()  # nothing was injected
    await course.inject()
    assert (await course.look()).state is State.INJECTED
    assert await effect(listen)
    assert await _toxics(server) == [f"sp-{course.io.token}"]
    await course.restore()
    await course.restore()
    assert (await course.look()).state is State.RESTORED
    assert not await effect(listen) and await _toxics(server) == []


async def test_slow_close_is_a_toxic_of_its_kind(server, upstream):
    await server.proxy("origin", upstream)
    course = await _course(server, slow_close="2s", stream="upstream", toxicity="50%")
    await course.inject()
    [toxic] = (await server.ask("GET", "/proxies/origin"))["toxics"]
    assert toxic == {
        "name": f"sp-{course.io.token}",
        "type": "slow_close",
        "stream": "upstream",
        "toxicity": 0.5,
        "attributes": {"delay": 2000},
    }
    await course.restore()


async def test_what_it_says_it_will_do_is_what_it_does(server, upstream):
    await server.proxy("origin", upstream)
    course = await _course(server, down=True)
    [command] = course.prepared.commands
    assert f"POST {server.url}/proxies/origin " in command.do and '"enabled": false' in command.do
    assert '"enabled": true' in command.undo and f"DELETE {server.url}/proxies/origin/toxics/sp-{course.io.token}" in command.undo


@pytest.mark.parametrize("words", [{"latency": "300ms"}, {"down": True}])
async def test_another_process_puts_it_back_from_the_record_alone(server, upstream, words):
    listen = await server.proxy("origin", upstream)
    course = await _course(server, **words)
    await course.inject()
    assert (await course.undone_elsewhere()).startswith("restored")
    assert (await _fetched(listen))[0] == 1 and await _toxics(server) == []


async def test_a_neighbours_toxics_and_proxies_are_left_alone(server, upstream):
    await server.proxy("origin", upstream)
    await server.proxy("edge", upstream)
    theirs = {"name": "theirs", "type": "latency", "attributes": {"latency": 1}}
    await server.ask("POST", "/proxies/origin/toxics", theirs)
    await server.ask("POST", "/proxies/edge", {"enabled": False})
    course = await _course(server, timeout="0s")
    assert course.prepared.of == 2
    await course.inject()
    await course.restore()
    assert await _toxics(server) == ["theirs"]
    assert not (await server.ask("GET", "/proxies/edge"))["enabled"]


async def test_several_proxies_are_one_fault_and_half_of_it_is_none(server, upstream):
    listens = [await server.proxy(name, upstream) for name in ("a", "b", "c/d")]
    course = await _course(server, proxies=["a", "b"], down=True)
    assert course.prepared.targets == ("toxiproxy:a", "toxiproxy:b") and course.prepared.of == 3
    await course.inject()
    assert (await course.look()).state is State.INJECTED
    assert [(await _fetched(listen))[0] for listen in listens] == [-1, -1, 1]
    await server.ask("POST", "/proxies/a", {"enabled": True})
    assert (await course.look()).state is State.UNKNOWN
    await course.restore()
    assert (await course.look()).state is State.RESTORED
    assert [(await _fetched(listen))[0] for listen in listens] == [1, 1, 1]


async def test_a_proxy_that_was_down_before_is_refused_and_one_that_another_takes_down_is_not_enabled_by_us(server, upstream):
    await server.proxy("origin", upstream)
    course = await _course(server, down=True)
    await server.ask("POST", "/proxies/origin", {"enabled": False})  # by somebody, before we came to do anything
    with pytest.raises(NotUndone, match="without our mark"):
        await course.restore()
    seen = await course.look()
    assert seen.state is State.UNKNOWN and "by another" in seen.detail
    assert not (await server.ask("GET", "/proxies/origin"))["enabled"]
    said = await refusal("toxiproxy", {"server": server.url, "proxies": "origin", "down": True})
    assert "disabled already, and not by us" in said


async def test_an_inject_that_was_cut_off_halfway_is_put_back_whole(server, upstream):
    await server.proxy("origin", upstream)
    course = await _course(server, down=True)
    await server.ask("POST", "/proxies/origin/toxics", course.record["toxic"])  # the mark is there, and the proxy still enabled
    assert (await course.look()).state is State.UNKNOWN
    await course.restore()
    assert (await course.look()).state is State.RESTORED and await _toxics(server) == []


async def test_a_server_that_dies_says_nothing_and_one_started_anew_has_lost_it(server, upstream):
    await server.proxy("origin", upstream)
    course = await _course(server, latency="300ms")
    await course.inject()
    server.stop()
    seen = await course.look()
    assert seen.state is State.UNKNOWN and "cannot be reached" in seen.detail
    with pytest.raises(NotUndone, match="cannot be reached"):
        await course.restore()
    await server.start()
    assert (await course.look()).state is State.GONE  # it has no such proxy
    await course.restore()
    await server.proxy("origin", upstream)
    assert (await course.look()).state is State.RESTORED
    await course.restore()


async def test_what_is_not_there_is_refused_with_what_there_is(server, upstream):
    await server.proxy("edge", upstream)
    said = await refusal("toxiproxy", {"server": server.url, "proxies": "origin", "latency": "1s"})
    assert "no proxy 'origin'; it has edge" in said
    server.stop()
    said = await refusal("toxiproxy", {"server": server.url, "proxies": "origin", "latency": "1s"})
    assert "cannot be reached" in said


@contextlib.asynccontextmanager
async def _liar(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A server that answers everything so."""
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


_GOOD = {"origin": {"enabled": True, "toxics": []}}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"nonsense \xff",
        b'{"origin": {"enabled": "perhaps", "toxics": []}}',
        b'{"origin": {"enabled": true, "toxics": [{"name": 5}]}}',
        b"[" * 100_000,
        b" " * (3 << 20),
        json.dumps({f"p{n}": _GOOD["origin"] for n in range(2000)}).encode(),
    ],
    ids=["empty", "list", "nonsense", "types", "toxic", "deep", "long", "many"],
)
async def test_hostile_answers_are_no_answers(body):
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body)

    async with _liar(answer) as url:
        said = await refusal("toxiproxy", {"server": url, "proxies": "origin", "latency": "1s"})
        assert "not what Toxiproxy answers" in said or "more than" in said


async def test_a_server_that_turns_hostile_or_hangs_after_it_was_asked_is_bounded_and_never_restored(monkeypatch):
    monkeypatch.setattr("probe.drill.faults.toxiproxy._WITHIN", 0.4)
    mood: dict[str, Any] = {"hangs": False, "body": json.dumps(_GOOD).encode(), "status": 200}
    never = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        if mood["hangs"]:
            await never.wait()
        return web.Response(body=mood["body"], status=mood["status"])

    async with _liar(answer) as url:
        course = await prepared("toxiproxy", {"server": url, "proxies": "origin", "down": True})
        for body, status in ((b"{}", 200), (b"x", 500), (b"", 302)):
            mood |= {"body": body, "status": status}
            assert (await course.look()).state is State.UNKNOWN
            with pytest.raises(NotUndone):
                await course.restore()
        mood["hangs"] = True
        async with asyncio.timeout(8):
            assert (await course.look()).state is State.UNKNOWN
            with pytest.raises(NotUndone, match="0.4 s"):
                await course.restore()
        never.set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({}, "one thing at a time"),
        ({"latency": "1s", "down": True}, "one thing at a time"),
        ({"timeout": "0s", "jitter": "1s"}, "jitter is for latency"),
        ({"latency": "1s", "proxies": ["a", "a"]}, "twice"),
        ({"latency": "1s", "server": "http://me:secret@host"}, "holds a password"),
        ({"latency": "1s", "server": "ftp://host"}, "not an address"),
        ({"bandwidth": "1kbps"}, "greater than or equal to 8000"),
        ({"latency": "1s", "toxicity": "0%"}, "greater than 0"),
    ],
)
def test_what_cannot_be_is_told(words, said):
    with pytest.raises(ValidationError, match=said) as told:
        ToxiproxyParams.model_validate({"proxies": "origin", **words})
    assert "secret" not in repr(told.value.errors(include_input=False))
