"""`probe smoke` and `probe run`: scenarios in, one verdict out, and the files beside it.

Runs go one after the other: each is to be alone with the machine. Whatever ends an invocation early, what was measured so
far is folded, judged and written before the process goes.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from probe.cli import exits
from probe.cli.compare import Comparing, complete, wanted
from probe.cli.live import Progress
from probe.cli.options import Options
from probe.cli.outputs import Outputs
from probe.cli.scenarios import asks_for_sandbox, load_all, plans
from probe.cli.serve import environment
from probe.cli.signals import Interrupted, cancelling
from probe.clock import SystemClock
from probe.drivers.table import table
from probe.errors import ConfigError, Located
from probe.export.results import Evaluation, JudgedRun
from probe.judge.fold import fold
from probe.judge.verdict import Judgement, judge
from probe.media.decoder import warm_up
from probe.model.observation import Observation
from probe.model.outcome import Cancelled
from probe.model.verdict import RunResult
from probe.net.redact import Redactor
from probe.plan import Plan
from probe.rtc import warm
from probe.run import logs
from probe.run.compared import Wanted, compared
from probe.run.engine import Engine
from probe.run.judged import count, evaluation
from probe.sandbox.launch import Sandbox

_log = logging.getLogger("probe")
_EMBEDDED = (Path("room-start"),)


@dataclass(slots=True)
class _Work:
    """One invocation as it goes."""

    options: Options
    console: Console
    clock: SystemClock
    redactor: Redactor
    outputs: Outputs
    progress: Progress
    state: Path
    about: dict[str, str]  # which run log lines are about
    sandbox: Sandbox | None = None
    judged: list[tuple[RunResult, Judgement]] = field(default_factory=list)
    broken: bool = False  # a bug of ours ended a run


async def invoke(
    kind: str,
    files: Sequence[Path],
    options: Options,
    console: Console,
    comparing: Comparing = Comparing(),  # noqa: B008  # frozen: nobody changes the default
) -> int:
    """Returns the exit code. Raises ConfigError before anything is opened, Interrupted after everything is written."""
    clock, redactor = SystemClock(), Redactor()
    started = clock.wall().unix_ns
    about: dict[str, str] = {}
    logs.set_up(redactor, verbose=options.verbose, fields=about)
    against = await asyncio.to_thread(wanted, comparing)  # before --out may be emptied, which may be the same
    with cancelling() as signals:
        async with AsyncExitStack() as stack:
            sandbox = None
            if options.sandbox or not files or asks_for_sandbox(files, options, provided()):
                load_all(files or _EMBEDDED, options, _placeholder_environment())
                sandbox = await stack.enter_async_context(Sandbox.start())
                os.environ.update(environment(sandbox))
                redactor.add(sandbox.admin_token)
            mode = "smoke" if kind == "smoke" else "adhoc"
            scenarios = load_all(files or _EMBEDDED, options, dict(os.environ))
            todo = plans(scenarios, options, mode, clock, comparing.repeat)
            if against is not None:
                against = await complete(against, comparing, todo, options.release, clock)
            state = state_directory(options.state)
            await asyncio.to_thread(warm_up, clock)
            await warm()
            settle_memory()
            outputs = await stack.enter_async_context(Outputs.opened(options, redactor, todo))
            progress = Progress(console, redactor.redact, quiet=options.quiet or options.json, runs=len(todo))
            work = _Work(options, console, clock, redactor, outputs, progress, state, about, sandbox)
            with progress.showing():
                await _run_all(work, todo)
            await signals.settle()
            done = evaluation(
                kind,
                work.judged,
                started=started,
                evaluated=clock.wall().unix_ns,
                release=options.release,
                quorum=comparing.repeat // 2 + 1,
            )
            if against is not None and done.runs:
                done = await _compared(work, done, against)
            spans = [span for run in done.runs for span in await _platform_spans(work, run)]
            unwritten = await outputs.write(done, spans)
        outputs.show(done, console)
        if await signals.last():
            raise Interrupted(signals.number)
        code = exits.of_verdict(done.verdict)
        return exits.INTERNAL_ERROR if work.broken or (unwritten and not code) else code


async def _compared(work: _Work, done: Evaluation, against: Wanted) -> Evaluation:
    """A bug of ours on the way costs the comparison, and the exit code says so; what was measured is written."""
    try:
        return await asyncio.to_thread(compared, done, against, work.redactor.redact)
    except Exception:
        _log.exception("the runs could not be compared")
        work.broken = True
        return done


def settle_memory() -> None:
    """What is loaded by now stays: leave it out of garbage collection, whose full pass would else stop the loop for 40 ms in
    the middle of a viewer's start."""
    gc.collect()
    gc.freeze()


def _placeholder_environment() -> dict[str, str]:
    """What the sandbox will provide, so that a bad scenario is told before the sandbox is started for it."""
    return {**os.environ, **provided()}


def provided() -> dict[str, str]:
    """Placeholders for what the sandbox will say."""
    return {
        **dict.fromkeys(("PLATFORM_URL", "SANDBOX_ADMIN_URL"), "http://127.0.0.1"),
        "RTMP_URL": "rtmp://127.0.0.1/live",
        **dict.fromkeys(("BROADCASTER_PASSWORD", "VIEWER_PASSWORD", "SANDBOX_ADMIN_TOKEN"), "-"),
    }


async def _run_all(work: _Work, todo: Sequence[Plan]) -> None:
    for plan in todo:
        facts: list[Observation] = []
        work.about.update(logs.about(plan))

        def put(fact: Observation, facts: list[Observation] = facts) -> None:
            facts.append(fact)
            work.outputs.put(fact)
            work.progress.put(fact)

        engine = Engine(plan, clock=work.clock, put=put, table=table(), state=work.state, redactor=work.redactor)
        outcome = None
        try:
            outcome = await engine.run()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            outcome = Cancelled()
        except ConfigError:
            raise
        except Exception:
            _log.exception("run %s broke; what it measured is kept", plan.run_id)
            work.broken = True
        if facts:
            _judge(work, plan, facts)
        if isinstance(outcome, Cancelled):
            return


def _judge(work: _Work, plan: Plan, facts: Sequence[Observation]) -> None:
    result = fold(facts)
    judgement = judge(result, plan.gates, work.clock.wall(), cells=plan.cells, owner=plan.owner)
    work.judged.append((result, judgement))
    count(work.outputs.metrics, result, judgement)


async def _platform_spans(work: _Work, run: JudgedRun) -> list[dict[str, object]]:
    """The sandbox's own spans of the run's trace; a real platform sends its spans to a collector itself."""
    if work.sandbox is None:
        return []
    try:
        return await work.sandbox.spans(run.result.began.trace_id)
    except Exception as error:
        _log.warning("the sandbox's spans could not be read: %s", error)
        return []


def state_directory(given: Path | None) -> Path:
    """Where ledgers are kept, made. Raises ConfigError where nothing can be written there."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    state = given or Path(base) / "stream-probe"
    try:
        state = state.expanduser()
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        usable = os.access(state, os.W_OK | os.X_OK)
    except OSError as error:
        raise ConfigError([Located(str(state), 0, 0, "--state", f"cannot be written: {error.strerror}")]) from error
    except RuntimeError as error:
        raise ConfigError([Located("--state", 0, 0, "", "there is no home directory; say where: --state DIR")]) from error
    if not usable:
        raise ConfigError([Located(str(state), 0, 0, "--state", "cannot be written")])
    return state
