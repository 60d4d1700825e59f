"""`probe agent`: the scheduled probe of one region, in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console

from probe.agent.agent import Agent
from probe.agent.loading import Loaded, load_config
from probe.agent.seed import Seed
from probe.agent.serve import opened
from probe.agent.service.web_config import read_web_config
from probe.cli import exits
from probe.cli.scenarios import find, vocabulary
from probe.cli.signals import Interrupted, cancelling
from probe.clock import SystemClock
from probe.errors import ConfigError
from probe.model.verdict import worst
from probe.net.redact import Redactor
from probe.run import logs
from probe.scenario.units import format_duration

_ENDS = (signal.SIGINT, signal.SIGTERM)


def read(file: Path) -> Loaded:
    """agent.yaml and all it names, as this process's environment fills it in. Raises ConfigError."""
    return load_config(file, env=os.environ, words=vocabulary(), find=find)


def describe(loaded: Loaded) -> list[str]:
    """What the agent would do, a line a schedule."""
    lines = []
    for name, prepared in loaded.schedules.items():
        settings = prepared.settings
        when = f"every {format_duration(settings.every)}" if settings.every is not None else f"at {settings.cron} {settings.tz}"
        takes = f"at most {format_duration(prepared.deadline)}, {prepared.bandwidth / 1e6:.1f} Mbps"
        lines.append(f"{name}: {prepared.scenario.name} {when}, {settings.mode}; a run takes {takes}")
    return lines


async def serve(file: Path, console: Console, *, once: bool, verbose: bool, seed: Seed | None = None) -> int:
    """Until a signal: SIGTERM and Ctrl-C end it (runs under way end as planned), SIGHUP reads the files again."""
    redactor = Redactor()
    logs.set_up(redactor, verbose=verbose, fields={})
    loaded = read(file)
    clock = SystemClock()
    try:
        with cancelling(_ENDS):
            async with AsyncExitStack() as stack:
                opening = opened(loaded, lambda: read(file), clock, redactor, seed, listen=not once)
                parts = await stack.enter_async_context(opening)
                if once:
                    found = await parts.agent.once()
                    return exits.of_verdict(worst([concluded.judgement.result for concluded in found]))
                await _scheduling(parts.agent)
    except Interrupted as interrupted:
        if interrupted.signal == signal.SIGTERM:
            return 0  # what a supervisor asked for has been done
        raise
    return 0


async def _scheduling(agent: Agent) -> None:
    async with asyncio.TaskGroup() as group:
        hung_up: Callable[[], object] = lambda: group.create_task(agent.reload(), name="reload")  # noqa: E731
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)
        try:
            await agent.serve()
        finally:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)


def check(file: Path, console: Console) -> int:
    """Say what it would do, or every mistake."""
    try:
        loaded = read(file)
        if loaded.web is not None:
            read_web_config(loaded.web)
    except ConfigError as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return exits.BAD_CONFIGURATION
    console.print(
        f"{file}: {loaded.config.agent} in {loaded.region}, state in {loaded.state}: valid", markup=False, soft_wrap=True
    )
    for line in describe(loaded):
        console.print(f"  {line}", markup=False, soft_wrap=True)
    return 0
