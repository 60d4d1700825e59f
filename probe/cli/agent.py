"""`probe agent`: the scheduled probe of one region, in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from probe.agent.conclude import Concluded
from probe.agent.config import origin
from probe.agent.handover import HandOver, Recipient
from probe.agent.loading import Loaded, load_config
from probe.agent.reload import Configuration
from probe.agent.seed import Seed
from probe.agent.serve import opened
from probe.cli import exits
from probe.cli.files import find, vocabulary
from probe.cli.signals import Interrupted, cancelling
from probe.clock import SystemClock
from probe.errors import ConfigError, Located
from probe.model.verdict import Verdict, worst
from probe.net.redact import Redactor
from probe.net.secret import named, read_secret
from probe.run import logs
from probe.scenario.units import format_duration

if TYPE_CHECKING:
    from rich.console import Console

_ENDS = (signal.SIGINT, signal.SIGTERM)
SWITCH = 0.001  # s that the loop waits for the interpreter while a thread judges; usually 5 ms


def read(file: Path) -> Loaded:
    """agent.yaml and all it names, as this process's environment fills it in. Raises ConfigError."""
    return load_config(file, env=os.environ, words=vocabulary(), find=find)


def describe(loaded: Loaded) -> list[str]:
    """What the agent would do, a line a schedule."""
    lines = []
    for name, prepared in loaded.schedules.items():
        settings = prepared.settings
        takes = f"at most {format_duration(prepared.deadline)}, {prepared.bandwidth / 1e6:.1f} Mbps"
        lines.append(f"{name}: {prepared.scenario.name} {settings.words}, {settings.mode}; a run takes {takes}")
    return lines


async def serve(file: Path, *, once: bool, verbose: bool, seed: Seed | None = None, to: str = "", login: str = "") -> int:
    """Until a signal: SIGTERM and Ctrl-C end it (runs under way end as planned), SIGHUP reads the files again. `to`: origin of
    the agent that runs made `once` are handed to, with the user and password at the reference `login`."""
    sys.setswitchinterval(SWITCH)
    redactor = Redactor()
    logs.set_up(redactor, verbose=verbose, fields={})
    configuration = Configuration(read(file), lambda: read(file))
    logs.set_up(redactor, verbose=verbose, fields={"region": configuration.loaded.region})
    # To the very end: while it opens, and while it drains, it is not to end an agent.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, configuration.ask)
    try:
        with cancelling(_ENDS):
            clock = SystemClock()
            hand = HandOver(recipient(to, login, redactor), configuration.loaded.state / "handover", clock) if to else None
            async with opened(configuration, clock, redactor, seed, listen=not once, hand=hand) as parts:
                if once:
                    code = exits.of_verdict(_verdict(await parts.agent.once()))
                    left = 0 if hand is None else await hand.deliver()
                    return exits.INTERNAL_ERROR if left and code != exits.of_verdict(Verdict.FAIL) else code
                await parts.agent.serve()
    except Interrupted as interrupted:
        if interrupted.signal == signal.SIGTERM and not once:
            return 0  # what a supervisor asked for has been done
        raise
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
    return 0


def recipient(to: str, login: str, redactor: Redactor) -> Recipient:
    """Raises ConfigError for an address or a reference that is of no use, before anything is run."""
    try:
        url = origin(to)
    except ValueError as error:
        raise _mistake("--to", str(error)) from None
    if not login:
        return Recipient(url)
    kind, _, argument = login.partition(":")
    if kind not in ("env", "file", "command") or not argument:
        raise _mistake("--to-login", "is no reference; write env:NAME, file:PATH or command:WORDS")

    def read_login() -> tuple[str, str]:
        try:
            user, colon, password = read_secret((kind, argument)).partition(":")
        except OSError as error:
            raise OSError(0, f"{named((kind, argument))}: {error.strerror}") from None
        if not colon:
            raise OSError(0, f"{named((kind, argument))} holds no user:password")
        redactor.add(password)
        return user, password

    try:
        read_login()
    except OSError as error:
        raise _mistake("--to-login", error.strerror or "cannot be read") from None
    return Recipient(url, read_login)


def _mistake(option: str, words: str) -> ConfigError:
    return ConfigError([Located("probe agent", 0, 0, option, words)])


def _verdict(found: Sequence[Concluded | None]) -> Verdict:
    """Of all runs together; what came to nothing is inconclusive."""
    return worst([Verdict.INCONCLUSIVE if one is None else one.judgement.result for one in found])


def check(file: Path, console: Console) -> int:
    """Say what it would do, or every mistake."""
    try:
        loaded = read(file)
    except ConfigError as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return exits.BAD_CONFIGURATION
    console.print(
        f"{file}: {loaded.config.agent} in {loaded.region}, state in {loaded.state}: valid", markup=False, soft_wrap=True
    )
    for line in describe(loaded):
        console.print(f"  {line}", markup=False, soft_wrap=True)
    return 0
