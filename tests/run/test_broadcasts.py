"""Several broadcasts in one run, and rooms not ours: whom each viewer watches, and what one failure costs the others."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from probe.drivers.base import SessionIO, Spec
from probe.errors import Failure
from probe.model.observation import Role, SessionBegan, SessionEnded
from probe.model.outcome import Aborted, Done, Failed, Skipped
from probe.model.stage import Phase, Stage
from probe.plan import Access, IceServer, PublishStep, SecretRef, ViewSpec, ViewStep
from tests.run.test_engine import Platform, World, fake, http, platform, view

__all__ = ["platform"]

A = PublishStep(name="go-a", protocol="whip", url="/whip/a", stream="a")
B = PublishStep(name="go-b", protocol="whip", url="/whip/b", stream="b")
WATCH = ViewStep(
    name="view",
    views=tuple(ViewSpec(protocol="whep", url="/rooms/${stream}/whep", of=(step.name,)) for step in (A, B)),
    phase=0,
)


@pytest.fixture
def world(platform: Platform, tmp_path: Path) -> World:
    return World(platform, tmp_path)


def viewers(world: World) -> dict[str, object]:
    """Outcome of each viewer by whom it watches."""
    whose = {fact.session: fact.of for fact in world.all(SessionBegan) if fact.role is Role.VIEWER}
    return {whose[fact.session]: fact.outcome for fact in world.all(SessionEnded) if fact.session in whose}


async def test_a_viewer_accepts_the_code_of_the_broadcast_it_watches_and_no_other(world: World) -> None:
    await world.engine(A, B, WATCH).run()
    seen = viewers(world)  # on this air only the newest broadcast is ever seen
    assert isinstance(seen["go-b"], Done)
    assert isinstance(failed := seen["go-a"], Failed) and (failed.phase, failed.reason) == (Phase.FIRST_FRAME, "foreign")
    began = [fact for fact in world.all(SessionBegan) if fact.role is Role.VIEWER]
    assert {fact.ingest for fact in began} == {"whip"} and [fact.name for fact in began] == ["whep-1", "whep-2"]


async def test_the_address_is_that_of_the_stream(world: World) -> None:
    asked: list[str] = []
    opened = world.viewer.open

    def noting(spec: Spec, io: SessionIO) -> AbstractAsyncContextManager[None]:
        asked.append(spec.url.removeprefix(world.platform.url))
        return opened(spec, io)

    world.viewer.open = noting  # type: ignore[method-assign, assignment]
    await world.engine(A, B, WATCH).run()
    assert set(asked) == {"/rooms/a/whep", "/rooms/b/whep"}


async def test_one_broadcast_that_fails_does_not_keep_the_other_from_being_watched(world: World) -> None:
    async def only_b(io: SessionIO, attempt: int) -> None:
        if attempt == 0:
            raise Failure(Phase.CONNECT, "refused")

    world.publisher.enter = only_b
    await world.engine(A, B, WATCH).run()
    seen = viewers(world)
    assert isinstance(seen["go-b"], Done)
    assert seen["go-a"] == Skipped("no_publisher", "go-a never went live")
    assert isinstance(world.ended(), Failed)


async def test_where_every_broadcast_fails_nobody_is_sent_to_watch(world: World) -> None:
    async def never(io: SessionIO, attempt: int) -> None:
        raise Failure(Phase.CONNECT, "refused")

    world.publisher.enter = never
    await world.engine(A, B, WATCH, fake("after")).run()
    assert viewers(world) == {} and isinstance(world.outcomes()["after"], Skipped)


async def test_a_list_is_watched_item_by_item_up_to_its_limit(world: World) -> None:
    async def on(io: SessionIO, attempt: int) -> None:
        world.air.on = True

    world.viewer.enter = on
    rooms = http("list", "GET /rooms", keep={"rooms": "[id, id, id]"})
    await world.engine(rooms, view(url="/r/${item}", verify="moving", over="rooms", at_most=2)).run()
    ended = [fact.outcome for fact in world.all(SessionEnded)]
    assert ended == [Done(), Done()]
    assert {(fact.verify, fact.of, fact.ingest) for fact in world.all(SessionBegan)} == {("moving", "", "")}


async def test_what_is_no_list_is_told_and_nobody_is_sent(world: World) -> None:
    rooms = http("list", "GET /rooms", keep={"rooms": "id"})
    await world.engine(rooms, view(url="/r/${item}", verify="moving", over="rooms")).run()
    outcome = world.outcomes()["view"]
    assert isinstance(outcome, Failed) and "rooms is not a list" in outcome.detail
    assert not world.all(SessionBegan)


async def test_a_stream_key_goes_only_where_the_scenario_says(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cret-stream-key")
    secrets = {"key": SecretRef(name="key", source=("env", "KEY"), origins=("rtmp://elsewhere.example",))}
    keyed = PublishStep(name="go", protocol="whip", url="rtmp://ingest.example/live", access=Access(key="${secret.key}"))
    await world.engine(keyed, secrets=secrets).run()
    outcome = world.outcomes()["go"]
    assert isinstance(outcome, Aborted) and "not for rtmp://ingest.example" in outcome.detail
    assert world.publisher.entered == 0
    assert "s3cret" not in repr(world.facts)


@pytest.mark.parametrize(("meant_for", "kind"), [("turn://turn.example:3478", "done"), ("https://platform.example", "aborted")])
async def test_a_turn_secret_goes_only_where_the_scenario_says(
    world: World, monkeypatch: pytest.MonkeyPatch, meant_for: str, kind: str
) -> None:
    monkeypatch.setenv("RELAY", "s3cret-of-the-relay")
    secrets = {"relay": SecretRef(name="relay", source=("env", "RELAY"), origins=(meant_for,))}
    server = IceServer(url="turn:TURN.example?transport=tcp", username="probe", credential="${secret.relay}")
    seen: list[Spec] = []
    opened = world.publisher.open

    def noting(spec: Spec, io: SessionIO) -> AbstractAsyncContextManager[None]:
        seen.append(spec)
        return opened(spec, io)

    world.publisher.open = noting  # type: ignore[method-assign, assignment]
    table = world.table()
    rows = {key: replace(row, stages=(Stage.SIGNAL, Stage.ICE)) for key, row in table.sessions.items()}
    world.table = lambda: type(table)(rows, table.steps)  # type: ignore[method-assign]
    await world.engine(A, secrets=secrets, ice_servers=(server,)).run()
    assert world.outcomes()["go-a"].kind == kind
    assert [spec.ice_servers[0].credential for spec in seen] == (["s3cret-of-the-relay"] if kind == "done" else [])
    assert "s3cret" not in repr(world.facts) + repr(seen)
