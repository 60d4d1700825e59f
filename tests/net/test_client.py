"""The client when servers behave: stages, attribution, redirects, secrets by origin."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from probe.errors import Failure
from probe.model.observation import RequestDone
from probe.model.stage import Phase, Stage, StageTimer
from probe.net.client import AddressPolicy, Client, Credential, origin_of
from tests.net.conftest import Names
from tests.net.servers import TRACE, Authority, Record, client, serving

TOKEN = "tok-3f9a7c1e55"


async def echo(request: web.Request) -> web.Response:
    return web.json_response(
        {"method": request.method, "headers": dict(request.headers), "body": (await request.read()).decode()}
    )


def redirect(status: int, location: str) -> Any:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": location})

    return handler


async def ask(record: Record, url: str, method: str = "GET", **options: Any) -> Any:
    return await record.client.request(method, url, purpose="test", phase=Phase.ROOM, **options)


async def failing(record: Record, url: str, method: str = "GET", **options: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await ask(record, url, method, **options)
    return caught.value


async def test_stages_of_a_new_connection_add_up_and_a_kept_one_has_none(authority: Authority) -> None:
    async with (
        serving({"/": echo}, tls=authority.server("localhost"), name="localhost") as url,
        client("localhost", tls=authority.client()) as me,
    ):
        clock = me.client.clock
        fresh = StageTimer(clock.now())
        answer = await ask(me, url, stages=fresh, stage=Stage.SIGNAL)
        total = fresh.finish(clock.now())
        assert list(fresh.by_stage()) == [Stage.PROBE, Stage.RESOLVE, Stage.CONNECT, Stage.TLS, Stage.SIGNAL]
        assert sum(fresh.by_stage().values()) == total
        assert fresh.by_stage()[Stage.TLS] > 0
        assert 0 < answer.took <= total

        kept = StageTimer(clock.now())
        await ask(me, url, stages=kept, stage=Stage.PLAYLIST)
        kept.finish(clock.now())
        assert list(kept.by_stage()) == [Stage.PROBE, Stage.PLAYLIST]


async def test_a_literal_address_has_no_resolve_stage() -> None:
    async with serving({"/": echo}) as url, client() as me:
        timer = StageTimer(me.client.clock.now())
        await ask(me, url, stages=timer, stage=Stage.SIGNAL)
        timer.finish(me.client.clock.now())
        assert Stage.RESOLVE not in timer.by_stage()
        assert Stage.TLS not in timer.by_stage()


async def test_a_redirect_opens_connect_again() -> None:
    async with serving({"/": echo}) as far, serving({"/": redirect(307, far)}) as near, client() as me:
        timer = StageTimer(me.client.clock.now())
        await ask(me, near, stages=timer, stage=Stage.SIGNAL)
        timer.finish(me.client.clock.now())
        assert [s.stage for s in timer.slices] == [Stage.PROBE, Stage.CONNECT, Stage.SIGNAL, Stage.CONNECT, Stage.SIGNAL]


async def test_a_lookup_that_takes_long_is_the_resolve_stage(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = asyncio.base_events.BaseEventLoop.getaddrinfo

    async def late(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(0.05)
        return await slow(*args, **options)

    names["platform.test"] = ["127.0.0.1"]
    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", late)
    async with serving({"/": echo}, name="platform.test") as url, client("platform.test") as me:
        timer = StageTimer(me.client.clock.now())
        await ask(me, url, stages=timer, stage=Stage.SIGNAL)
        timer.finish(me.client.clock.now())
        assert timer.by_stage()[Stage.RESOLVE] >= 50_000_000


async def test_every_request_carries_a_fresh_span_and_is_recorded_under_its_parent() -> None:
    async with serving({"/": echo}) as url, client() as me:
        here = me.client.using(parent_span="b7ad6b7169203331", service="room")
        first = await here.request("GET", url, purpose="list", phase=Phase.ROOM)
        await here.request("GET", url, purpose="list", phase=Phase.ROOM)
        sent = first.json()["headers"]
        version, trace, span, flags = sent["traceparent"].split("-")
        assert (version, trace, flags) == ("00", TRACE, "01")
        one, two = me.requests
        assert one.span_id == span != two.span_id
        assert one.request_id == sent["X-Request-ID"] == first.request_id != two.request_id
        assert (one.parent_span_id, one.service, one.purpose) == ("b7ad6b7169203331", "room", "list")
        assert sent["Accept-Encoding"] == "identity"


async def test_a_request_id_may_be_given_and_stays_through_redirects() -> None:
    async with serving({"/": redirect(302, "/there"), "/there": echo}) as url, client() as me:
        answer = await ask(me, url, request_id="mine-1")
        assert answer.json()["headers"]["X-Request-ID"] == "mine-1"
        assert [(r.status, r.request_id) for r in me.requests] == [(302, "mine-1"), (200, "mine-1")]
        assert me.requests[0].span_id != me.requests[1].span_id


async def test_the_record_shows_edge_cache_size_and_neither_query_nor_userinfo() -> None:
    async def edge(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 1000, headers={"X-Edge": "edge-a", "X-Cache": "HIT"})

    async with serving({"/live/seg": edge}) as url, client() as me:
        await ask(me, url.replace("http://", "http://user:pass@") + "/live/seg?token=abc#x")
        (done,) = me.requests
        assert done.url == url + "/live/seg"
        assert (done.edge, done.cache, done.status, done.size, done.failure) == ("edge-a", "hit", 200, 1000, None)
        assert done.took > 0 and done.at > 0


async def test_userinfo_of_a_url_is_never_sent() -> None:
    async with serving({"/": echo}) as url, client() as me:
        answer = await ask(me, url.replace("http://", "http://user:pass@"))
        assert "Authorization" not in answer.json()["headers"]


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [
        (301, "POST", "GET", ""),
        (302, "POST", "GET", ""),
        (303, "POST", "GET", ""),
        (303, "PUT", "GET", ""),
        (307, "POST", "POST", "sdp"),
        (308, "POST", "POST", "sdp"),
        (302, "PUT", "PUT", "sdp"),
        (301, "DELETE", "DELETE", ""),
    ],
)
async def test_redirects_keep_or_change_the_method_as_the_rfc_says(status: int, method: str, then: str, body: str) -> None:
    async with serving({"/": redirect(status, "there?a=1"), "/there": echo}) as url, client() as me:
        content = b"sdp" if method in ("POST", "PUT") else None
        answer = await ask(me, url, method, body=content, content_type="application/sdp")
        got = answer.json()
        assert (got["method"], got["body"]) == (then, body)
        assert answer.url == url + "/there?a=1"
        assert (got["headers"].get("Content-Type") == "application/sdp") is bool(body)


async def test_without_following_a_redirect_is_a_status() -> None:
    async with serving({"/": redirect(307, "/there")}) as url, client() as me:
        assert (await failing(me, url, redirects=False)).reason == "http_307"
        answer = await ask(me, url, redirects=False, ok={307})
        assert answer.headers["location"] == "/there"


async def test_a_redirect_loop_ends() -> None:
    async with serving({"/a": redirect(302, "/b"), "/b": redirect(302, "/a")}) as url, client() as me:
        failure = await failing(me, url + "/a")
        assert (failure.phase, failure.reason) == (Phase.ROOM, "redirect_loop")
        assert len(me.requests) == 2
        assert me.requests[-1].failure == failure.outcome


async def test_an_endless_chain_of_redirects_ends_after_five() -> None:
    async def onwards(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": f"/{int(request.match_info['n']) + 1}"})

    async with serving({"/{n}": onwards}) as url, client() as me:
        assert (await failing(me, url + "/0")).reason == "redirect_loop"
        assert len(me.requests) == 6


async def test_no_secret_crosses_to_another_origin() -> None:
    async with serving({"/": echo}) as far, serving({"/": redirect(307, far + "/")}) as near, client() as me:
        answer = await ask(
            me,
            near,
            "POST",
            body=b"v=0",
            content_type="application/sdp",
            credential=Credential(TOKEN, frozenset({origin_of(near)})),
            headers={"X-Api-Key": "key-1", "Accept": "application/sdp", "Cookie": "a=b"},
        )
        got = answer.json()["headers"]
        assert TOKEN not in json.dumps(got)
        assert "Authorization" not in got and "X-Api-Key" not in got and "Cookie" not in got
        assert got["Accept"] == "application/sdp"
        assert answer.json()["body"] == "v=0"


async def test_the_token_goes_to_its_own_origins_only() -> None:
    async with serving({"/": echo}) as one, serving({"/": echo}) as two, client() as me:
        credential = Credential(TOKEN, frozenset({origin_of(one)}))
        assert (await ask(me, one, credential=credential)).json()["headers"]["Authorization"] == f"Bearer {TOKEN}"
        assert "Authorization" not in (await ask(me, two, credential=credential)).json()["headers"]


async def test_the_token_follows_to_a_second_origin_of_its_own() -> None:
    async with serving({"/": echo}) as far, serving({"/": redirect(307, far)}) as near, client() as me:
        credential = Credential(TOKEN, frozenset({origin_of(near), origin_of(far)}))
        assert (await ask(me, near, credential=credential)).json()["headers"]["Authorization"] == f"Bearer {TOKEN}"


async def test_a_token_that_left_its_origin_does_not_come_back() -> None:
    hops: dict[str, str] = {}

    async def bounce(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": hops["home"] + "/end"})

    async with serving({"/": bounce}) as far, serving({"/": redirect(307, far + "/"), "/end": echo}) as near, client() as me:
        hops["home"] = near
        answer = await ask(me, near, credential=Credential(TOKEN, frozenset({origin_of(near)})))
        assert "Authorization" not in answer.json()["headers"]


async def test_a_json_body_does_not_follow_to_another_origin() -> None:
    async with serving({"/": echo}) as far, serving({"/": redirect(307, far)}) as near, client() as me:
        failure = await failing(me, near, "POST", json={"password": "hunter22"})
        assert failure.reason == "redirect_refused"
        assert "hunter22" not in str(failure)


async def test_from_https_to_http_is_refused(authority: Authority) -> None:
    async with serving({"/": echo}) as plain, client(tls=authority.client()) as me:
        async with serving({"/": redirect(302, plain)}, tls=authority.server("127.0.0.1")) as secure:
            assert (await failing(me, secure)).reason == "redirect_refused"


@pytest.mark.parametrize(
    "location", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[::1", "http://h:99999/", "http://[fe80::1%25x]:0/"]
)
async def test_a_location_that_is_no_http_url_is_malformed_or_refused(location: str) -> None:
    async with serving({"/": redirect(302, location)}) as url, client() as me:
        assert (await failing(me, url)).reason in ("malformed", "redirect_refused")


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.2:1/",
        "http://[::ffff:127.0.0.2]:1/",
        "http://0x7f.2:1/",
        "http://2130706434:1/",
    ],
)
async def test_a_redirect_into_the_probes_own_network_is_refused(target: str) -> None:
    async with serving({"/": redirect(302, target)}) as url, client() as me:
        failure = await failing(me, url)
        assert (failure.phase, failure.reason) == (Phase.ROOM, "address_refused")


async def test_a_name_that_resolves_into_the_probes_own_network_is_refused(names: Names) -> None:
    names["innocent.test"] = ["10.1.2.3"]
    async with serving({"/": redirect(302, "http://innocent.test/")}) as url, client() as me:
        assert (await failing(me, url)).reason == "address_refused"


async def test_of_several_addresses_only_allowed_ones_are_used(names: Names) -> None:
    names["mixed.test"] = ["127.0.0.2", "127.0.0.1"]
    async with serving({"/": echo}, name="mixed.test") as url, client("127.0.0.1") as me:
        assert (await ask(me, url)).status == 200


async def test_the_second_address_is_tried_where_the_first_refuses(names: Names) -> None:
    names["two.test"] = ["127.0.0.3", "127.0.0.1"]
    async with serving({"/": echo}, name="two.test") as url, client("two.test") as me:
        assert (await ask(me, url)).status == 200


async def test_dial_changes_where_we_connect_and_nothing_else(authority: Authority, names: Names) -> None:
    names["platform.test"] = ["127.0.0.1"]
    dialled: list[tuple[str, str, int]] = []
    async with (
        serving({"/": echo}, tls=authority.server("platform.test")) as real,
        client("platform.test", tls=authority.client()) as me,
    ):
        port = int(real.rpartition(":")[2])

        async def dial(host: str, ip: str, wanted: int) -> tuple[str, int]:
            dialled.append((host, ip, wanted))
            return "127.0.0.1", port

        through = me.client.using(dial=dial)
        answer = await through.request("GET", "https://platform.test:4433/", purpose="x", phase=Phase.ROOM)
        assert dialled == [("platform.test", "127.0.0.1", 4433)]
        assert answer.json()["headers"]["Host"] == "platform.test:4433"
        await through.close()
        assert (await failing(me, "https://platform.test:4433/")).phase is Phase.CONNECT


async def test_a_dial_that_is_refused_is_the_servers_refusal() -> None:
    async def dial(host: str, ip: str, port: int) -> tuple[str, int]:
        raise ConnectionRefusedError(111, "refused")

    async with client(dial=dial) as me:
        failure = await failing(me, "http://127.0.0.1:1/")
        assert (failure.phase, failure.reason) == (Phase.CONNECT, "refused")


async def test_a_person_of_their_own_opens_their_own_connection() -> None:
    async with serving({"/": echo}) as url, client() as me:
        await ask(me, url)
        other = me.client.using(own_pool=True)
        timer = StageTimer(me.client.clock.now())
        await other.request("GET", url, purpose="x", phase=Phase.ROOM, stages=timer, stage=Stage.SIGNAL)
        assert Stage.CONNECT in timer.by_stage()


async def test_statuses_become_reasons_and_401_is_auth() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"error": "room is full"}, status=int(request.match_info["s"]))

    async with serving({"/{s}": answer}) as url, client() as me:
        found = {s: await failing(me, f"{url}/{s}") for s in (401, 403, 404, 418, 500, 503, 599)}
        assert {s: (f.phase, f.reason) for s, f in found.items()} == {
            401: (Phase.AUTH, "http_401"),
            403: (Phase.AUTH, "http_403"),
            404: (Phase.ROOM, "http_404"),
            418: (Phase.ROOM, "http_418"),
            500: (Phase.ROOM, "http_500"),
            503: (Phase.ROOM, "http_503"),
            599: (Phase.ROOM, "http_other"),
        }
        assert found[503].outcome.detail == "room is full"
        assert [r.failure for r in me.requests] == [f.outcome for f in found.values()]
        assert (await ask(me, f"{url}/404", ok=(404, 410))).status == 404
        assert (await failing(me, f"{url}/200", ok={201})).reason == "protocol"


async def test_a_401_that_says_the_token_expired_says_so() -> None:
    async def answer(_: web.Request) -> web.Response:
        challenge = 'Bearer error="invalid_token", error_description="The access token expired"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    async with serving({"/": answer}) as url, client() as me:
        failure = await failing(me, url)
        assert (failure.phase, failure.reason) == (Phase.AUTH, "token_expired")


async def test_no_secret_is_in_what_an_error_answer_is_quoted_with() -> None:
    async def parrot(request: web.Request) -> web.Response:
        said = f"{request.headers['Authorization']} {await request.text()}"
        return web.json_response({"error": said}, status=400)

    async with serving({"/{token}": parrot}) as url, client() as me:
        failure = await failing(
            me, f"{url}/{TOKEN}", "POST", json={"password": "hunter22"}, credential=Credential(TOKEN, frozenset({origin_of(url)}))
        )
        for text in (str(failure), repr(failure), repr(failure.outcome), repr(me.requests)):
            assert TOKEN not in text and "hunter22" not in text


@pytest.mark.parametrize("token", ["a\r\nX-Evil: 1", "a\0b", "a\nb"])
async def test_a_token_with_control_characters_is_never_sent(token: str) -> None:
    async with serving({"/": echo}) as url, client() as me:
        failure = await failing(me, url, credential=Credential(token, frozenset({origin_of(url)})))
        assert (failure.phase, failure.reason) == (Phase.AUTH, "malformed")
        assert "Evil" not in str(failure)


async def test_escapes_of_a_signed_url_stay_as_they_are() -> None:
    async def where(request: web.Request) -> web.Response:
        return web.Response(text=request.raw_path)

    async with serving({"/{path:.*}": where}) as url, client() as me:
        path = "/a%2Fb/seg%7E1.m4s?sig=%2Bx%3D%3D&b=a%20c"
        assert (await ask(me, url + path)).body.decode() == path


async def test_a_stream_gives_chunks_with_their_arrival() -> None:
    go = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        await go.wait()
        await response.write(b"two")
        return response

    async with serving({"/": slow}) as url, client() as me:
        got: list[bytes] = []
        arrivals: list[int] = []
        async with me.client.stream("GET", url, purpose="segment", phase=Phase.SEGMENT) as answer:
            async for data, arrived in answer.chunks():
                got.append(data)
                arrivals.append(arrived)
                go.set()
        assert b"".join(got) == b"onetwo"
        assert arrivals == sorted(arrivals) and len(set(arrivals)) == len(arrivals) >= 2
        assert me.requests[0].size == 6


async def test_leaving_a_stream_early_closes_its_connection() -> None:
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        finally:
            gone.set()

    async with serving({"/": endless}) as url, client() as me:
        async with me.client.stream("GET", url, purpose="segment", phase=Phase.SEGMENT, limit=1 << 30) as answer:
            async for _ in answer.chunks():
                break
        async with asyncio.timeout(5):
            await gone.wait()
        assert me.requests[0].failure is None


async def test_what_a_reader_does_wrong_is_not_blamed_on_the_request() -> None:
    async with serving({"/": echo}) as url, client() as me:
        with pytest.raises(TimeoutError):
            async with me.client.stream("GET", url, purpose="segment", phase=Phase.SEGMENT):
                raise TimeoutError
        assert me.requests[0].failure is None


async def test_parallel_requests_mark_their_own_stages(names: Names) -> None:
    names["platform.test"] = ["127.0.0.1"]
    async with serving({"/": echo}, name="platform.test") as url, client("platform.test") as me:
        timers = [StageTimer(me.client.clock.now()) for _ in range(5)]
        async with asyncio.TaskGroup() as group:
            for timer in timers:
                group.create_task(ask(me, url, stages=timer, stage=Stage.SIGNAL))
        for timer in timers:
            assert [s.stage for s in timer.slices] + [timer.current] == [Stage.PROBE, Stage.RESOLVE, Stage.CONNECT, Stage.SIGNAL]


async def test_closing_the_first_client_closes_all_that_came_from_it() -> None:
    async with serving({"/": echo}) as url:
        requests: list[RequestDone] = []
        async with client() as me:
            other = me.client.using(own_pool=True, on_request=requests.append)
            await other.request("GET", url, purpose="x", phase=Phase.ROOM)
        assert len(requests) == 1 and not me.requests
        with pytest.raises(RuntimeError):
            await other.request("GET", url, purpose="x", phase=Phase.ROOM)


def test_origins() -> None:
    assert origin_of("HTTPS://Example.COM.:443/a?b") == "https://example.com"
    assert origin_of("wss://example.com/x") == "https://example.com"
    assert origin_of("ws://[::1]:8080/") == "http://[::1]:8080"
    for wrong in ("example.com", "/a", "file:///x", "data:,x", "http:///x"):
        with pytest.raises(ValueError):
            origin_of(wrong)


def test_a_credential_does_not_show_its_token() -> None:
    assert TOKEN not in repr(Credential(TOKEN, frozenset({"https://a"})))
    assert AddressPolicy.for_platform("https://a.test:8443/x", ["10.0.0.0/8"]).refusal("a.test", "10.0.0.1") is None
    assert Client.__doc__


async def test_a_person_of_their_own_goes_the_way_of_the_client_they_came_from() -> None:
    dialled: list[str] = []

    async def dial(host: str, ip: str, port: int) -> tuple[str, int]:
        dialled.append(host)
        return ip, port

    async with serving({"/": echo}) as url, client(dial=dial) as me:
        await me.client.using(own_pool=True).request("GET", url, purpose="x", phase=Phase.ROOM)
        assert dialled == ["127.0.0.1"]
