"""The http step against a real server: what it expects, repeats, counts, keeps, and who sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from probe.drivers.http import HttpDriver
from probe.errors import DriverBug, Failure
from probe.model.clock import MS, Clock
from probe.model.observation import Observation
from probe.model.outcome import Done, Skipped
from probe.model.stage import Phase
from probe.net.client import Client, Credential, origin_of
from probe.plan import Expect, HttpCall, HttpStep, WaitStep
from tests.net.servers import client, raw, says, serving
from tests.tools import wait_until


@dataclass
class Steps:
    """A StepIO for tests: one variable (`room`), one account (`viewer`)."""

    clock: Clock
    http: Client
    base: str
    watching: list[str]
    kept: dict[str, Any] = field(default_factory=dict)

    def text(self, template: str) -> str:
        return template.replace("${room}", "r1")

    def data(self, template: Any) -> Any:
        if isinstance(template, dict):
            return {key: self.data(value) for key, value in template.items()}
        return self.text(template) if isinstance(template, str) else template

    def url(self, template: str) -> str:
        return self.base + self.text(template)

    def credential(self, account: str | None) -> Credential | None:
        return Credential("viewer-token", frozenset({origin_of(self.base)})) if account == "viewer" else None

    def keep(self, name: str, value: Any) -> None:
        self.kept[name] = value

    def viewers(self, who: str = "viewers") -> list[str]:
        return self.watching

    def emit(self, fact: Observation) -> None:
        raise AssertionError("steps emit nothing themselves")

    def note(self, text: str) -> None:
        raise AssertionError(text)


@asynccontextmanager
async def steps(base: str, viewers: int = 0) -> AsyncIterator[Steps]:
    async with client() as record:
        yield Steps(record.client.clock, record.client, base, [f"viewer-{n}" for n in range(viewers)])


def step(call: str = "GET /", *, json: Any = None, account: str | None = None, within: int = 1000, **fields: Any) -> HttpStep:
    method, _, url = call.partition(" ")
    return HttpStep(
        name="step", call=HttpCall(method=method, url=url, json=json, account=account), deadline=within * MS, **fields
    )


async def failing(io: Steps, what: HttpStep) -> tuple[Phase, str]:
    with pytest.raises(Failure) as caught:
        await HttpDriver().run(what, io)
    return caught.value.phase, caught.value.reason


def answering(*answers: Any) -> tuple[Callable[[web.Request], Any], list[web.Request]]:
    """A handler that gives these JSON answers in turn, the last for ever, and what it was asked."""
    asked: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request)
        return web.json_response(answers[min(len(asked), len(answers)) - 1])

    return handler, asked


async def test_a_call_is_made_as_written_and_its_answer_kept() -> None:
    seen: dict[str, Any] = {}

    async def login(request: web.Request) -> web.Response:
        seen.update(
            path=request.path, body=await request.json(), auth=request.headers.get("Authorization"), x=request.headers["X-A"]
        )
        return web.json_response({"token": "abc", "user": {"id": 7}}, status=201)

    async with serving({"/rooms/r1": login}) as url, steps(url) as io:
        call = HttpCall(
            method="POST", url="/rooms/${room}", headers={"X-A": "in ${room}"}, json={"in": "${room}"}, account="viewer"
        )
        made = HttpStep(
            name="login",
            service="auth",
            call=call,
            expect=Expect(status=frozenset({201}), json={"user.id": 7}),
            keep={"token": "token", "user": "user.id"},
        )
        assert await HttpDriver().run(made, io) == Done()
        assert seen == {"path": "/rooms/r1", "body": {"in": "r1"}, "auth": "Bearer viewer-token", "x": "in r1"}
        assert io.kept == {"token": "abc", "user": 7}


@pytest.mark.parametrize(
    ("answer", "expect", "expected"),
    [
        ({"state": "pending"}, {"state": "live"}, "unexpected"),
        ({}, {"state": "live"}, "missing_field"),
        ([], {"state": "live"}, "missing_field"),
        ({"n": True}, {"n": 1}, "unexpected"),
        ({"n": 1}, {"abs(state)": 1}, "unexpected"),
    ],
)
async def test_an_answer_that_is_not_as_expected(answer: Any, expect: dict[str, Any], expected: str) -> None:
    handler, _ = answering(answer)
    async with serving({"/": handler}) as url, steps(url) as io:
        assert await failing(io, step(service="room", expect=Expect(json=expect))) == (Phase.ROOM, expected)


async def test_a_field_to_keep_that_is_missing_is_missing_and_nothing_else_is_needed() -> None:
    handler, _ = answering({"a": 1})
    async with serving({"/": handler}) as url, steps(url) as io:
        assert await failing(io, step(service="payment", keep={"b": "b"})) == (Phase.PAYMENT, "missing_field")
        assert await HttpDriver().run(step(service="payment"), io) == Done()


async def test_an_answer_that_is_no_json_is_malformed_only_where_it_is_looked_at() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    async with serving({"/": page}) as url, steps(url) as io:
        assert await HttpDriver().run(step(), io) == Done()
        assert await failing(io, step(keep={"a": "a"})) == (Phase.ROOM, "malformed")


@pytest.mark.parametrize(
    ("service", "phase"),
    [
        ("auth", "auth"),
        ("gift", "gift"),
        ("chat", "chat"),
        ("moderation", "moderation"),
        ("ending", "ending"),
        ("", "room"),
        ("x", "room"),
    ],
)
async def test_failures_belong_to_the_service(service: str, phase: str) -> None:
    async with raw(says(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")) as url, steps(url) as io:
        assert await failing(io, step(service=service)) == (Phase(phase), "http_500")


async def test_a_server_that_hangs_fails_the_step_at_its_deadline() -> None:
    async with raw(says(b"", then=lambda _: asyncio.Event().wait())) as url, steps(url) as io:
        began = time.monotonic()
        assert await failing(io, step(service="gift", within=600)) == (Phase.GIFT, "timeout")
        assert 0.5 < time.monotonic() - began < 2


async def test_until_asks_again_until_it_is_so() -> None:
    handler, asked = answering({"state": "open"}, {"state": "open"}, {"state": "acted", "by": "bot"})
    async with serving({"/": handler}) as url, steps(url) as io:
        made = step(service="moderation", until="state == 'acted'", keep={"by": "by"}, within=5000)
        assert await HttpDriver().run(made, io) == Done()
        assert len(asked) == 3 and io.kept == {"by": "bot"}
        assert len({request.headers["X-Request-ID"] for request in asked}) == 3


@pytest.mark.parametrize(("service", "reason"), [("moderation", "not_acted"), ("room", "unexpected")])
async def test_until_that_never_comes_says_what_did_not_happen(service: str, reason: str) -> None:
    handler, asked = answering({"state": "open"})
    async with serving({"/": handler}) as url, steps(url) as io:
        phase = Phase(service)
        assert await failing(io, step(service=service, until="state == 'acted'", within=700)) == (phase, reason)
        assert 2 <= len(asked) <= 4


@pytest.mark.parametrize(
    ("service", "none", "twice"),
    [("gift", "not_counted", "counted_twice"), ("payment", "not_charged", "charged_twice"), ("chat", "unexpected", "unexpected")],
)
async def test_what_must_be_counted_once(service: str, none: str, twice: str) -> None:
    phase = Phase(service)
    for answers, reason in (
        ([{"count": 0}], none),
        ([{"count": 2}], twice),
        ([{"count": 0}, {"count": 3}], twice),
        ([{"count": "1"}], "unexpected"),
    ):
        handler, _ = answering(*answers)
        async with serving({"/": handler}) as url, steps(url) as io:
            assert await failing(io, step(service=service, once="count", within=500)) == (phase, reason)


async def test_a_count_that_comes_late_is_waited_for() -> None:
    handler, asked = answering({"gifts": []}, {"gifts": [1]})
    async with serving({"/": handler}) as url, steps(url) as io:
        assert await HttpDriver().run(step(service="gift", once="length(gifts)", within=3000), io) == Done()
        assert len(asked) == 3


async def test_a_second_count_that_comes_late_is_seen() -> None:
    handler, _ = answering({"count": 1}, {"count": 2})
    async with serving({"/": handler}) as url, steps(url) as io:
        assert await failing(io, step(service="gift", once="count", within=3000)) == (Phase.GIFT, "counted_twice")


async def test_a_post_is_not_repeated_to_count() -> None:
    handler, asked = answering({"count": 0})
    async with serving({"/": handler}) as url, steps(url) as io:
        assert await failing(io, step("POST /", json={}, service="gift", once="count")) == (Phase.GIFT, "not_counted")
        assert len(asked) == 1


class Room:
    """A room whose sockets show what is posted, to the first `reach` of them."""

    def __init__(self, reach: int = 99, shown: str = '{"request_id": "%s"}') -> None:
        self.sockets: list[web.WebSocketResponse] = []
        self.reach = reach
        self.shown = shown
        self.open_at_post = 0
        self.tokens: list[str | None] = []

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.tokens.append(request.headers.get("Authorization"))
        await socket.send_str("welcome")
        self.sockets.append(socket)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await self.show(message.data)
        return socket

    async def post(self, request: web.Request) -> web.Response:
        self.open_at_post = len(self.sockets)
        await self.show(self.shown.replace("%s", request.headers["X-Request-ID"]))
        return web.json_response({}, status=201)

    async def show(self, text: str) -> None:
        for socket in self.sockets[: self.reach]:
            await socket.send_str(text)

    def routes(self) -> dict[str, Any]:
        return {"/gifts": self.post, "/chat": self.socket}


def gift(**fields: Any) -> HttpStep:
    return step(
        "POST /gifts", json={}, service="gift", seen_by="viewers", socket="/chat", **{"socket_account": "viewer", **fields}
    )


async def test_what_is_posted_is_seen_on_a_socket_of_every_viewer() -> None:
    room = Room()
    async with serving(room.routes()) as url, steps(url, viewers=5) as io:
        assert await HttpDriver().run(gift(), io) == Done()
        assert room.open_at_post == 5
        assert room.tokens == ["Bearer viewer-token"] * 5


async def test_what_is_to_be_seen_may_be_said() -> None:
    room = Room(shown="a rose for r1")
    async with serving(room.routes()) as url, steps(url, viewers=1) as io:
        assert await HttpDriver().run(gift(seen="rose for ${room}"), io) == Done()


async def test_what_some_do_not_see_is_not_seen_with_how_many_did() -> None:
    room = Room(reach=3)
    async with serving(room.routes()) as url, steps(url, viewers=5) as io:
        with pytest.raises(Failure) as caught:
            await HttpDriver().run(gift(within=500), io)
        assert (caught.value.phase, caught.value.reason) == (Phase.GIFT, "not_seen")
        assert caught.value.outcome.detail == "3 of 5 viewers saw it"


async def test_without_viewers_it_is_skipped_and_nothing_is_sent() -> None:
    room = Room()
    async with serving(room.routes()) as url, steps(url) as io:
        assert await HttpDriver().run(gift(), io) == Skipped("no_viewers")
        assert room.open_at_post == 0 and not room.sockets


async def test_a_socket_that_cannot_be_opened_fails_the_step_before_anything_is_sent() -> None:
    handler, asked = answering({})

    async def closed(_: web.Request) -> web.Response:
        return web.Response(status=403)

    async with serving({"/gifts": handler, "/chat": closed}) as url, steps(url, viewers=3) as io:
        assert await failing(io, gift()) == (Phase.AUTH, "http_403")
        assert not asked


async def test_a_request_that_fails_fails_the_step_although_sockets_are_open() -> None:
    room = Room()

    async def no(_: web.Request) -> web.Response:
        return web.Response(status=402)

    async with serving({"/gifts": no, "/chat": room.socket}) as url, steps(url, viewers=3) as io:
        began = time.monotonic()
        assert await failing(io, gift(within=5000)) == (Phase.GIFT, "http_402")
        assert time.monotonic() - began < 3


async def test_cancelled_amid_waiting_it_leaves_nothing() -> None:
    room = Room(reach=0)
    async with serving(room.routes()) as url, steps(url, viewers=4) as io:
        task = asyncio.create_task(HttpDriver().run(gift(within=30_000), io))
        await wait_until(lambda: room.open_at_post)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_another_kind_of_step_is_our_bug() -> None:
    async with steps("http://127.0.0.1:1") as io:
        with pytest.raises(DriverBug):
            await HttpDriver().run(WaitStep(name="w", duration=1), io)
