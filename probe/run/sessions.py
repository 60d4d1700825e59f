"""Making and keeping the sessions of a run: one Stay each, all under one TaskGroup."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from probe.drivers.base import SessionRow, Spec
from probe.drivers.table import Table
from probe.errors import DriverBug, Failure
from probe.link.path import Path
from probe.media.feed import Feed
from probe.model.clock import NS
from probe.model.ids import uuid7
from probe.model.observation import AnswerBegan, Observation, RequestDone, Role, SessionBegan
from probe.model.outcome import Done, Skipped
from probe.model.stage import Phase, Stage, StageTimer
from probe.net.client import Client, Credential
from probe.net.link_header import ice_server
from probe.plan import Device, IceServer, PublishStep, ViewSpec, ViewStep
from probe.run.attempt_io import AttemptIO
from probe.run.broadcasts import Broadcasts, Ordinals
from probe.run.context import Context
from probe.run.edges import ANY, Pin, each
from probe.run.health import on_this_machine
from probe.run.outside import Outside
from probe.run.scouts import Scouts
from probe.run.stay import Stay
from probe.run.vars import Vars
from probe.run.watch import PublisherWatch, ViewerWatch, Watch
from probe.wire.playback import Expected, Playback

_LOOPBACK = "127.0.0.1"


@dataclass(slots=True)
class Sessions:
    """Every stay of the run. `client` is the run's; each stay signs with its own span."""

    ctx: Context
    vars: Vars
    client: Client
    table: Table
    group: asyncio.TaskGroup
    refresh: Callable[[str | None, Credential | None], Awaitable[None]]  # renews the credential an account has, if still this one
    outside: Outside = field(default_factory=Outside)
    stays: list[Stay] = field(default_factory=list)
    _on_air: Broadcasts = field(default_factory=Broadcasts)
    _scouts: Scouts = field(init=False)
    _paths: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._scouts = Scouts(self.ctx, self.group, self._on_air, self._row, self._look)

    def publishers(self) -> list[Stay]:
        return [stay for stay in self.stays if stay.began.role is Role.PUBLISHER]

    def viewers(self, protocol: str | None = None) -> list[Stay]:
        return [s for s in self.stays if s.began.role is Role.VIEWER and protocol in (None, s.began.protocol)]

    def playing(self, who: str = "viewers") -> list[str]:
        """Ids of the viewers now playing, all or of one protocol."""
        return [stay.session for stay in self.viewers(None if who == "viewers" else who) if stay.playing]

    def backlog(self) -> float:
        """Seconds the oldest unread record of any session has waited; pictures of buffered players wait by design."""
        return max((s.feed.backlog for s in self.stays if s.feed is not None and not s.over), default=0.0)

    def late(self) -> int:
        """ns by which our own publishers' frames left after their stamps, at worst, since asked last."""
        return max((s.watch.take_late() for s in self.stays if isinstance(s.watch, PublisherWatch)), default=0)

    def tick(self) -> None:
        now = self.ctx.clock.now()
        for stay in self.stays:
            if not stay.over:
                stay.tick(now)

    async def publish(self, step: PublishStep) -> Stay:
        """Begin to publish and wait until the start has ended, well or not."""
        row = self._row(Role.PUBLISHER, step.protocol)
        broadcast = self._on_air.begin(step)
        began = self._began(
            step.name, step.name, row, step.device.name, join="", verify="code", optional=step.optional, ingest=step.protocol,
            of=step.name, sound=step.audio,
        )  # fmt: skip

        def spec() -> Spec:
            broadcast.ordinals.append(ordinal := self.ctx.new_publish())
            return replace(
                self._spec(row, step, began.session, {}),
                programme=step.programme,
                bitrate=step.bitrate,
                audio=step.audio,
                codec=step.codec,
                publish=ordinal,
            )

        path = self._path(row, step.device)
        stay = self._stay(row, began, spec, PublisherWatch(), step.account, step.deadline, path)
        self.group.create_task(stay.run(), name=f"publisher {stay.session}")
        await stay.started.wait()
        if isinstance(stay.outcome, Done):
            broadcast.started_at = self.ctx.clock.now()
            self._scouts.begin()
        return stay

    async def view(self, step: ViewStep) -> list[Stay]:
        """Begin every viewer of the step at its own random moment, and wait until each start has ended. One whose publisher
        never came to be is skipped."""
        try:
            async with asyncio.TaskGroup() as scouts:
                for view in step.views:
                    scouts.create_task(self._scouts.wait(view))
        except ExceptionGroup as several:  # a secret that does not belong there, and says so
            raise several.exceptions[0] from None
        stays: list[Stay] = []
        begun: list[Stay] = []
        numbers: Counter[str] = Counter()
        for view in step.views:
            nobody = bool(view.of) and not self._on_air.started(view)
            for own in self._each(view):
                for pin in [ANY] if nobody else await self._addresses(view, own):
                    for _ in range(view.count):
                        numbers[view.protocol] += 1
                        stay = self._viewer(step, view, own, numbers[view.protocol], pin)
                        stays.append(stay)
                        if nobody:
                            stay.skip(Skipped("no_publisher", f"{' and '.join(view.of)} never went live"))
                        else:
                            begun.append(stay)
        delays = [0.0 if s.began.join == "at_go_live" else self.ctx.rng.uniform(0, step.phase / NS) for s in begun]
        async with asyncio.TaskGroup() as starts:
            for stay, delay in zip(begun, delays, strict=True):
                starts.create_task(self._start(stay, delay))
        return stays

    def _each(self, view: ViewSpec) -> list[dict[str, str]]:
        """The values each group of a view's viewers has to itself: the stream it watches, the item of its list."""
        stream = self._on_air.stream(view)
        own = {} if stream is None else {"stream": self.vars.text(stream)}
        if not view.over:
            return [own]
        try:
            return [{**own, "item": item} for item in self.vars.items(view.over, view.at_most)]
        except ValueError as error:
            raise Failure(Phase.ROOM, "unexpected", str(error)) from error

    async def _addresses(self, view: ViewSpec, own: dict[str, str]) -> list[Pin]:
        """The addresses that each have viewers of their own."""
        if view.edges != "each":
            return [ANY]
        row = self._row(Role.VIEWER, view.protocol)
        pins, note = await each(row, self._spec(row, view, "", own), self._quiet())
        if note:
            self.ctx.note(note)
        return pins

    def _quiet(self) -> Client:
        """A client for what belongs to no session. Its requests are told as looks: a playlist that is not there yet is no
        error of an edge's, and no viewer asked for it."""

        def told(request: RequestDone) -> None:
            self.ctx.emit(replace(request, purpose=f"look for {request.purpose}"))

        return self.client.using(service="", parent_span=self.ctx.root_span, on_request=told)

    async def end(self) -> None:
        """The planned end of every session: viewers first, as people leave before the broadcaster does."""
        self._scouts.close()
        for group in (self.viewers(), self.publishers()):
            for stay in group:
                stay.end()
            for stay in group:
                await stay.done.wait()

    async def close(self) -> None:
        self._scouts.close()
        for path in self._paths:
            await path.close()

    async def _start(self, stay: Stay, delay: float) -> None:
        await asyncio.sleep(delay)
        self.group.create_task(stay.run(), name=f"viewer {stay.session}")
        await stay.started.wait()

    def _viewer(self, step: ViewStep, view: ViewSpec, own: dict[str, str], number: int, pin: Pin) -> Stay:
        row = self._row(Role.VIEWER, view.protocol)
        watched = self._on_air.watched(view)
        name = f"{view.protocol}-{number}" + (f"@{pin.ip}" if pin.ip else "")
        began = self._began(
            step.name, name, row, view.device.name, join=view.join, verify=view.verify,
            optional=view.optional or step.optional,
            ingest=watched[0].step.protocol if len({b.step.protocol for b in watched}) == 1 else "",
            of=watched[0].step.name if len(watched) == 1 else "",
            sound=any(b.step.audio for b in watched),
        )  # fmt: skip
        expected = Expected(
            run=self.ctx.plan.run_number,
            trace=self.ctx.plan.trace_low,
            publishes=Ordinals(watched),
            max_age=view.max_age or row.max_age,
            verify=view.verify,
        )
        wall = self.ctx.clock.wall()
        offset = wall.unix_ns - self.ctx.clock.now()
        watch = ViewerWatch(Playback(expected, offset, self.ctx.clock.now()))

        def spec() -> Spec:
            return replace(self._spec(row, view, began.session, own), pin=pin.ip, pinned=pin.host)

        path = self._path(row, view.device, cut=bool(view.impaired & {"flap", "rebind"}))
        return self._stay(row, began, spec, watch, view.account, view.start, path)

    def _path(self, row: SessionRow, device: Device, *, cut: bool = False) -> Path | None:
        """A path of the session's own, where its device has a network, cuts will be made on it, or who holds the run from outside
        wants one. Its chance follows from the plan's seed and the session's number in the run."""
        if device.network is None and not cut and not self.outside.links:
            return None
        path = Path(self.ctx.clock, device.network, self.ctx.plan.seed << 16 | len(self.stays))
        self._paths.append(path)
        if self.outside.on_path is not None:
            self.outside.on_path(path, row.role, row.protocol)
        return path

    async def _look(self, view: ViewSpec) -> bool:
        """One look for whether a first viewer of `view` could start."""
        row = self._row(Role.VIEWER, view.protocol)
        assert row.scout is not None
        spec = self._spec(row, view, "", self._each(view)[0])

        def told(fact: Observation, session: str) -> None:
            if not isinstance(fact, AnswerBegan):  # as its request is told: no viewer asked
                self.ctx.emit(fact, session)

        io = AttemptIO(self.ctx.clock, self._quiet(), StageTimer(0), Feed(self.ctx.clock), None, {}, told, "")
        return bool(await row.scout(spec, io))

    def _row(self, role: Role, protocol: str) -> SessionRow:
        try:
            return self.table.sessions[role, protocol]
        except KeyError:
            raise DriverBug(f"no driver for a {role} of {protocol}") from None

    def _began(
        self, step: str, name: str, row: SessionRow, device: str, *, join: str, verify: str, optional: bool, ingest: str, of: str,
        sound: bool,
    ) -> SessionBegan:  # fmt: skip
        plan = self.ctx.plan
        return SessionBegan(
            session=uuid7(self.ctx.clock.wall().unix_ns // 1_000_000, self.ctx.ids),
            step=step,
            name=name,
            role=row.role,
            protocol=row.protocol,
            device=device,
            region=plan.region if row.role is Role.VIEWER else plan.publish_region,
            publish_region=plan.publish_region,
            join=join,
            verify=verify,
            buffered=row.buffered,
            optional=optional,
            span_id=self.ctx.new_span(),
            ingest=ingest,
            of=of,
            sound=sound,
        )

    def _stay(
        self,
        row: SessionRow,
        began: SessionBegan,
        spec: Callable[[], Spec],
        watch: Watch,
        account: str | None,
        start: int | None,
        path: Path | None,
    ) -> Stay:
        used: Credential | None = None

        def noted() -> Spec:
            nonlocal used
            made = spec()
            used = made.credential
            return made

        stay = Stay(
            ctx=self.ctx,
            row=row,
            began=began,
            spec=noted,
            client=self.client.using(
                parent_span=began.span_id, service=row.protocol, on_request=lambda request: self.ctx.emit(request, began.session)
            ),
            watch=watch,
            path=path,
            start_deadline=start or row.start,
            reconnect_deadline=self.ctx.plan.reconnect_deadline,
            refresh=lambda: self.refresh(account, used),
        )
        self.stays.append(stay)
        return stay

    def _spec(self, row: SessionRow, what: PublishStep | ViewSpec, session: str, own: dict[str, str]) -> Spec:
        """Everything filled in. Raises SecretMisplaced where a secret beside the address is not for it."""
        plan, access, fill = self.ctx.plan, what.access, self.vars
        url = fill.url(what.url, own)
        fill.guard_media(url, access.key, access.streamid, access.passphrase)
        return Spec(
            role=row.role,
            protocol=row.protocol,
            url=url,
            credential=fill.credential(what.account),
            session=session,
            device=what.device,
            key=fill.text(access.key),
            streamid=fill.text(access.streamid, own),
            passphrase=fill.text(access.passphrase),
            latency=access.latency,
            loopback=on_this_machine(url) or self.client.allow.refusal(_LOOPBACK, _LOOPBACK) is None,
            ice=what.ice,
            ice_servers=tuple(self._ice_server(s) for s in plan.ice_servers) if Stage.ICE in row.stages else (),
            family=what.family,
            cmcd=isinstance(what, ViewSpec) and what.cmcd,
            run_number=plan.run_number,
            trace_low=plan.trace_low,
        )

    def _ice_server(self, named: IceServer) -> IceServer:
        """Filled in. Raises SecretMisplaced where its secret is not for it."""
        fill = self.vars
        server = ice_server(url := fill.text(named.url), None, None)
        if server is not None:
            fill.guard_media(server.origin, named.username, named.credential)
        return IceServer(url=url, username=fill.text(named.username), credential=fill.text(named.credential))
