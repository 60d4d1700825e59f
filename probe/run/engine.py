"""The engine: executes a plan. Steps in order, sessions beside them, `finally` steps whatever happened.

What ends the journey early (a failed step, the run's deadline, Ctrl-C) never ends the run early: sessions are ended as
planned, `finally` steps run, what the ledger still holds is undone, and every step that was not reached says so. Only then
does a cancellation go on its way: one that comes while all that is under way waits for it too. Everything after the journey
has one bound of its own, and the sessions' leaving half of it, so that it cannot hang either.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from probe.drivers.base import StepDriver
from probe.drivers.table import Table
from probe.errors import Failure, Misconfigured, Unsupported
from probe.media.prepare import prepared
from probe.model.clock import NS, Clock
from probe.model.observation import HealthSample, ReleaseSeen, RunEnded, StepBegan, StepDone
from probe.model.outcome import Aborted, Cancelled, Done, Failed, Outcome, Skipped
from probe.model.stage import Phase
from probe.net.addresses import AddressPolicy
from probe.net.client import Client, Credential
from probe.net.link_header import ice_server
from probe.net.redact import Redactor
from probe.plan import (
    CutStep,
    FakeStep,
    HoldStep,
    HttpCall,
    HttpStep,
    Plan,
    PublishStep,
    Step,
    ViewStep,
    WaitStep,
    WebsocketStep,
)
from probe.run.context import Context, Put, began
from probe.run.cuts import run_cut
from probe.run.health import Bounds, Health, Sources, on_this_machine
from probe.run.ledger import Ledger
from probe.run.leftovers import Leftovers
from probe.run.outside import Outside
from probe.run.sessions import Sessions
from probe.run.step_io import RunStepIO
from probe.run.vars import Vars

_log = logging.getLogger(__name__)
_STEP_DEADLINE = 10 * NS
_FINISH_SECONDS = 20.0
_RELEASE = 100  # characters
_LEAVE_SECONDS = _FINISH_SECONDS / 2
_SERVICE_PHASE = {
    p.value: p for p in (Phase.AUTH, Phase.ROOM, Phase.PAYMENT, Phase.GIFT, Phase.CHAT, Phase.MODERATION, Phase.ENDING)
}


class Engine:
    """One run. `put` receives every observation; `state` is the directory of the ledger; `outside` is who holds it open."""

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
        outside: Outside | None = None,
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._table = table
        self._state = state / "ledger"
        self._bounds = bounds
        self._outside = outside or Outside()
        self._ctx = Context(plan, clock, put, random.Random(plan.seed))
        self._redact = redactor.redact
        self.vars = Vars(plan, redactor)
        self._swept = self._released = False
        self._reached: set[str] = set()
        self._renewing: dict[str, asyncio.Lock] = {}  # by the template of a token

    async def run(self) -> Outcome:
        """Execute the plan. Raises ConfigError before the first socket where a secret is missing; re-raises a cancellation
        once everything is put back."""
        self.vars.load_secrets()
        await self._prepare()
        self._begin()
        client = Client(
            clock=self._clock,
            trace_id=self._plan.trace_id,
            new_span=self._ctx.new_span,
            on_request=self._ctx.emit,
            allow=AddressPolicy.for_platform(self._plan.platform_url, (*self._plan.allow, *_relays(self._plan))),
        )
        ledger = Ledger(self._state, self._plan.run_id, self._redact)
        outcome: Outcome = Aborted("did not finish")
        try:
            outcome = await self._execute(client, ledger)
        except asyncio.CancelledError:
            outcome = Cancelled()
            raise
        finally:
            ledger.close()
            await client.close()
            self._outside.over = True
            self._ctx.emit(RunEnded(outcome=outcome))
        return outcome

    async def _prepare(self) -> None:
        """Programmes made before anybody is timed: encoding one for the first time is no publisher's start."""
        wanted = {(s.programme, s.bitrate, s.codec) for s in self._plan.journey if isinstance(s, PublishStep)}
        for name, bitrate, codec in sorted(wanted):
            await prepared(name, bitrate, codec)

    def _begin(self) -> None:
        self._ctx.emit(began(self._plan, self._clock.wall(), self._ctx.root_span))

    async def _execute(self, client: Client, ledger: Ledger) -> Outcome:
        outcome: Outcome = Done()
        async with asyncio.TaskGroup() as group:
            sessions = Sessions(self._ctx, self.vars, client, self._table, group, self._renew, self._outside)
            self._client, self._sessions = client, sessions
            self._leftovers = Leftovers(self._ctx, self.vars, client, ledger, self._state)
            sources = Sources(sessions.backlog, sessions.late, shared=on_this_machine(self._plan.platform_url))
            health = Health(self._clock, self._on_health, sources, self._bounds)
            watching = group.create_task(health.watch(), name="health")
            interrupted: asyncio.CancelledError | None = None
            self._tell_release()
            try:
                async with asyncio.timeout(self._plan.run_deadline / NS):
                    outcome = await self._journey()
            except TimeoutError:
                outcome = Aborted(f"the run's deadline of {self._plan.run_deadline / NS:g} s passed")
            except asyncio.CancelledError as error:
                interrupted, outcome = error, Cancelled()
            try:
                interrupted = await self._finish_undisturbed(outcome) or interrupted
            finally:
                for stay in sessions.stays:
                    stay.end()
                await sessions.close()
                watching.cancel()
            if interrupted is not None:
                raise interrupted
        return outcome

    async def _journey(self) -> Outcome:
        first: Outcome = Done()
        hopes = {step.name for step in self._plan.journey if isinstance(step, PublishStep)}  # broadcasts on air, or to come
        for step in self._plan.journey:
            outcome = await self._step(step)
            # Where nobody publishes there is nothing to see, and no viewer is to be charged for it.
            unpublished = isinstance(step, PublishStep) and isinstance(outcome, Skipped)
            if (isinstance(outcome, Failed | Aborted | Cancelled) or unpublished) and not step.optional:
                hopes.discard(step.name)
                if not isinstance(step, PublishStep) or not hopes or isinstance(outcome, Cancelled):
                    return outcome
                first = first if not isinstance(first, Done) else outcome  # the other broadcasts go on
        return first

    async def _finish_undisturbed(self, outcome: Outcome) -> asyncio.CancelledError | None:
        """`_finish`, within its bound; a cancellation that came meanwhile is returned instead of raised."""
        interrupted: asyncio.CancelledError | None = None

        async def within() -> None:
            try:
                async with asyncio.timeout(_FINISH_SECONDS):
                    await self._finish(outcome)
            except TimeoutError:
                self._ctx.note(f"ending took longer than {_FINISH_SECONDS:g} s and was given up")

        async with asyncio.TaskGroup() as group:
            finishing = group.create_task(within(), name="ending")
            while not finishing.done():
                try:
                    await asyncio.wait({finishing})
                except asyncio.CancelledError as error:
                    interrupted = error
        return interrupted

    async def _finish(self, outcome: Outcome) -> None:
        """End the sessions, run the `finally` steps, undo what is left, and name what was never reached."""
        self._tell_unreached(self._plan.journey)
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._sessions.end()
        except TimeoutError:
            self._ctx.note(f"sessions had not all left after {_LEAVE_SECONDS:g} s")
        try:
            for step in self._plan.final:
                await self._step(step, final=True)
        finally:
            self._tell_unreached(self._plan.final, final=True)
        await self._leftovers.undo_all()

    def _tell_unreached(self, steps: Sequence[Step], *, final: bool = False) -> None:
        for step in steps:
            if step.name not in self._reached:
                self._ctx.emit(
                    StepDone(
                        step=step.name,
                        kind=step.kind,
                        service=step.service,
                        outcome=Skipped("not_reached"),
                        took=0,
                        optional=step.optional,
                        final=final,
                    )
                )

    # -- one step

    async def _step(self, step: Step, *, final: bool = False) -> Outcome:
        if not self._swept and step.service != "auth":
            self._swept = True
            await self._leftovers.sweep()
        self._reached.add(step.name)
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
        self._tell_release()
        return outcome

    def _tell_release(self) -> None:
        """Once, as soon as all that its text names is known. What a server calls its release is one short line here."""
        template = self._plan.release
        if template and not self._released and not self.vars.unknown(template):
            self._released = True
            line = " ".join(self._redact(self.vars.text(template)).split())
            if release := "".join(c for c in line if c.isprintable())[:_RELEASE]:
                self._ctx.emit(ReleaseSeen(release=release))

    async def _guarded(self, step: Step, io: RunStepIO) -> Outcome:
        """The step, with every way it can end turned into an outcome. Cancellation alone goes on."""
        try:
            own = step.keep if isinstance(step, HttpStep) else ()  # what undoes a step may need the id it is given
            if missing := [name for name in self.vars.unknown(_templates(step)) if name not in own]:
                return Skipped("not_reached", f"{', '.join(dict.fromkeys(missing))} was never provided")
            for call in _calls(step):
                self.vars.guard(call)
            return await self._dispatch(step, io)
        except Failure as failure:
            return failure.outcome
        except Unsupported as unsupported:
            return unsupported.outcome
        except TimeoutError:
            phase = _SERVICE_PHASE.get(step.service, Phase.ROOM)
            return Failed(phase, "timeout", f"deadline of {(step.deadline or _STEP_DEADLINE) / NS:g} s passed")
        except Misconfigured as mistake:
            return Aborted(str(mistake))
        except Exception as bug:
            _log.exception("step %s broke", step.name)
            return Aborted(f"{type(bug).__name__}: {bug}")

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
            case HoldStep():
                return await self._outside.hold(self._sessions)
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
        async with self._leftovers.promised(step):
            async with asyncio.timeout((step.deadline or _STEP_DEADLINE) / NS + 1):
                return await self._driver("http").run(step, io)

    async def _renew(self, account: str | None, spent: Credential | None) -> None:
        """Run again the step that kept this account's token, once for all whose token was `spent`."""
        template = self._plan.accounts.get(account or "", "")
        kept = (s for s in self._plan.journey if isinstance(s, HttpStep) and any(f"${{{name}}}" == template for name in s.keep))
        step = next(kept, None)
        if step is None:
            return
        async with self._renewing.setdefault(template, asyncio.Lock()):
            if self.vars.credential(account) != spent:
                return
            span = self._ctx.new_span()
            http = self._client.using(parent_span=span, service=step.service, on_request=lambda request: self._ctx.emit(request))
            await self._driver("http").run(
                step, RunStepIO(self._clock, http, self.vars, self._ctx, step.name, self._sessions.playing)
            )

    # -- beside the steps

    def _on_health(self, sample: HealthSample) -> None:
        self._ctx.emit(sample)
        self._sessions.tick()


def _relays(plan: Plan) -> list[str]:
    """Hosts of the ICE servers that the scenario names: listed by that, wherever they stand."""
    servers = (ice_server(server.url, None, None) for server in plan.ice_servers)
    return [server.host for server in servers if server is not None]


def _of_viewers(outcomes: list[Outcome]) -> Outcome:
    """A view step is done when anyone saw anything; each viewer's failure stands in its own name."""
    if any(isinstance(outcome, Done) for outcome in outcomes):
        return Done()
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    return failed[0] if failed else outcomes[0] if outcomes else Skipped("no_viewers")


def _calls(step: Step) -> list[HttpCall]:
    """What a step sends beside its sessions' own requests, as calls."""
    match step:
        case HttpStep():
            return [step.call, *([step.undo] if step.undo is not None else [])]
        case CutStep():
            return [step.call] if step.call is not None else []
        case WebsocketStep():
            return [HttpCall(method="GET", url=step.url, json=step.send)]
        case _:
            return []


def _templates(step: Step) -> list[object]:
    """Every template that must be filled in before the step can begin; one may need what the journey never came to keep."""
    called = [part for call in _calls(step) for part in (call.url, call.json, dict(call.headers))]
    match step:
        case PublishStep():
            return [step.url, step.stream, step.access.key, step.access.streamid]
        case ViewStep():
            own = re.compile(r"\$\{(stream|item)\}")  # each viewer's, when it begins
            return [own.sub("", view.url + view.access.streamid) for view in step.views]
        case HttpStep():
            return [*called, step.socket, step.seen, dict(step.expect.json)]
        case _:
            return called
