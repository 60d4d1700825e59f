"""Everything an agent is made of, opened in order and closed in the other: store, telemetry, workers, schedule, HTTP service.

What must be there before the first run is the workers alone. A store or a collector that is away is waited for by its queue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from probe.agent.agent import Agent
from probe.agent.desk import Desk
from probe.agent.loading import Loaded
from probe.agent.pool import Pool
from probe.agent.runs import Runs
from probe.agent.service.listening import serving
from probe.agent.seed import Seed
from probe.clock import SystemClock
from probe.errors import ConfigError, Located
from probe.export.prometheus import MetricsSink
from probe.export.telemetry import Settings, Telemetry
from probe.model.clock import NS
from probe.net.redact import Redactor
from probe.net.secret import read_secret
from probe.store.retention import Retention
from probe.store.store import Store

_log = logging.getLogger(__name__)
_TICK = 5.0  # s between looks at what the parts count themselves
_PRUNE = 3600.0


@dataclass(frozen=True, slots=True)
class Parts:
    """An agent that is open."""

    agent: Agent
    desk: Desk
    pool: Pool
    store: Store
    port: int | None  # of the HTTP service, where there is one


@asynccontextmanager
async def opened(
    loaded: Loaded,
    read: Callable[[], Loaded],
    clock: SystemClock,
    redactor: Redactor,
    seed: Seed | None = None,
    *,
    listen: bool = True,
) -> AsyncIterator[Parts]:
    """`seed`: of the workers, where one could be sown; `listen`: whether there is an HTTP service. Raises ConfigError where the
    state directory, the store's address or the one to listen at is of no use, SpoolInUse where another agent has the directory,
    StoreRefused where waiting for the database will not help."""
    config = loaded.config
    _usable(loaded.state)
    metrics = MetricsSink()
    async with AsyncExitStack() as stack:
        url = _address(loaded, redactor)
        retention = Retention(keep=config.store.keep, keep_reports=config.store.keep_reports)
        store = await stack.enter_async_context(Store.opened(url, clock, loaded.state / "outbox", retention=retention))
        await store.abort_in_flight(config.agent)
        telemetry = await stack.enter_async_context(
            Telemetry.opened(_collector(loaded, redactor), metrics.figures, clock, loaded.state / "spool")
        )
        workers = config.workers
        pool = await stack.enter_async_context(
            Pool.started(workers.count, recycle=workers.recycle, grace=workers.grace, clock=clock, seed=seed)
        )
        runs = Runs(config.agent, pool, metrics, store, telemetry, clock, redactor)
        agent = Agent(loaded, read, runs=runs, metrics=metrics, put=store.put, clock=clock, rng=random.SystemRandom())
        desk = Desk(agent, runs, metrics, store, clock, (lambda: [pool.trouble] if pool.trouble else [],))
        port = None
        if listen:
            port = await stack.enter_async_context(serving(desk, config.host_and_port, loaded.web, clock))
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch(metrics, loaded.region, pool, store), name="figures")
            pruning = group.create_task(_prune(store), name="retention")
            try:
                yield Parts(agent, desk, pool, store, port)
            finally:
                watching.cancel()
                pruning.cancel()
    _log.info("the agent has ended; %d records wait for the database", store.behind)


def _collector(loaded: Loaded, redactor: Redactor) -> Settings:
    """Where telemetry goes: as the configuration says, else as the standard variables do."""
    wanted = loaded.config.telemetry

    def headers() -> dict[str, str]:
        values = {name: read_secret(reference.source) for name, reference in wanted.headers.items()}
        for value in values.values():
            redactor.add(value)
        return values

    certificate = os.environ.get("OTEL_EXPORTER_OTLP_CERTIFICATE")
    return Settings(
        endpoint=wanted.endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
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
    errors = 0
    while True:
        metrics.figures.set("self_workers_ready", labels, pool.ready)
        metrics.figures.set("self_store_behind", labels, store.behind)
        metrics.figures.add("self_store_errors_total", labels, store.errors - errors)
        errors = store.errors
        await asyncio.sleep(_TICK)


async def _prune(store: Store) -> None:
    while True:
        await asyncio.sleep(_PRUNE)
        try:
            await store.prune()
        except Exception as error:
            _log.warning("old records were not removed: %s", error)


def _usable(state: Path) -> None:
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError([Located(str(state), 0, 0, "state", f"cannot be made: {error.strerror}")]) from error


def _address(loaded: Loaded, redactor: Redactor) -> str:
    """The store's URL; one that comes by reference is a secret."""
    url = loaded.config.store.url
    if isinstance(url, str):
        return f"sqlite:///{loaded.state / 'records.sqlite'}" if url == "sqlite" else url
    try:
        address = read_secret(url.source)
    except OSError as error:
        raise ConfigError([Located("agent.yaml", 0, 0, "store.url", f"{url.source[1]} {error.strerror}")]) from error
    redactor.add(address)
    return address
