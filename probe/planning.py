"""make_plan: scenario × region × seed, made concrete.

Pure: names come from `ids`, chance later from `seed`, and nothing is read or opened. What the scenario leaves to the
protocol (a start deadline, an oldest age) stays None here; what it says itself is filled in, nearest first: the step,
then `deadlines`. Where publisher and viewers are in different regions, addresses of the publisher are made absolute,
because the plan's own platform is that of the viewers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from probe.errors import ConfigError, Located
from probe.model.ids import RunIds
from probe.plan import (
    Access,
    CutStep,
    Device,
    Expect,
    FakeStep,
    HttpCall,
    HttpStep,
    IceServer,
    Network,
    Plan,
    PublishStep,
    SecretRef,
    Step,
    ViewSpec,
    ViewStep,
    WaitStep,
    WebsocketStep,
)
from probe.scenario import devices
from probe.scenario.fields import SERVICES, Call
from probe.scenario.schema import DEFAULT_VIEWS, Platform, Scenario
from probe.scenario.steps import LINK_CUTS, AnyStep, Cut, Fake, Http, Publish, StepModel, View, Viewers, Wait, Websocket

MODES = ("scheduled", "smoke", "ramp", "drill", "adhoc")
DEFAULT_ACCOUNT = "default"  # whoever acts in a step that names nobody
VIEWER_ACCOUNT = "viewer"


def make_plan(
    scenario: Scenario, region: str, seed: int, ids: RunIds, *, mode: str = "adhoc", publish_region: str | None = None
) -> Plan:
    """The plan of one run. Raises ConfigError for a region or mode the scenario does not have."""
    wrong = [
        Located(scenario.name, 0, 0, where, f"{name!r} is not one of {', '.join(known)}")
        for where, name, known in (
            ("region", region, scenario.regions),
            ("publish_region", publish_region or region, scenario.regions if publish_region else (region,)),
            ("mode", mode, MODES),
        )
        if name not in known
    ]
    if wrong:
        raise ConfigError(wrong)
    publish_region = publish_region or region
    making = _Making(scenario, region, publish_region)
    return Plan(
        scenario=scenario.name,
        description=scenario.description,
        owner=scenario.owner,
        mode=mode,
        seed=seed,
        region=region,
        publish_region=publish_region,
        run_id=ids.run_id,
        run_number=ids.number,
        trace_low=ids.trace_low,
        platform_url=making.platform.url,
        allow=making.platform.allow,
        ice_servers=tuple(
            IceServer(url=s.url, username=s.username, credential=s.credential) for s in making.platform.ice_servers
        ),
        accounts=making.accounts,
        secrets={
            name: SecretRef(name=name, source=secret.source, origins=secret.origins)
            for name, secret in scenario.platform.secrets.items()
        },
        journey=tuple(making.step(step, i) for i, step in enumerate(scenario.journey)),
        final=tuple(making.step(step, None) for step in scenario.final),
        run_deadline=scenario.deadlines.run,
        reconnect_deadline=scenario.deadlines.reconnect,
        gates=tuple(g if g.owner else g.model_copy(update={"owner": scenario.owner}) for g in scenario.gates),
        objectives=scenario.objectives,
        release=making.platform.release,
    )


def platform_in(platform: Platform, region: str) -> Platform:
    """The platform as one region sees it."""
    own = platform.regions.get(region)
    if own is None:
        return platform
    changed: dict[str, Any] = {"views": {**platform.views, **own.views}}
    for field in ("url", "allow", "ice_servers"):
        if (value := getattr(own, field)) is not None:
            changed[field] = value
    return platform.model_copy(update=changed)


def network_of(between: devices.Network) -> Network:
    """What a file says of a network, as a path takes it."""
    return Network(
        delay=between.delay,
        jitter=between.jitter,
        loss=between.loss,
        burst=between.burst,
        rate_up=between.up,
        rate_down=between.down,
        reorder=between.reorder,
        duplicate=between.duplicate,
    )


class _Making:
    """One plan in the making: what every step needs to know of the whole."""

    def __init__(self, scenario: Scenario, region: str, publish_region: str) -> None:
        self._scenario = scenario
        self.platform = platform_in(scenario.platform, region)
        self._publish_url = platform_in(scenario.platform, publish_region).url
        self._kept = {name for step in (*scenario.journey, *scenario.final) if isinstance(step, Http) for name in step.keep}
        self._socket = next((s for s in (*scenario.journey, *scenario.final) if isinstance(s, Websocket)), None)
        self.accounts = self._accounts()
        self._sofar: set[str] = set()
        self._published: list[Publish] = []

    def _accounts(self) -> Mapping[str, str]:
        named = {DEFAULT_ACCOUNT, VIEWER_ACCOUNT}
        for step in (*self._scenario.journey, *self._scenario.final):
            acting: list[StepModel | Viewers | Call] = [step]
            if isinstance(step, View):
                acting.extend(step.view)
            elif isinstance(step, Http) and step.undo is not None:
                acting.append(step.undo)
            elif isinstance(step, Cut) and step.call is not None:
                acting.append(step.call)
            named.update(a for one in acting if (a := getattr(one, "account", None)) is not None)
        accounts = {name: account.token for name, account in self._scenario.platform.accounts.items()}
        # The rule for accounts nobody described: their own token, else the only one there is.
        for name in sorted(named - accounts.keys()):
            variable = next((v for v in (f"{name}_token", "token") if v in self._kept), None)
            if variable is not None:
                accounts[name] = f"${{{variable}}}"
        return accounts

    def _account(self, name: str | None) -> str | None:
        """The account, if it has a token by this point of the journey: a login is not sent the token it is to fetch."""
        name = name or DEFAULT_ACCOUNT
        token = self.accounts.get(name, "")
        there = token.startswith("${secret.") or token[2:-1] in self._sofar
        return name if there else None

    def step(self, step: AnyStep, index: int | None) -> Step:
        """One step, concrete; to be called in order. `index` is its place in the journey, None in `finally`."""
        made = self._step(step, index)
        if isinstance(step, Http):
            self._sofar.update(step.keep)
        elif isinstance(step, Publish):
            self._published.append(step)
        return made

    def _step(self, step: AnyStep, index: int | None) -> Step:
        base: dict[str, Any] = {"name": step.name, "optional": step.optional, "deadline": step.within}
        match step:
            case Http():
                return self._http(step, base)
            case Websocket():
                return WebsocketStep(
                    **base,
                    service=step.service or (step.name if step.name in SERVICES else "chat"),
                    url=step.websocket,
                    send=step.send,
                    account=self._account(step.account),
                    seen_by=step.seen_by,
                    seen_account=self._account(VIEWER_ACCOUNT) if step.seen_by else None,
                )
            case Publish():
                return self._publish(step, base)
            case View():
                base["optional"] = step.optional or all(view.optional for view in step.view)
                return ViewStep(**base, phase=step.phase, views=tuple(s for v in step.view for s in self._views(v, step, index)))
            case Cut():
                call = self._call(step.call, None) if step.call is not None else None
                return CutStep(**base, of=step.of, cut=step.cut, duration=step.duration or 0, call=call)
            case Wait():
                return WaitStep(**base, duration=step.wait)
            case Fake():
                return FakeStep(**base, outcome=step.fake, phase=step.phase, reason=step.reason, took=step.took)

    def _call(self, call: Call, account: str | None) -> HttpCall:
        acting = self._account(call.account or account)
        return HttpCall(method=call.method, url=call.url, headers=call.headers, json=call.body, account=acting)

    def _http(self, step: Http, base: dict[str, Any]) -> HttpStep:
        method, _, url = step.http.partition(" ")
        made = HttpStep(
            **base,
            service=step.service or (step.name if step.name in SERVICES else "room"),
            call=HttpCall(method=method, url=url, headers=step.headers, json=step.body, account=self._account(step.account)),
            expect=Expect(status=frozenset(step.expect.status), json=step.expect.body),
            keep=step.keep,
            until=step.until,
            once=step.once,
            undo=self._call(step.undo, step.account) if step.undo is not None else None,
        )
        if step.seen_by is None:
            return made
        socket = step.socket or (self._socket.websocket if self._socket is not None else None)
        return replace(made, seen_by=step.seen_by, seen=step.seen, socket=socket, socket_account=self._account(VIEWER_ACCOUNT))

    def _publish(self, step: Publish, base: dict[str, Any]) -> PublishStep:
        url = step.url
        if url.startswith("/") and self._publish_url != self.platform.url:
            url = self._publish_url + url
        base["deadline"] = step.within or self._scenario.deadlines.start.get(step.publish)
        return PublishStep(
            **base,
            protocol=step.publish,
            url=url,
            account=self._account(step.account),
            programme=step.programme,
            bitrate=step.bitrate,
            device=self._device(step),
            audio=step.audio,
            codec=step.codec,
            stream=step.stream,
            access=Access(key=step.key, streamid=step.streamid, passphrase=step.passphrase, latency=step.latency),
            ice=step.ice,
            family=step.family,
        )

    def _device(self, who: Publish | Viewers) -> Device:
        known = self._scenario.devices.get(who.device, devices.Device())
        between = known.network if who.network is None else devices.network_over(known.network, who.network)
        network = network_of(between)
        return Device(
            name=who.device,
            codecs=known.codecs,
            max_height=known.max_height,
            user_agent=known.user_agent,
            network=network if network != Network() else None,
        )

    def _views(self, view: Viewers, step: View, index: int | None) -> list[ViewSpec]:
        """A group for each protocol, and where the address differs by publisher for each of those."""
        declared = self.platform.views or DEFAULT_VIEWS
        made = []
        for protocol in declared if view.via == "all" else (view.via,):
            url = view.url or declared.get(protocol) or DEFAULT_VIEWS[protocol]
            whom = () if view.verify == "moving" else view.of or tuple(p.name for p in self._published)
            apart = [(name,) for name in whom] if "${stream}" in url + view.streamid else [whom]
            made += [self._view(view, step, index, protocol, url, of) for of in apart]
        return made

    def _view(self, view: Viewers, step: View, index: int | None, protocol: str, url: str, of: tuple[str, ...]) -> ViewSpec:
        return ViewSpec(
            protocol=protocol,
            url=url,
            account=self._account(view.account),
            count=view.count,
            of=of,
            device=self._device(view),
            access=Access(streamid=view.streamid, passphrase=view.passphrase, latency=view.latency),
            ice=view.ice,
            family=view.family,
            edges=view.edges,
            cmcd=view.cmcd,
            over=view.over or "",
            at_most=view.at_most,
            verify=view.verify,
            join=view.join,
            max_age=view.max_age,
            start=view.start or self._scenario.deadlines.start.get(protocol),
            optional=view.optional or step.optional,
            impaired=self._impaired(protocol, index),
        )

    def _impaired(self, protocol: str, index: int | None) -> frozenset[str]:
        """Kinds of cut, made by us, that the journey will still aim at viewers of `protocol`."""
        later = self._scenario.journey[index + 1 :] if index is not None else ()
        return frozenset(s.cut for s in later if isinstance(s, Cut) and s.cut in LINK_CUTS and s.of in ("viewers", protocol))
