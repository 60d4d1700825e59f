"""Our own clients' paths and crowds: real paths, and an audience that is only counted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import psutil
import pytest

from probe.clock import SystemClock
from probe.drill.faults.base import Klass, State
from probe.link.path import Path
from tests.drill.host.tools import Course, prepared

LINK = [
    {"network": {"loss": "20%", "delay": "10ms"}},
    {"cut": "down"},
    {"cut": "rebind"},
    {"flap": {"down": "50ms", "up": "50ms"}},
    {"resolves_to": "127.66.66.66"},
]


@dataclass
class Audience:
    """Clients by what they do to whom; `everyone` plays."""

    everyone: dict[str, list[Path]]
    gone: dict[str, int] = field(default_factory=dict)
    crowd: int = 0
    room: int = 100
    acts: dict[str, tuple[str, Callable[[Path], object]]] = field(default_factory=dict)

    def paths(self, who: str) -> list[Path]:
        return list(self.everyone[who])

    def arriving(self, token: str, who: str, act: Callable[[Path], object] | None) -> None:
        if act is None:
            self.acts.pop(token, None)
        else:
            self.acts[token] = who, act

    def comes(self, who: str, path: Path) -> None:
        for whom, act in self.acts.values():
            if whom == who:
                act(path)
        self.everyone[who].append(path)

    def playing(self, who: str) -> int:
        return len(self.everyone[who]) - self.gone.get(who, 0)

    def away(self, who: str) -> int:
        return self.gone.get(who, 0)

    async def depart(self, who: str) -> int:
        self.gone[who] = len(self.everyone[who])
        return self.gone[who]

    async def come_back(self, who: str) -> int:
        return self.gone.pop(who, 0)

    async def join(self, count: int, within: int) -> int:
        self.crowd = min(count, self.room)
        return self.crowd

    def joined(self) -> int:
        return self.crowd

    async def leave(self) -> None:
        self.crowd = 0


@pytest.fixture
async def audience() -> AsyncIterator[Audience]:
    clock = SystemClock()
    paths = [Path(clock) for _ in range(3)]
    one = Audience({"viewers": paths[:2], "publisher": paths[2:], "nobody": []})
    yield one
    for path in (path for group in one.everyone.values() for path in group):
        await path.close()


async def course(audience: Audience, kind: str, words: dict) -> Course:
    made = await prepared(kind, words)
    made.io = replace(made.io, clients=audience)
    assert made.prepared.klass is Klass.SELF_HEALING
    return made


def untouched(path: Path) -> bool:
    return not (path.is_cut or path.flapping or path.astray or path.network)


@pytest.mark.parametrize("words", LINK, ids=lambda words: "-".join(map(str, words)))
async def test_a_path_is_broken_and_put_back(audience: Audience, words: dict) -> None:
    link = await course(audience, "link", words)
    await link.restore()
    assert (await link.look()).state is State.RESTORED
    await link.inject()
    assert (await link.look()).state is State.INJECTED
    assert not any(untouched(path) for path in audience.paths("viewers"))
    assert all(untouched(path) for path in audience.paths("publisher"))
    await link.restore()
    await link.restore()
    assert (await link.look()).state is State.RESTORED
    assert all(untouched(path) for path in audience.paths("viewers"))


async def test_who_comes_meanwhile_is_hit_and_put_back_too(audience: Audience) -> None:
    link = await course(audience, "link", {"cut": "down"})
    await link.inject()
    audience.comes("viewers", Path(SystemClock()))
    assert (await link.look()).state is State.INJECTED
    await link.restore()
    audience.comes("viewers", Path(SystemClock()))
    assert all(untouched(path) for path in audience.paths("viewers"))


async def test_half_put_back_is_not_put_back(audience: Audience) -> None:
    link = await course(audience, "link", {"cut": "down"})
    await link.inject()
    audience.paths("viewers")[0].restore()
    assert (await link.look()).state is State.UNKNOWN


async def test_a_network_that_somebody_else_made_is_left_alone(audience: Audience) -> None:
    lossy, slow = [await course(audience, "link", {"network": words}) for words in ({"loss": "5%"}, {"delay": "9ms"})]
    await slow.inject()
    await lossy.restore()
    assert (await slow.look()).state is State.INJECTED


async def test_nobody_there_is_no_fault_and_everybody_gone_is_none_either(audience: Audience) -> None:
    link = await course(audience, "link", {"who": "nobody", "cut": "down"})
    with pytest.raises(ValueError, match="no path of nobody"):
        await link.inject()
    assert (await link.look()).state is State.GONE


@pytest.mark.parametrize(
    "words",
    [{}, {"cut": "down", "resolves_to": "127.0.0.9"}, {"resolves_to": "a.example"}, {"cut": "up"}, {"network": {"loss": "99%"}}],
)
async def test_a_path_is_told_one_thing(words: dict) -> None:
    with pytest.raises(ValueError):  # pydantic's, each with words of its own
        await prepared("link", words)


async def test_a_stampede_is_there_while_people_are_kept_away_whatever_the_platform_does(audience: Audience) -> None:
    storm = await course(audience, "viewer-storm", {"do": "stampede"})
    assert storm.prepared.targets == ("clients:viewers",)
    assert (await storm.look()).state is State.RESTORED
    await storm.inject()
    assert (await storm.look()).state is State.INJECTED
    await storm.restore()
    assert (await storm.look()).state is State.RESTORED


async def test_a_crowd_comes_and_goes_and_one_that_cannot_begin_is_told(audience: Audience) -> None:
    storm = await course(audience, "viewer-storm", {"do": "join", "count": 20, "within": "2s"})
    assert storm.prepared.targets == ("clients:crowd",)
    await storm.inject()
    assert (await storm.look()).state is State.INJECTED
    await storm.restore()
    assert (await storm.look()).state is State.RESTORED
    audience.room = 3
    with pytest.raises(ValueError, match="3 of 20 could join"):
        await storm.inject()


async def test_a_publisher_drops_out_and_returns(audience: Audience) -> None:
    storm = await course(audience, "publisher-storm", {"drop": True})
    await storm.inject()
    assert ((await storm.look()).state, audience.playing("publisher"), audience.playing("viewers")) == (State.INJECTED, 0, 2)
    await storm.restore()
    await storm.restore()
    assert ((await storm.look()).state, audience.playing("publisher")) == (State.RESTORED, 1)


async def test_a_publishers_network_flaps_and_its_viewers_do_not(audience: Audience) -> None:
    storm = await course(audience, "publisher-storm", {"flap": {"down": "50ms", "up": "50ms"}})
    await storm.inject()
    assert (await storm.look()).state is State.INJECTED
    assert all(untouched(path) for path in audience.paths("viewers"))
    await storm.restore()
    assert untouched(audience.paths("publisher")[0])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("viewer-storm", {"do": "join"}),
        ("viewer-storm", {"do": "stampede", "count": 3}),
        ("viewer-storm", {"do": "stampede", "within": "1s"}),
        ("viewer-storm", {"do": "join", "count": 3, "who": "whep"}),
        ("publisher-storm", {}),
        ("publisher-storm", {"drop": True, "flap": {"down": "1s", "up": "1s"}}),
    ],
)
async def test_a_storm_that_makes_no_sense_is_refused(kind: str, words: dict) -> None:
    with pytest.raises(ValueError):  # as above
        await prepared(kind, words)


@pytest.mark.parametrize(
    ("kind", "words"), [("link", {"cut": "down"}), ("viewer-storm", {"do": "stampede"}), ("publisher-storm", {"drop": True})]
)
async def test_another_process_sees_only_whether_theirs_runs(kind: str, words: dict) -> None:
    made = await prepared(kind, words)
    assert made.prepared.limit == "it ends with the process whose clients they are"
    with pytest.raises(ValueError, match="no clients in this process"):
        await made.inject()
    await made.restore()
    assert (await made.look()).state is State.UNKNOWN
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    theirs = {**made.record, "process": [child.pid, psutil.Process(child.pid).create_time()]}
    assert (await made.fault.observe(theirs, made.io)).state is State.UNKNOWN
    child.communicate(b"\n")
    assert (await made.fault.observe(theirs, made.io)).state is State.GONE
