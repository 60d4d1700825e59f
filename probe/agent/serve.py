"""Everything an agent is made of, opened in order and closed in the other: store, telemetry, workers, schedule, HTTP service.

What must be there before the first run is the workers alone. A store or a collector that is away is waited for by its queue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.agent.agent import Agent
from probe.agent.claim import claimed
from probe.agent.desk import Desk
from probe.agent.drills import DrillWatch
from probe.agent.figures import AgentFigures
from probe.agent.handover import HandOver
from probe.agent.loading import Loaded
from probe.agent.pool import Pool
from probe.agent.releases import EVENT
from probe.agent.reload import Configuration
from probe.agent.runs import Runs
from probe.agent.seed import Seed
from probe.agent.service.listening import serving
from probe.clock import SystemClock
from probe.errors import ConfigError, Located
from probe.export.prometheus import MetricsSink
from probe.export.spool import SpoolInUse
from probe.export.spool_figures import SpoolFigures
from probe.export.telemetry import Settings, Telemetry
from probe.model.clock import NS
from probe.net.redact import Redactor
from probe.net.secret import revealed
from probe.store.address import resolve
from probe.store.errors import StoreError, StoreRefused
from probe.store.lease import Lease
from probe.store.records import Event
from probe.store.retention import Retention
from probe.store.store import Store

_log = logging.getLogger(__name__)
_TICK = 5.0  # s between looks at what the parts count themselves
_FIRST_PRUNE, _PRUNE = 60.0, 3600.0  # s; soon, for an agent that never lives for an hour


@dataclass(frozen=True, slots=True)
class Parts:
    """An agent that is open."""

    agent: Agent
    desk: Desk
    pool: Pool
    store: Store
    metrics: MetricsSink
    port: int | None  # of the HTTP service, where there is one


@asynccontextmanager
async def opened(
    configuration: Configuration,
    clock: SystemClock,
    redactor: Redactor,
    seed: Seed | None = None,
    *,
    listen: bool = True,
    hand: HandOver | None = None,
) -> AsyncIterator[Parts]:
    """`seed`: of the workers, where one could be sown; `listen`: whether there is an HTTP service; `hand`: through which its runs
    go to an agent that then tells of them, instead of by telemetry of its own. Raises ConfigError where the
    state directory, the store or the address to listen at is of no use, or another agent has the directory."""
    try:
        async with AsyncExitStack() as stack:
            parts = await _open(stack, configuration, clock, redactor, seed, listen=listen, hand=hand)
            yield parts
    except BaseExceptionGroup as group:
        raise _alone(group) from group  # what we are made of are groups of tasks, and each would wrap it
    except SpoolInUse as error:
        raise _mistake("state", str(error)) from error
    except StoreRefused as error:
        raise _mistake("store", str(error)) from error
    _log.info("the agent has ended; %d records wait for the database", parts.store.behind)


async def _open(
    stack: AsyncExitStack,
    configuration: Configuration,
    clock: SystemClock,
    redactor: Redactor,
    seed: Seed | None,
    *,
    listen: bool,
    hand: HandOver | None,
) -> Parts:
    loaded = configuration.loaded
    config, workers = loaded.config, loaded.config.workers
    before = stack.enter_context(claimed(loaded.state, config.agent))
    metrics = MetricsSink()
    figures = AgentFigures(metrics, loaded.region)
    await asyncio.to_thread(figures.declare, loaded)  # before the collector is told anything: what it hears first is 0
    url = _address(loaded, redactor, apart=hand is not None)
    retention = Retention(keep=config.store.keep, keep_reports=config.store.keep_reports)
    store = await stack.enter_async_context(
        Store.opened(url, clock, loaded.state / "outbox", retention=retention, lease=_lease(loaded))
    )
    names = {config.agent, before} - {""}
    if aborted := sum([await store.abort_in_flight(name) for name in names]):
        _log.warning("%d runs were under way when the last agent here ended; they are recorded as aborted", aborted)
    telemetry = await stack.enter_async_context(
        Telemetry.opened(_collector(loaded, redactor, silent=hand is not None), metrics.figures, clock, loaded.state / "spool")
    )
    pool = await stack.enter_async_context(
        Pool.started(workers.count, recycle=workers.recycle, grace=workers.grace, clock=clock, seed=seed)
    )
    given = None if hand is None else hand.add
    runs = Runs(config.agent, pool, metrics, store, telemetry, clock, redactor, given)
    agent = Agent(
        configuration, runs=runs, figures=figures, put=store.put, clock=clock, rng=random.SystemRandom(), redactor=redactor
    )
    agent.remember_releases(await _released(store))
    await agent.gates.begin(store, agent.past)
    drills = DrillWatch(lambda: agent.loaded, metrics.figures, store, clock)
    desk = Desk(agent, runs, metrics, store, clock, (lambda: [pool.trouble] if pool.trouble else [],))
    await stack.enter_async_context(_beside(_watch(metrics, loaded.region, pool, store), _prune(store), drills.run()))
    port = None
    if listen:
        port = await stack.enter_async_context(serving(desk, config.host_and_port, loaded.web, clock))
    return Parts(agent, desk, pool, store, metrics, port)


async def _released(store: Store) -> list[Event]:
    """What is recorded of releases. Nothing where the records are away: the next one seen is then the first."""
    try:
        return await store.events(EVENT, limit=1000)
    except StoreError as error:
        _log.warning("which releases were seen before is not known: %s", error)
        return []


@asynccontextmanager
async def _beside(*watches: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """They go on while the block lasts."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watch) for watch in watches]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def _alone(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one thing that went wrong; the group itself where there are several."""
    only: BaseException = group
    while isinstance(only, BaseExceptionGroup) and len(only.exceptions) == 1:
        only = only.exceptions[0]
    return only


def _collector(loaded: Loaded, redactor: Redactor, *, silent: bool) -> Settings:
    """Where telemetry goes: as the configuration says, else as the standard variables do; nowhere where it is to be `silent`."""
    wanted = loaded.config.telemetry

    def headers() -> dict[str, str]:
        return {name: revealed(reference.source, redactor) for name, reference in wanted.headers.items()}

    certificate = os.environ.get("OTEL_EXPORTER_OTLP_CERTIFICATE")
    return Settings(
        endpoint="" if silent else wanted.endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
        region=loaded.region,
        instance=loaded.config.agent,
        headers=headers,
        every=wanted.metrics / NS,
        share=wanted.traces,
        limit=wanted.spool,
        certificate=Path(certificate) if certificate else None,
    )


async def _watch(metrics: MetricsSink, region: str, pool: Pool, store: Store) -> None:
    """What the parts count themselves becomes figures."""
    labels = {"region": region}
    outbox = SpoolFigures(metrics.figures, store.outbox, ("refused",))
    metrics.figures.touch("self_store_errors_total", labels)
    errors = 0
    while True:
        metrics.figures.set("self_workers_ready", labels, pool.ready)
        metrics.figures.set("self_store_behind", labels, store.behind)
        metrics.figures.add("self_store_errors_total", labels, store.errors - errors)
        errors = store.errors
        outbox.refresh()
        await asyncio.sleep(_TICK)


async def _prune(store: Store) -> None:
    await asyncio.sleep(_FIRST_PRUNE)
    while True:
        try:
            await store.prune()
        except Exception as error:
            _log.warning("old records were not removed: %s", error)
        await asyncio.sleep(_PRUNE)


def _address(loaded: Loaded, redactor: Redactor, *, apart: bool) -> str:
    """The store's URL; one that comes by reference is a secret. `apart`: a file of its own, for another agent keeps its records
    and would take them for its own."""
    setting = "sqlite" if apart else loaded.config.store.url
    url = resolve(setting if isinstance(setting, str) else setting.source, loaded.state)
    if not isinstance(setting, str):
        redactor.add(url)
    return url


def _lease(loaded: Loaded) -> Lease:
    """Of our name, from our state directory, which is known by a word that is kept in it."""
    file, host = loaded.state / "place", socket.gethostname()
    place = ""
    with suppress(OSError):  # a full disk keeps nobody from being an agent
        if not file.exists():
            file.write_text(secrets.token_hex(16))
        place = file.read_text().strip()
    return Lease(agent=loaded.config.agent, place=place or f"{host}:{loaded.state}", host=host, pid=os.getpid())


def _mistake(field: str, words: str) -> ConfigError:
    return ConfigError([Located("agent.yaml", 0, 0, field, words)])
