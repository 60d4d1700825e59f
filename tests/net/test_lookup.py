"""From a name to the addresses that may be connected to: family, pin, policy, and what is said of them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from probe.clock import SystemClock
from probe.errors import Failure
from probe.model.stage import Phase, Stage, StageTimer
from tests.net.conftest import Names
from tests.net.servers import Authority, client, serving
from tests.tools import requires_ipv6

ALLOW = ("127.0.0.0/8", "::1")


async def told(request: web.Request) -> web.Response:
    assert request.transport is not None
    return web.json_response({"at": request.transport.get_extra_info("sockname")[0], "host": request.host})


@asynccontextmanager
async def at_two(names: Names) -> AsyncIterator[int]:
    """One port at 127.0.0.1 and ::1, both behind `both.test`."""
    requires_ipv6()
    names["both.test"] = ["127.0.0.1", "::1"]
    async with serving({"/": told}) as url:
        port = int(url.rpartition(":")[2])
        runner = web.AppRunner(_app(), shutdown_timeout=0.2, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "::1", port).start()
            yield port
        finally:
            await runner.cleanup()


def _app() -> web.Application:
    app = web.Application()
    app.router.add_get("/", told)
    return app


@pytest.mark.parametrize(("family", "ip"), [("ipv4", "127.0.0.1"), ("ipv6", "::1")])
async def test_only_the_family_asked_for_is_connected_to_and_it_is_told(family: str, ip: str, names: Names) -> None:
    reached: list[str] = []
    async with at_two(names) as port, client(*ALLOW) as me:
        own = me.client.using(family=family, reached=reached.append)
        answer = await own.request("GET", f"http://both.test:{port}/", purpose="x", phase=Phase.ROOM)
        assert answer.json() == {"at": ip, "host": f"both.test:{port}"}
        assert reached == [ip]


async def test_a_pin_leaves_name_and_host_header_alone_and_looks_nothing_up(names: Names) -> None:
    timer = StageTimer(SystemClock().now())
    async with at_two(names) as port, client(*ALLOW) as me:
        names["both.test"] = OSError(-2, "no more")
        own = me.client.using(pin="::1", pinned="Both.Test.")
        answer = await own.request("GET", f"http://both.test:{port}/", purpose="x", phase=Phase.ROOM, stages=timer)
        assert answer.json() == {"at": "::1", "host": f"both.test:{port}"}
        timer.finish(SystemClock().now())
        assert Stage.RESOLVE not in timer.by_stage() and Stage.CONNECT in timer.by_stage()
        assert (answer.edge, me.requests[0].edge) == ("::1", "::1"), "where no header names an edge the address does"


async def test_a_pin_is_for_its_host_alone(names: Names) -> None:
    async with at_two(names) as port, client(*ALLOW) as me:
        names["other.test"] = ["127.0.0.1"]
        own = me.client.using(pin="::1", pinned="both.test")
        answer = await own.request("GET", f"http://other.test:{port}/", purpose="x", phase=Phase.ROOM)
        assert (answer.json()["at"], answer.edge) == ("127.0.0.1", "")


async def test_an_edge_that_the_answer_names_stands_before_the_pinned_address(names: Names) -> None:
    async def edge(request: web.Request) -> web.Response:
        return web.Response(headers={"X-Served-By": "cache-fra-1"})

    names["cdn.test"] = ["127.0.0.1"]
    async with serving({"/": edge}, name="cdn.test") as url, client(*ALLOW) as me:
        answer = await me.client.using(pin="127.0.0.1").request("GET", url, purpose="x", phase=Phase.ROOM)
        assert answer.edge == "cache-fra-1"


async def test_the_certificate_is_still_for_the_name(names: Names, authority: Authority) -> None:
    names["cdn.test"] = ["127.0.0.9"]
    for certified, reason in (("cdn.test", None), ("elsewhere.test", "wrong_host")):
        async with serving({"/": told}, tls=authority.server(certified), name="cdn.test") as url:
            async with client(*ALLOW, tls=authority.client()) as me:
                own = me.client.using(pin="127.0.0.1", pinned="cdn.test")
                if reason is None:
                    assert (await own.request("GET", url, purpose="x", phase=Phase.ROOM)).status == 200
                else:
                    with pytest.raises(Failure) as caught:
                        await own.request("GET", url, purpose="x", phase=Phase.ROOM)
                    assert (caught.value.phase, caught.value.reason) == (Phase.TLS, reason)
                    assert me.requests[0].edge == "127.0.0.1", "an address nobody got an answer from is named all the same"


async def test_a_family_the_name_does_not_have_is_not_found_and_says_so(names: Names) -> None:
    names["old.test"] = ["127.0.0.1"]
    async with client(*ALLOW) as me:
        for host in ("old.test", "127.0.0.1"):
            with pytest.raises(Failure) as caught:
                await me.client.using(family="ipv6").resolve(host, 80, phase=Phase.CONNECT)
            assert (caught.value.phase, caught.value.reason) == (Phase.RESOLVE, "not_found")
            assert "no IPv6 address" in str(caught.value)


async def test_a_pinned_address_is_judged_as_any(names: Names) -> None:
    async with client("127.0.0.1") as me:
        with pytest.raises(Failure) as caught:
            await me.client.using(pin="10.0.0.1").resolve("cdn.test", 80, phase=Phase.JOIN)
        assert (caught.value.phase, caught.value.reason) == (Phase.JOIN, "address_refused")


async def test_resolving_enters_its_stage_bounds_what_it_gives_and_names_what_fails(names: Names) -> None:
    names["many.test"] = [f"127.0.0.{n}" for n in range(1, 30)] + ["127.0.0.1"]
    names["none.test"] = []
    names["gone.test"] = socket.gaierror(socket.EAI_NONAME, "nobody")
    timer = StageTimer(SystemClock().now())
    async with client(*ALLOW) as me:
        found = await me.client.resolve("many.test", 9, stages=timer, phase=Phase.CONNECT)
        assert found == [(f"127.0.0.{n}", 9) for n in range(1, 9)] and timer.current is Stage.RESOLVE
        assert len(await me.client.resolve("many.test", 9, phase=Phase.CONNECT, most=16)) == 16
        assert await me.client.resolve("127.0.0.1", 9, phase=Phase.CONNECT) == [("127.0.0.1", 9)]
        for host in ("none.test", "gone.test", "." * 300):
            with pytest.raises(Failure) as caught:
                await me.client.resolve(host, 9, phase=Phase.CONNECT)
            assert caught.value.phase is Phase.RESOLVE


async def test_connections_of_another_family_are_nobody_elses(names: Names) -> None:
    async with at_two(names) as port, client(*ALLOW) as me:
        url = f"http://both.test:{port}/"
        four, six = me.client.using(family="ipv4"), me.client.using(family="ipv6")
        for own, ip in ((four, "127.0.0.1"), (six, "::1"), (four, "127.0.0.1")):
            assert (await own.using(service="x").request("GET", url, purpose="x", phase=Phase.ROOM)).json()["at"] == ip
        own = six.using(own_pool=True)  # a driver's own connections obey too
        assert (await own.request("GET", url, purpose="x", phase=Phase.ROOM)).json()["at"] == "::1"
