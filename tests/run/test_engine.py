"""One run: its steps, its sessions, and what is put back however it ends. Scripted drivers, a platform of a few lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
from aiohttp import web

from probe.clock import SystemClock
from probe.drivers.base import SessionIO, SessionRow, Spec, StepDriver, StepIO
from probe.drivers.fake import FakeDriver
from probe.drivers.http import HttpDriver
from probe.drivers.table import Table
from probe.drivers.wait import WaitDriver
from probe.drivers.websocket import WebsocketDriver
from probe.errors import ConfigError, Failure, Unsupported
from probe.judge import fold, sums
from probe.judge.indicators import MEDIA
from probe.link.path import Path as LinkPath
from probe.model.clock import MS, NS
from probe.model.frames import FrameCode, FrameRecord, PublishRecord, Reading
from probe.model.observation import (
    Available,
    CutBegan,
    CutOutcome,
    Note,
    Observation,
    RequestDone,
    Restored,
    Resumed,
    Role,
    RunEnded,
    SessionBegan,
    SessionEnded,
    StepBegan,
    StepDone,
)
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Outcome, Skipped
from probe.model.stage import Phase, Stage
from probe.net.redact import Redactor
from probe.plan import (
    CutStep,
    Expect,
    FakeStep,
    HttpCall,
    HttpStep,
    Plan,
    PublishStep,
    SecretRef,
    Step,
    ViewSpec,
    ViewStep,
    WaitStep,
    WebsocketStep,
)
from probe.run import engine as module
from probe.run import leftovers, scouts
from probe.run.cuts import run_cut
from probe.run.engine import Engine
from tests.tools import wait_until

RUN, TRACE = 7, 8
T = TypeVar("T", bound=Observation)
Script = Callable[[SessionIO, int], Coroutine[Any, Any, None]]


# -- what it runs with


@dataclass
class Platform:
    """Answers as `answers` says (`METHOD /path` → status), 200 else; keeps what it was asked."""

    url: str = ""
    answers: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    hook: Callable[[], None] = lambda: None  # called with every request

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path_qs}")
        self.hook()
        return web.json_response({"id": "r1"}, status=self.answers.get(f"{request.method} {request.path}", 200))


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    made = Platform()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


@dataclass
class Air:
    """The broadcast between scripted publishers and viewers."""

    on: bool = False
    publish: int = 0
    sequence: int = 0

    def frame(self, io: SessionIO) -> FrameRecord:
        self.sequence += 1
        now = io.clock.now()
        stamp = io.clock.wall(now).unix_ns // MS - 5
        code = FrameCode(run=RUN, trace=TRACE, publish=self.publish, sequence=self.sequence, stamp_ms=stamp)
        return FrameRecord(
            arrived=now, decoded=now, shown=now, media_time=None, size=100, keyframe=False, width=64, height=36,
            reading=Reading.CODE, code=code, black=False, changed=True,
        )  # fmt: skip


@dataclass
class Actor:
    """A session driver: `enter` may raise; then it publishes to the air or watches it. Counts entering and leaving."""

    air: Air
    role: Role
    enter: Script | None = None
    entered: int = 0
    left: int = 0

    @asynccontextmanager
    async def open(self, spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        attempt, self.entered = self.entered, self.entered + 1
        try:
            io.stages.enter(Stage.SIGNAL, io.clock.now())
            if self.enter is not None:
                await self.enter(io, attempt)
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self._publish(spec, io) if self.role is Role.PUBLISHER else self._view(io))
                try:
                    yield
                finally:
                    task.cancel()
        finally:
            self.left += 1

    async def _publish(self, spec: Spec, io: SessionIO) -> None:
        self.air.on, self.air.publish = True, spec.publish
        try:
            while True:
                now = io.clock.now()
                io.feed.post(
                    PublishRecord(at=now, frames=1, bytes=1, keyframe_requests=0, acknowledged=True, late_ns=0, last_ack=now)
                )
                await asyncio.sleep(0.05)
        finally:
            self.air.on = False

    async def _view(self, io: SessionIO) -> None:
        while True:
            if self.air.on:
                io.feed.post(self.air.frame(io))
            await asyncio.sleep(0.02)


@dataclass
class World:
    """Everything one test runs: drivers, table, facts."""

    platform: Platform
    tmp: Path
    air: Air = field(default_factory=Air)
    publisher: Actor = field(init=False)
    viewer: Actor = field(init=False)
    facts: list[Observation] = field(default_factory=list)
    steps: dict[str, StepDriver] = field(default_factory=dict)
    scout: Callable[[Spec, SessionIO], Any] | None = None
    late: bool = False

    def __post_init__(self) -> None:
        self.publisher, self.viewer = Actor(self.air, Role.PUBLISHER), Actor(self.air, Role.VIEWER)

    def table(self) -> Table:
        rows = [
            SessionRow(
                role=Role.PUBLISHER, protocol="whip", driver=self.publisher, stages=(Stage.SIGNAL,), start=NS, stall=NS // 2
            ),
            SessionRow(
                role=Role.VIEWER, protocol="whep", driver=self.viewer, stages=(Stage.SIGNAL,), start=NS, stall=NS // 4,
                max_age=2 * NS, scout=self.scout,
            ),
        ]  # fmt: skip
        steps: dict[str, StepDriver] = {
            "http": HttpDriver(), "wait": WaitDriver(), "fake": FakeDriver(), "websocket": WebsocketDriver(),
        }  # fmt: skip
        return Table({(row.role, row.protocol): row for row in rows}, {**steps, **self.steps})

    def engine(self, *journey: Step, final: tuple[Step, ...] = (), run_id: str = "run-1", **more: Any) -> Engine:
        values: dict[str, Any] = {
            "scenario": "s", "description": "", "owner": "o", "mode": "adhoc", "seed": 1, "region": "r", "publish_region": "r",
            "run_id": run_id, "run_number": RUN, "trace_low": TRACE, "platform_url": self.platform.url, "allow": (),
            "ice_servers": (), "accounts": {}, "secrets": {}, "journey": journey, "final": final,
            "run_deadline": 20 * NS, "reconnect_deadline": NS, **more,
        }  # fmt: skip
        return Engine(
            Plan(**values), clock=SystemClock(), put=self.facts.append, table=self.table(), state=self.tmp, redactor=Redactor()
        )

    def all(self, kind: type[T]) -> list[T]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def outcomes(self) -> dict[str, Outcome]:
        """Every step's outcome; AssertionError where one was told twice."""
        done = self.all(StepDone)
        assert len({fact.step for fact in done}) == len(done)
        return {fact.step: fact.outcome for fact in done}

    def ended(self) -> Outcome:
        (fact,) = self.all(RunEnded)
        assert self.facts[-1] is fact
        return fact.outcome

    def notes(self) -> str:
        return "\n".join(note.text for note in self.all(Note))


@pytest.fixture
def world(platform: Platform, tmp_path: Path) -> World:
    return World(platform, tmp_path)


def fake(name: str, outcome: str = "done", *, took: int = 0, **more: Any) -> FakeStep:
    phase, reason = ("room", "http_500") if outcome == "failed" else ("", "")
    return FakeStep(name=name, outcome=outcome, phase=phase, reason=reason, took=took, **more)


def http(name: str, call: str, **more: Any) -> HttpStep:
    method, _, url = call.partition(" ")
    json = more.pop("json", None)
    return HttpStep(name=name, service="room", call=HttpCall(method=method, url=url, json=json), **more)


PUBLISH = PublishStep(name="publish", protocol="whip", url="/whip")


def view(count: int = 1, url: str = "/whep", **more: Any) -> ViewStep:
    return ViewStep(name="view", views=(ViewSpec(protocol="whep", url=url, count=count, **more),), phase=0)


ROOM = http("room", "POST /rooms", undo=HttpCall(method="DELETE", url="/rooms?tag=${run.tag}"))


def only(outcomes: Mapping[str, Outcome], *names: str) -> list[str]:
    return [outcomes[name].kind for name in names]


# -- steps


async def test_steps_are_taken_in_order_and_every_one_is_told(world: World) -> None:
    outcome = await world.engine(fake("a"), fake("b"), final=(fake("c"),)).run()
    assert list(world.outcomes()) == ["a", "b", "c"]
    assert outcome == world.ended() == Done()


@pytest.mark.parametrize("how", ["failed", "aborted", "cancelled"])
async def test_a_step_that_fails_ends_the_journey_and_not_the_run(how: str, world: World) -> None:
    await world.engine(fake("a", how), fake("b"), final=(fake("end"),)).run()
    assert only(world.outcomes(), "a", "b", "end") == [how, "skipped", "done"]
    assert world.outcomes()["b"] == Skipped("not_reached")
    assert world.ended().kind == how


async def test_an_optional_step_that_fails_ends_nothing(world: World) -> None:
    await world.engine(fake("a", "failed", optional=True), fake("b")).run()
    assert only(world.outcomes(), "a", "b") == ["failed", "done"]
    assert world.ended() == Done()


async def test_finally_steps_run_all_whatever_becomes_of_one(world: World) -> None:
    await world.engine(fake("a"), final=(fake("x", "failed"), fake("y"))).run()
    assert only(world.outcomes(), "x", "y") == ["failed", "done"]


async def test_a_driver_that_breaks_aborts_its_step(world: World) -> None:
    class Broken:
        async def run(self, step: Step, io: StepIO) -> Outcome:
            raise ZeroDivisionError("a bug")

    world.steps["fake"] = Broken()
    await world.engine(fake("a")).run()
    assert world.outcomes()["a"] == Aborted("ZeroDivisionError: a bug")


async def test_the_runs_deadline_aborts_it_and_everything_is_still_put_back(world: World) -> None:
    engine = world.engine(
        ROOM, PUBLISH, WaitStep(name="wait", duration=30 * NS), fake("b"), final=(fake("end"),), run_deadline=NS // 2
    )
    assert isinstance(await engine.run(), Aborted)
    assert only(world.outcomes(), "wait", "b", "end") == ["cancelled", "skipped", "done"]
    assert world.all(SessionEnded)[0].ending == "planned"
    assert world.platform.asked[-1] == "DELETE /rooms?tag=probe-run-1"


@pytest.mark.parametrize(
    "step",
    [
        http("x", "GET /${room}"),
        http("x", "POST /rooms", undo=HttpCall(method="DELETE", url="/rooms/${room}")),
        http("x", "POST /rooms", json={"of": ["${room}"]}),
        http("x", "POST /gifts", seen_by="viewers", socket="/${room}/chat"),
        http("x", "GET /state", expect=Expect(json={"room": "${room}"})),
        PublishStep(name="x", protocol="whip", url="/${room}/whip"),
        ViewStep(name="x", views=(ViewSpec(protocol="whep", url="/${room}/whep"),)),
        WebsocketStep(name="x", url="/${room}/chat", send="hello"),
        WebsocketStep(name="x", url="/chat", send="hello ${room}"),
    ],
    ids=lambda step: step.kind,
)
async def test_what_needs_something_never_provided_was_not_reached(step: Step, world: World) -> None:
    await world.engine(step).run()
    assert world.outcomes()["x"] == Skipped("not_reached", "room was never provided")
    assert world.platform.asked == []
    assert world.all(SessionBegan) == []


# -- secrets


SECRET = SecretRef(name="key", source=("env", "TEST_KEY"), origins=("https://elsewhere.example",))


async def test_a_missing_secret_is_told_before_anything_begins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY", raising=False)
    with pytest.raises(ConfigError, match="TEST_KEY is not set"):
        await world.engine(fake("a"), secrets={"key": SECRET}).run()
    assert world.facts == []


@pytest.mark.parametrize(
    "step",
    [
        http("x", "POST /login", json={"key": "${secret.key}"}),
        WebsocketStep(name="x", url="/chat", send="${secret.key}"),
        CutStep(
            name="x",
            of="platform",
            cut="restart",
            duration=1,
            call=HttpCall(method="POST", url="/admin", headers={"X-Key": "${secret.key}"}),
        ),
    ],
    ids=lambda step: step.kind,
)
async def test_a_secret_is_never_sent_where_the_scenario_does_not_say(
    step: Step, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "hunter22")
    await world.engine(PUBLISH, view(), step, secrets={"key": SECRET}).run()
    assert isinstance(world.outcomes()["x"], Aborted)
    assert world.platform.asked == []
    assert "hunter22" not in repr(world.facts)


# -- interrupted


async def interrupt(engine: Engine, when: Callable[[], Any]) -> None:
    """Run, cancel as soon as `when`, and see it go on its way as a cancellation."""
    task = asyncio.get_running_loop().create_task(engine.run())
    await wait_until(when)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_run_puts_everything_back_and_then_is_cancelled(world: World) -> None:
    engine = world.engine(ROOM, PUBLISH, view(), fake("long", took=30 * NS), fake("b"), final=(fake("end"),))
    await interrupt(engine, lambda: world.all(SessionBegan)[1:] and "view" in world.outcomes())
    assert only(world.outcomes(), "long", "b", "end") == ["cancelled", "skipped", "done"]
    assert [fact.ending for fact in world.all(SessionEnded)] == ["planned", "planned"]
    assert (world.viewer.left, world.publisher.left) == (1, 1)
    assert world.platform.asked[-1] == "DELETE /rooms?tag=probe-run-1"
    assert world.ended() == Cancelled()
    assert list((world.tmp / "ledger").iterdir()) == []


async def test_starts_under_way_when_it_is_cancelled_are_cancelled_not_failed(world: World) -> None:
    async def hang(io: SessionIO, attempt: int) -> None:
        await asyncio.Event().wait()

    world.viewer.enter = hang
    await interrupt(world.engine(PUBLISH, view(3)), lambda: world.viewer.entered == 3)
    ends = {fact.session: fact.outcome.kind for fact in world.all(SessionEnded)}
    assert sorted(ends.values()) == ["cancelled", "cancelled", "cancelled", "done"]
    assert len(world.all(SessionBegan)) == len(ends)
    assert world.outcomes()["view"] == Cancelled()


async def test_a_cancellation_that_comes_while_things_are_put_back_waits_for_it(world: World) -> None:
    engine = world.engine(ROOM, final=(fake("end", took=NS // 2), fake("last")))
    await interrupt(engine, lambda: "end" in {fact.step for fact in world.facts if isinstance(fact, StepBegan)})
    assert only(world.outcomes(), "end", "last") == ["done", "done"]
    assert world.platform.asked[-1] == "DELETE /rooms?tag=probe-run-1"
    assert world.ended() == Cancelled()


async def test_finally_steps_that_time_did_not_reach_are_told_and_the_undo_is_kept_for_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FINISH_SECONDS", 0.3)
    await world.engine(ROOM, final=(fake("end", took=30 * NS), fake("last"))).run()
    assert world.outcomes()["end"] == Cancelled()
    assert world.outcomes()["last"] == Skipped("not_reached")
    assert all(fact.final for fact in world.all(StepDone) if fact.step in ("end", "last"))
    assert "given up" in world.notes()
    assert len(list((world.tmp / "ledger").iterdir())) == 1


async def test_sessions_that_will_not_leave_do_not_keep_the_finally_steps_from_running(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAVE_SECONDS", 0.2)

    @asynccontextmanager
    async def clinging(spec: Spec, io: SessionIO) -> AsyncIterator[None]:
        try:
            async with Actor.open(world.viewer, spec, io):
                yield
        finally:
            await asyncio.sleep(1)

    world.viewer.open = clinging  # type: ignore[method-assign]
    await world.engine(PUBLISH, view(), final=(fake("end"),)).run()
    assert world.outcomes()["end"] == Done()
    assert "had not all left" in world.notes()


@pytest.mark.parametrize("after", range(1, 26, 2))
async def test_wherever_it_is_cancelled_every_beginning_has_one_end_and_nothing_is_left(after: int, world: World) -> None:
    journey = (
        ROOM,
        PUBLISH,
        view(2),
        CutStep(name="cut", of="publisher", cut="drop", duration=NS // 10),
        WaitStep(name="wait", duration=NS // 5),
    )
    await interrupt(world.engine(*journey, final=(fake("end", took=NS // 10),)), lambda: len(world.facts) >= after)
    began = [fact.session for fact in world.all(SessionBegan)]
    assert sorted(began) == sorted(fact.session for fact in world.all(SessionEnded))
    assert len(began) == len(set(began))
    assert set(world.outcomes()) == {*(step.name for step in journey), "end"}
    assert world.outcomes()["end"] == Done()
    assert world.viewer.entered == world.viewer.left
    assert world.publisher.entered == world.publisher.left
    assert world.ended() == Cancelled()
    assert list((world.tmp / "ledger").iterdir()) == []
    found = sums(fold(world.facts).sessions)
    assert found.attempts == len(began)
    assert found.clean["in_flight"] + found.tainted["in_flight"] == 0


# -- the ledger


async def test_what_is_gone_already_counts_as_undone(world: World) -> None:
    world.platform.answers["DELETE /rooms"] = 404
    await world.engine(ROOM).run()
    assert list((world.tmp / "ledger").iterdir()) == []


BY_ID = http("room", "POST /rooms", keep={"room": "id"}, undo=HttpCall(method="DELETE", url="/rooms/${room}"))


async def test_what_the_platform_has_named_is_undone_by_that_name(world: World) -> None:
    await world.engine(BY_ID).run()
    assert world.platform.asked == ["POST /rooms", "DELETE /rooms/r1"]
    assert [(fact.session, fact.purpose) for fact in world.all(RequestDone)] == [("room", "room"), ("room", "undo")]
    assert list((world.tmp / "ledger").iterdir()) == []


async def test_a_name_that_came_before_the_kill_is_known_to_the_sweeper(world: World) -> None:
    world.platform.answers["DELETE /rooms/r1"] = 500
    await world.engine(BY_ID).run()
    world.platform.answers.clear()
    world.platform.asked.clear()
    await World(world.platform, world.tmp).engine(fake("a"), run_id="run-2").run()
    assert world.platform.asked == ["DELETE /rooms/r1"]


async def test_what_was_never_named_is_told_and_not_undone(world: World) -> None:
    world.platform.answers["POST /rooms"] = 500
    await world.engine(BY_ID).run()
    assert world.platform.asked == ["POST /rooms"]
    assert "cannot be named" in world.notes()


async def test_what_creates_something_is_spaced_out_by_the_rate_cap(world: World) -> None:
    rooms = [replace(ROOM, name=f"room-{n}") for n in range(4)]
    await world.engine(*rooms, rate_cap=10.0).run()
    began = [fact.at for fact in world.all(StepBegan)]
    done = [fact.at for fact in world.all(StepDone)]
    assert done[-1] - began[0] >= 3 * NS // 10


async def test_what_could_not_be_undone_is_swept_by_the_next_run(world: World) -> None:
    world.platform.answers["DELETE /rooms"] = 401
    await world.engine(ROOM).run()
    assert "could not be undone" in world.notes()
    world.platform.answers.clear()
    world.platform.asked.clear()
    world.facts.clear()
    await world.engine(fake("a"), run_id="run-2").run()
    assert world.platform.asked == ["DELETE /rooms?tag=probe-run-1"]
    assert "swept what step room of run run-1 had left" in world.notes()
    assert list((world.tmp / "ledger").iterdir()) == []


async def test_two_runs_at_once_leave_each_others_things_alone(world: World, tmp_path: Path) -> None:
    other = World(world.platform, tmp_path)
    async with asyncio.TaskGroup() as group:
        group.create_task(world.engine(ROOM, WaitStep(name="w", duration=NS // 2)).run())
        await wait_until(lambda: "room" in world.outcomes())
        await other.engine(fake("a"), run_id="run-2").run()
        assert not any(asked.startswith("DELETE") for asked in world.platform.asked)
    assert world.platform.asked[-1] == "DELETE /rooms?tag=probe-run-1"


async def test_a_platform_that_hangs_when_it_is_swept_costs_a_run_a_bounded_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.platform.answers["DELETE /rooms"] = 500
    for n in range(3):
        await world.engine(ROOM, run_id=f"old-{n}").run()

    async def hang(*_: Any) -> bool:
        await asyncio.sleep(5)
        return False

    monkeypatch.setattr(leftovers, "_SWEEP_SECONDS", 0.2)
    monkeypatch.setattr(leftovers.Leftovers, "undo", hang)
    world.facts.clear()
    async with asyncio.timeout(3):
        await world.engine(fake("a"), run_id="new").run()
    assert world.outcomes() == {"a": Done()}
    assert "not all swept" in world.notes()


async def test_a_step_cancelled_while_leftovers_are_swept_is_told_as_not_reached(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeping = asyncio.Event()

    async def hang(_: Engine) -> None:
        sweeping.set()
        await asyncio.sleep(5)

    monkeypatch.setattr(leftovers.Leftovers, "sweep", hang)
    await interrupt(world.engine(fake("a")), sweeping.is_set)
    assert world.outcomes()["a"] == Skipped("not_reached")


# -- sessions


async def test_a_view_step_is_done_when_anybody_saw_anything(world: World) -> None:
    async def all_but_one(io: SessionIO, attempt: int) -> None:
        if attempt:
            raise Failure(Phase.SIGNAL, "http_503")

    world.viewer.enter = all_but_one
    await world.engine(PUBLISH, view(3)).run()
    assert world.outcomes()["view"] == Done()
    viewers = [fact.outcome.kind for fact in world.all(SessionEnded)]
    assert sorted(viewers) == ["done", "done", "failed", "failed"]


async def test_a_view_step_that_nobody_saw_fails_and_ends_the_journey(world: World) -> None:
    async def none(io: SessionIO, attempt: int) -> None:
        raise Failure(Phase.SIGNAL, "http_503")

    world.viewer.enter = none
    await world.engine(PUBLISH, view(2), fake("b")).run()
    assert world.outcomes()["view"] == Failed(Phase.SIGNAL, "http_503")
    assert world.outcomes()["b"] == Skipped("not_reached")


async def test_a_view_step_that_cannot_be_supported_is_skipped_and_the_journey_goes_on(world: World) -> None:
    async def none(io: SessionIO, attempt: int) -> None:
        raise Unsupported("offered H264, answered AV1")

    world.viewer.enter = none
    await world.engine(PUBLISH, view(2), fake("b")).run()
    assert only(world.outcomes(), "view", "b") == ["skipped", "done"]


async def test_a_publisher_that_cannot_be_supported_leaves_no_viewer_to_fail_in_its_stead(world: World) -> None:
    async def none(io: SessionIO, attempt: int) -> None:
        raise Unsupported("the answer takes no H.264")

    world.publisher.enter = none
    await world.engine(PUBLISH, view(2)).run()
    assert only(world.outcomes(), "publish", "view") == ["skipped", "skipped"]
    assert world.viewer.entered == 0


async def test_availability_is_told_where_somebody_looked_in_time(world: World) -> None:
    looked = []

    async def scout(spec: Spec, io: SessionIO) -> bool:
        looked.append(io.clock.now())
        return len(looked) > 2

    world.scout = scout
    await world.engine(PUBLISH, view(2)).run()
    (available,) = world.all(Available)
    assert NS // 2 <= available.took < 2 * NS


async def test_a_wait_for_the_first_picture_of_a_stream_tells_its_length(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what came within a second was once told of RTMP and FLV, and a slow platform's availability was nobody's figure."""
    monkeypatch.setattr(scouts, "_WITHIN", NS // 4)

    async def scout(spec: Spec, io: SessionIO) -> bool:
        await asyncio.sleep(0.5)
        return True

    world.scout = scout
    await world.engine(PUBLISH, view(1)).run()
    (available,) = world.all(Available)
    assert NS // 2 <= available.took < NS


async def test_a_look_for_what_is_not_there_yet_is_no_request_of_a_viewer_to_an_edge(world: World) -> None:
    async def scout(spec: Spec, io: SessionIO) -> bool:
        await io.http.request("GET", "http://127.0.0.1:1/live.m3u8", purpose="playlist", phase=Phase.PLAYLIST)
        return True

    world.scout = scout
    await world.engine(PUBLISH, view(1)).run()
    asked = world.all(RequestDone)
    assert asked and not [request.purpose for request in asked if request.purpose in MEDIA]


async def test_of_several_broadcasts_the_first_is_not_charged_with_the_start_of_the_next(world: World) -> None:
    async def second_is_slow(io: SessionIO, attempt: int) -> None:
        if attempt:
            await asyncio.sleep(0.8)

    async def scout(spec: Spec, io: SessionIO) -> bool:
        return True

    world.scout, world.publisher.enter = scout, second_is_slow
    first, second = replace(PUBLISH, name="first"), replace(PUBLISH, name="second")
    await world.engine(first, second, view(1, of=("first",)), replace(view(1, of=("second",)), name="other")).run()
    found = world.all(Available)
    assert len(found) == 2
    assert all(fact.took < NS // 4 for fact in found), "it was once told as .8 s and more"


async def test_availability_is_looked_for_while_the_journey_does_something_else(world: World) -> None:
    async def scout(spec: Spec, io: SessionIO) -> bool:
        return True

    world.scout = scout
    await world.engine(PUBLISH, WaitStep(name="wait", duration=NS), view()).run()
    (available,) = world.all(Available)
    assert available.took < NS // 4


async def test_availability_is_not_told_where_nobody_could_look_until_long_after(world: World) -> None:
    async def scout(spec: Spec, io: SessionIO) -> bool:
        return True

    world.scout = scout
    kept = http("list", "GET /rooms", keep={"late": "id"})
    await world.engine(PUBLISH, WaitStep(name="wait", duration=NS // 2), kept, view(url="/r/${late}")).run()
    assert world.all(Available) == []
    assert world.viewer.entered == 1


async def test_a_look_that_gave_up_before_anybody_viewed_is_made_again_for_them(world: World) -> None:
    looked = 0

    async def scout(spec: Spec, io: SessionIO) -> bool:
        nonlocal looked
        looked += 1
        return world.late

    world.scout = scout

    class Opens:
        async def run(self, step: Step, io: StepIO) -> Outcome:
            await asyncio.sleep(0.6)
            world.late = True
            return Done()

    world.steps["fake"] = Opens()
    await world.engine(PUBLISH, fake("opens"), view(1, start=NS // 4)).run()
    assert world.all(Available) == []
    assert looked >= 2
    assert world.viewer.entered == 1


async def test_a_bug_in_a_look_breaks_the_view_and_nothing_else(world: World) -> None:
    async def scout(spec: Spec, io: SessionIO) -> bool:
        raise ZeroDivisionError("a bug")

    world.scout = scout
    await world.engine(PUBLISH, fake("between"), view()).run()
    outcomes = world.outcomes()
    assert outcomes["between"] == Done()
    assert isinstance(outcomes["view"], Aborted) and "a bug" in outcomes["view"].detail


async def test_a_run_that_ends_early_leaves_no_look_behind(world: World) -> None:
    asked = asyncio.Event()

    async def scout(spec: Spec, io: SessionIO) -> bool:
        asked.set()
        await asyncio.Event().wait()
        return False

    class Fails:
        async def run(self, step: Step, io: StepIO) -> Outcome:
            await asked.wait()
            return Failed(Phase.ROOM, "http_503")

    world.scout, world.steps["fake"] = scout, Fails()
    async with asyncio.timeout(5):
        await world.engine(PUBLISH, fake("fails"), view()).run()
    assert world.viewer.entered == 0


# -- cuts


async def test_a_run_cancelled_during_a_cut_gives_the_path_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []
    for name in ("cut", "restore"):
        monkeypatch.setattr(LinkPath, name, lambda _, name=name: did.append(name))
    engine = world.engine(
        PUBLISH, view(2, impaired=frozenset({"flap"})), CutStep(name="cut", of="viewers", cut="flap", duration=30 * NS)
    )
    await interrupt(engine, lambda: did == ["cut", "cut"])
    assert did == ["cut", "cut", "restore", "restore"]
    assert world.outcomes()["cut"] == Cancelled()
    assert world.all(Resumed) == []


async def test_a_cut_with_nobody_playing_is_skipped(world: World) -> None:
    await world.engine(PUBLISH, CutStep(name="cut", of="viewers", cut="flap", duration=NS)).run()
    assert world.outcomes()["cut"] == Skipped("nothing_to_cut", "viewers: nobody had a stream that could be cut")


@pytest.mark.parametrize("cut", ["flap", "rebind"])
async def test_viewers_that_lost_their_stream_before_the_cut_are_told_so(cut: str) -> None:
    lost: Any = SimpleNamespace(playing=False, outcome=Done(), path=None)
    sessions: Any = SimpleNamespace(viewers=lambda _: [lost], publishers=list)
    step, io = CutStep(name="cut", of="viewers", cut=cut, duration=NS), SimpleNamespace()
    outcome = await run_cut(step, sessions, cast(StepIO, io))
    assert isinstance(outcome, Skipped) and "lost their stream before the cut" in outcome.detail


async def test_a_publisher_that_drops_is_back_with_its_viewers(world: World) -> None:
    await world.engine(PUBLISH, view(2), CutStep(name="cut", of="publisher", cut="drop", duration=NS // 2)).run()
    assert world.outcomes()["cut"] == Done()
    ends = world.all(Resumed)
    assert [end.outcome for end in ends] == [CutOutcome.RESTARTED] * 3
    assert all(end.reconnect is not None for end in ends)
    assert [fact.ending for fact in world.all(SessionEnded)] == ["planned"] * 3


async def test_a_publisher_that_never_comes_back_restores_nothing_for_its_viewers(world: World) -> None:
    async def once(io: SessionIO, attempt: int) -> None:
        if attempt:
            raise Failure(Phase.SIGNAL, "http_503")

    world.publisher.enter = once
    await world.engine(PUBLISH, view(), CutStep(name="cut", of="publisher", cut="drop", duration=NS // 10)).run()
    publisher, viewer = (fact.session for fact in world.all(SessionBegan))
    assert [fact.session for fact in world.all(Restored)] == [publisher]
    failed = {fact.session: fact.outcome for fact in world.all(Resumed)}
    assert failed == {publisher: CutOutcome.FAILED, viewer: CutOutcome.FAILED}


def switch(**more: Any) -> CutStep:
    call = HttpCall(method="POST", url="/admin/restart")
    return CutStep(name="cut", of="platform", cut="restart", duration=NS // 5, call=call, **more)


async def test_a_switch_that_fails_has_cut_nobody_and_leaves_no_cut_open(world: World) -> None:
    world.platform.answers["POST /admin/restart"] = 503
    await world.engine(PUBLISH, view(), switch(optional=True), WaitStep(name="w", duration=NS)).run()
    assert world.outcomes()["cut"] == Failed(Phase.ROOM, "http_503", world.outcomes()["cut"].detail)  # type: ignore[union-attr]
    assert {fact.outcome for fact in world.all(Resumed)} == {CutOutcome.UNAFFECTED}
    assert len(world.all(Resumed)) == len(world.all(CutBegan))
    assert world.all(Restored) == []


async def test_a_restarted_platform_is_what_its_publisher_was_interrupted_by_too(world: World) -> None:
    async def down_for_a_while(io: SessionIO, attempt: int) -> None:
        if 0 < attempt < 3:
            raise Failure(Phase.CONNECT, "refused")

    world.publisher.enter = down_for_a_while

    def killed() -> None:
        for stay in engine._sessions.publishers():
            assert stay.feed is not None
            stay.feed.close(Failure(Phase.PLAYING, "ended", "the server went away"))

    world.platform.hook = killed
    engine = world.engine(PUBLISH, view(), switch())
    await engine.run()
    assert {(fact.kind, fact.outcome) for fact in world.all(Resumed)} >= {("restart", CutOutcome.RESTARTED)}
    assert "unplanned" not in {fact.kind for fact in world.all(Resumed)}
    assert all(fact.reconnect is None for fact in world.all(Resumed))
