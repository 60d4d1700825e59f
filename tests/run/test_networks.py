"""Sessions whose device has a network go through it, by a chance that the plan's seed decides."""

from __future__ import annotations

from dataclasses import replace

from probe.drivers.base import SessionIO
from probe.link.path import Path
from probe.model.observation import SessionEnded
from probe.plan import Device, Network
from tests.link.test_network import tunnel
from tests.link.test_path import until
from tests.run.test_engine import PUBLISH, World, platform, view, world

__all__ = ["platform", "world"]  # fixtures

LOSSY = Device(name="lossy", network=Network(loss=0.3))


async def fate(path: Path) -> tuple[int, ...]:
    """Which of a hundred datagrams the path lets through."""
    async with tunnel(path) as (client, server, to):
        for n in range(100):
            client.transport.sendto(bytes([n]), to)
        await until(lambda: path.up.packets + path.up.lost == 100)
        return tuple([(await server.next())[0][0] for _ in range(path.up.packets)])


async def fates(world: World, seed: int = 1) -> list[tuple[int, ...] | None]:
    """Those of the publisher and of two viewers; None where a session has no path."""
    found: list[tuple[int, ...] | None] = []

    async def enter(io: SessionIO, attempt: int) -> None:
        found.append(await fate(io.path) if io.path is not None else None)

    world.publisher.enter = world.viewer.enter = enter
    await world.engine(replace(PUBLISH, device=LOSSY), view(device=LOSSY), replace(view(), name="other"), seed=seed).run()
    return found


async def test_a_publisher_and_a_viewer_have_paths_of_their_own_and_the_default_device_none(world: World) -> None:
    publisher, viewer, other = await fates(world)
    assert other is None
    assert publisher and viewer and publisher != viewer
    assert len(publisher) < 100


async def test_the_same_seed_brings_the_same_fate_and_another_another(world: World) -> None:
    first, second, third = await fates(world), await fates(world), await fates(world, seed=2)
    assert first == second
    assert first[:2] != third[:2]


async def test_what_the_network_did_stands_in_the_sessions_facts(world: World) -> None:
    found = await fates(world)
    ended = [fact.facts for fact in world.all(SessionEnded)]
    assert [("network up" in facts) for facts in ended].count(True) == 2
    assert any(facts.get("network up", "").startswith(f"{len(found[0] or ())} datagrams, ") for facts in ended)
