"""The engine: executes a plan. Steps in order, sessions beside them, `finally` steps whatever happened.

What ends the journey early (a failed step, the run's deadline, Ctrl-C) never ends the run early: sessions are ended as
planned, `finally` steps run, what the ledger still holds is undone, and every step that was not reached says so. Only then
does a cancellation go on its way. Everything after the journey has one bound of its own, so that it cannot hang either.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from probe.drivers.base import StepDriver
from probe.drivers.table import Table
from probe.errors import Failure, Unsupported
from probe.model.clock import NS, Clock
from probe.model.ids import trace_id
from probe.model.observation import HealthSample, RunBegan, RunEnded, StepBegan, StepDone
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Outcome, Skipped
from probe.model.stage import Phase
from probe.net.addresses import AddressPolicy
from probe.net.client import Client
from probe.net.redact import Redactor
from probe.plan import CutStep, FakeStep, HttpCall, HttpStep, Plan, PublishStep, Step, ViewStep, WaitStep, WebsocketStep
from probe.run.context import Context, Put
from probe.run.cuts import run_cut
from probe.run.health import Bounds, Health, Sources, on_this_machine
from probe.run.ledger import Entry, Ledger, orphans
from probe.run.sessions import Sessions
from probe.run.step_io import RunStepIO
from probe.run.vars import SecretMisplaced, Vars
from probe.version import VERSION

_log = logging.getLogger(__name__)
_STEP_DEADLINE = 10 * NS
_FINISH_SECONDS = 20.0
_SERVICE_PHASE = {
    p.value: p for p in (Phase.AUTH, Phase.ROOM, Phase.PAYMENT, Phase.GIFT, Phase.CHAT, Phase.MODERATION, Phase.ENDING)
}


class Engine:
    """One run. `put` receives every observation; `state` is the directory of the ledger."""

    def __init__(
        self,
        plan: Plan,
        *,
        clock: Clock,
        put: Put,
        table: Table,
        state: Path,
        redactor: Redactor,
        bounds: Bounds | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._table = table
        self._state = state / "ledger"
        self._bounds = bounds
        self._progress = progress
        self._ctx = Context(plan, clock, put, random.Random(plan.seed))
        self.vars = Vars(plan, redactor)
        self._swept = False
        self._reached: set[str] = set()

    async def run(self) -> Outcome:
        """Execute the plan. Raises ConfigError before the first socket where a secret is missing; re-raises a cancellation
        once everything is put back."""
        self.vars.load_secrets()
        self._begin()
        client = Client(
            clock=self._clock,
            trace_id=self._trace_id(),
            new_span=self._ctx.new_span,
            on_request=self._ctx.emit,
            allow=AddressPolicy.for_platform(self._plan.platform_url, self._plan.allow),
        )
        ledger = Ledger(self._state, self._plan.run_id)
        outcome: Outcome = Aborted("did not finish")
        try:
            outcome = await self._execute(client, ledger)
        except asyncio.CancelledError:
            outcome = Cancelled()
            raise
        finally:
            ledger.close()
            await client.close()
            self._ctx.emit(RunEnded(outcome=outcome))
        return outcome

    def _begin(self) -> None:
        plan, wall = self._plan, self._clock.wall()
        self._ctx.emit(
            RunBegan(
                scenario=plan.scenario,
                mode=plan.mode,
                seed=plan.seed,
                publish_region=plan.publish_region,
                region=plan.region,
                run_number=plan.run_number,
                trace_id=self._trace_id(),
                span_id=self._ctx.root_span,
                wall_unix_ns=wall.unix_ns,
                wall_error_ns=wall.error_ns,
                target=plan.platform_url,
                probe_version=VERSION,
            )
        )

    async def _execute(self, client: Client, ledger: Ledger) -> Outcome:
        outcome: Outcome = Done()
        async with asyncio.TaskGroup() as group:
            sessions = Sessions(self._ctx, self.vars, client, self._table, group, self._renew)
            self._client, self._ledger, self._sessions = client, ledger, sessions
            sources = Sources(sessions.backlog, sessions.late, shared=on_this_machine(self._plan.platform_url))
            health = Health(self._clock, self._on_health, sources, self._bounds)
            watching = group.create_task(health.watch(), name="health")
            interrupted: asyncio.CancelledError | None = None
            try:
                async with asyncio.timeout(self._plan.run_deadline / NS):
                    outcome = await self._journey()
            except TimeoutError:
                outcome = Aborted(f"the run's deadline of {self._plan.run_deadline / NS:g} s passed")
            except asyncio.CancelledError as error:
                interrupted, outcome = error, Cancelled()
            try:
                async with asyncio.timeout(_FINISH_SECONDS):
                    await self._finish(outcome)
            except TimeoutError:
                self._ctx.note(f"ending took longer than {_FINISH_SECONDS:g} s and was given up")
            finally:
                for stay in sessions.stays:
                    stay.end()
                await sessions.close()
                watching.cancel()
            if interrupted is not None:
                raise interrupted
        return outcome

    async def _journey(self) -> Outcome:
        for step in self._plan.journey:
            outcome = await self._step(step)
            if isinstance(outcome, Failed | Aborted | Cancelled) and not step.optional:
                return outcome
        return Done()

    async def _finish(self, outcome: Outcome) -> None:
        """End the sessions, run the `finally` steps, undo what is left, and name what was never reached."""
        for step in self._plan.journey:
            if step.name not in self._reached:
                self._ctx.emit(
                    StepDone(
                        step=step.name,
                        kind=step.kind,
                        service=step.service,
                        outcome=Skipped("not_reached"),
                        took=0,
                        optional=step.optional,
                    )
                )
        if not isinstance(outcome, Cancelled):
            self._progress("ending")
        await self._sessions.end()
        for step in self._plan.final:
            await self._step(step, final=True)
        for entry in self._ledger.open_entries():
            if await self._undo(entry):
                self._ledger.undone(entry.number)

    # -- one step

    async def _step(self, step: Step, *, final: bool = False) -> Outcome:
        self._reached.add(step.name)
        if not self._swept and step.service != "auth":
            self._swept = True
            await self._sweep()
        self._progress(step.name)
        span = self._ctx.new_span()
        began = self._clock.now()
        self._ctx.emit(StepBegan(at=began, step=step.name, kind=step.kind, service=step.service, span_id=span), step.name)
        http = self._client.using(
            parent_span=span, service=step.service or step.kind, on_request=lambda request: self._ctx.emit(request, step.name)
        )
        io = RunStepIO(self._clock, http, self.vars, self._ctx, step.name, self._sessions.playing)
        outcome: Outcome = Cancelled()
        try:
            outcome = await self._guarded(step, io)
        finally:
            self._ctx.emit(
                StepDone(
                    step=step.name,
                    kind=step.kind,
                    service=step.service,
                    outcome=outcome,
                    took=self._clock.now() - began,
                    optional=step.optional,
                    final=final,
                ),
                step.name,
            )
        return outcome

    async def _guarded(self, step: Step, io: RunStepIO) -> Outcome:
        """The step, with every way it can end turned into an outcome. Cancellation alone goes on."""
        try:
            if final_variables := self._missing(step):
                return Skipped("not_reached", f"{final_variables} was never provided")
            return await self._dispatch(step, io)
        except Failure as failure:
            return failure.outcome
        except Unsupported as unsupported:
            return unsupported.outcome
        except TimeoutError:
            phase = _SERVICE_PHASE.get(step.service, Phase.ROOM)
            return Failed(phase, "timeout", f"deadline of {(step.deadline or _STEP_DEADLINE) / NS:g} s passed")
        except SecretMisplaced as misplaced:
            return Aborted(str(misplaced))
        except Exception as bug:
            _log.exception("step %s broke", step.name)
            return Aborted(f"{type(bug).__name__}: {bug}")

    def _missing(self, step: Step) -> str:
        """A `finally` step may need what the journey never came to keep."""
        if not isinstance(step, HttpStep):
            return ""
        return ", ".join(self.vars.unknown((step.call.url, step.call.json, dict(step.call.headers))))

    async def _dispatch(self, step: Step, io: RunStepIO) -> Outcome:
        match step:
            case PublishStep():
                stay = await self._sessions.publish(step)
                return stay.outcome or Cancelled()
            case ViewStep():
                return _of_viewers([stay.outcome or Cancelled() for stay in await self._sessions.view(step)])
            case CutStep():
                return await run_cut(step, self._sessions, io)
            case HttpStep():
                return await self._http(step, io)
            case WaitStep() | FakeStep():
                return await self._driver(step.kind).run(step, io)
            case WebsocketStep():
                async with asyncio.timeout((step.deadline or _STEP_DEADLINE) / NS + 1):
                    return await self._driver(step.kind).run(step, io)
            case _:
                assert_never(step)

    def _driver(self, kind: str) -> StepDriver:
        return self._table.steps[kind]

    async def _http(self, step: HttpStep, io: RunStepIO) -> Outcome:
        self.vars.guard(step.call)
        if step.undo is not None:
            self._promise(step.name, step.undo)
        async with asyncio.timeout((step.deadline or _STEP_DEADLINE) / NS + 1):
            return await self._driver("http").run(step, io)

    # -- what is put back

    def _promise(self, step: str, undo: HttpCall) -> None:
        url = None if self.vars.unknown(undo.url) else self.vars.url(undo.url)
        self._ledger.will(step=step, platform=self._plan.platform_url, method=undo.method, url=url, account=undo.account)

    async def _undo(self, entry: Entry) -> bool:
        """True once the thing is gone: deleted now, or not there."""
        if entry.url is None:
            self._ctx.note(f"what step {entry.step} created cannot be named, so it cannot be undone")
            return True
        try:
            async with asyncio.timeout(5):
                await self._client.request(
                    entry.method,
                    entry.url,
                    purpose="undo",
                    phase=Phase.ENDING,
                    credential=self.vars.credential(entry.account),
                    ok=(*range(200, 300), 404, 410),
                )
        except (Failure, TimeoutError) as error:
            self._ctx.note(f"step {entry.step} could not be undone: {error}")
            return False
        return True

    async def _sweep(self) -> None:
        """Undo what a killed run left on this platform, with this run's credentials."""
        with orphans(self._state) as dead:
            for orphan in dead:
                for entry in list(orphan.entries):
                    if entry.platform == self._plan.platform_url and await self._undo(entry):
                        orphan.undone(entry)
                        self._ctx.note(f"swept what step {entry.step} of run {orphan.path.stem} had left")

    async def _renew(self, account: str | None) -> None:
        """Run again the step that kept this account's token."""
        template = self._plan.accounts.get(account or "", "")
        for step in self._plan.journey:
            if isinstance(step, HttpStep) and any(f"${{{name}}}" == template for name in step.keep):
                span = self._ctx.new_span()
                http = self._client.using(
                    parent_span=span, service=step.service, on_request=lambda request: self._ctx.emit(request)
                )
                await self._driver("http").run(
                    step, RunStepIO(self._clock, http, self.vars, self._ctx, step.name, self._sessions.playing)
                )
                return

    # -- beside the steps

    def _on_health(self, sample: HealthSample) -> None:
        self._ctx.emit(sample)
        self._sessions.tick()

    def _trace_id(self) -> str:
        return trace_id(self._plan.run_number, self._plan.trace_low)


def _of_viewers(outcomes: list[Outcome]) -> Outcome:
    """A view step is done when anyone saw anything; each viewer's failure stands in its own name."""
    if any(isinstance(outcome, Done) for outcome in outcomes):
        return Done()
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    return failed[0] if failed else outcomes[0] if outcomes else Skipped("no_viewers")
