"""A run told by hand, with a clock moved by hand: observations as the engine would have made them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from probe.clock import TestClock
from probe.model.clock import MS, NS
from probe.model.observation import (
    CutBegan,
    CutOutcome,
    HealthSample,
    Observation,
    RequestDone,
    Restored,
    Resumed,
    Role,
    RunBegan,
    RunEnded,
    SessionBegan,
    SessionEnded,
    SessionStarted,
    StageDone,
    StepBegan,
    StepDone,
    Window,
)
from probe.model.outcome import Done, Failed, Outcome
from probe.model.stage import Phase, Stage

DONE = Done()


class Story:
    """Each method tells one thing and moves the clock; `facts` is what was told so far."""

    def __init__(self, region: str = "local", publish_region: str = "local", mode: str = "smoke") -> None:
        self.clock = TestClock(10 * NS)
        self.facts: list[Observation] = []
        self._tell(
            RunBegan(
                scenario="story",
                mode=mode,
                seed=1,
                publish_region=publish_region,
                region=region,
                run_number=7,
                trace_id="00",
                span_id="00",
                wall_unix_ns=0,
                wall_error_ns=None,
                target="http://platform",
                probe_version="0",
            )
        )
        self.region, self.publish_region = region, publish_region

    def _tell(self, fact: Observation, session: str = "") -> None:
        at = fact.at or self.clock.now()
        self.facts.append(replace(fact, run="r", session=session or fact.session, seq=len(self.facts) + 1, at=at))

    def step(
        self,
        name: str,
        outcome: Outcome | None = DONE,
        *,
        kind: str = "http",
        service: str = "",
        took: int = 100 * MS,
        optional: bool = False,
        final: bool = False,
    ) -> Story:
        self._tell(StepBegan(step=name, kind=kind, service=service, span_id=name), name)
        self.clock.advance(took)
        if outcome is not None:
            self.done(name, outcome, kind=kind, service=service, took=took, optional=optional, final=final)
        return self

    def done(
        self,
        name: str,
        outcome: Outcome,
        *,
        kind: str,
        service: str = "",
        took: int = 0,
        optional: bool = False,
        final: bool = False,
    ) -> Story:
        self._tell(
            StepDone(step=name, kind=kind, service=service, outcome=outcome, took=took, optional=optional, final=final), name
        )
        return self

    def begin(
        self,
        session: str,
        protocol: str = "whep",
        *,
        role: Role = Role.VIEWER,
        step: str = "",
        optional: bool = False,
        buffered: bool = False,
        region: str = "",
        ingest: str = "",
        sound: bool = False,
    ) -> Story:
        self._tell(
            SessionBegan(
                step=step or ("view" if role is Role.VIEWER else "publish"),
                name=session,
                role=role,
                protocol=protocol,
                device="default",
                region=region or self.region,
                publish_region=self.publish_region,
                join="mid_stream",
                verify="code",
                buffered=buffered,
                optional=optional,
                span_id=session,
                ingest=ingest,
                of=ingest and f"go-{ingest}",
                sound=sound,
            ),
            session,
        )
        return self

    def start(self, session: str, took: int = 200 * MS) -> Story:
        """Its first verified frame, `took` after now, in two stages."""
        began = self.clock.now()
        self._tell(StageDone(at=began + took // 2, stage=Stage.SIGNAL, began=began, took=took // 2), session)
        self._tell(StageDone(at=began + took, stage=Stage.FIRST_FRAME, began=began + took // 2, took=took - took // 2), session)
        self.clock.advance(took)
        self._tell(SessionStarted(took=took), session)
        return self

    def end(self, session: str, outcome: Outcome = DONE, ending: str = "planned", by: Failed | None = None) -> Story:
        self._tell(SessionEnded(outcome=outcome, ending=ending, ended_by=by, facts={"codec": "h264"}), session)
        return self

    def viewer(
        self, session: str, outcome: Outcome = DONE, protocol: str = "whep", *, took: int = 200 * MS, **about: object
    ) -> Story:
        """A whole short life."""
        self.begin(session, protocol, **about)  # type: ignore[arg-type]
        if isinstance(outcome, Done):
            return self.start(session, took).end(session)
        self.clock.advance(took)
        return self.end(session, outcome, "")

    def publisher(self, outcome: Outcome = DONE, session: str = "p") -> Story:
        return self.viewer(session, outcome, "whip", role=Role.PUBLISHER)

    def crash(self, session: str, reason: str = "frozen") -> Story:
        return self.end(session, Done(), "crashed", Failed(Phase.PLAYING, reason))

    def window(self, session: str, *latencies: float, verified: int = 30, sounds: int = 0) -> Story:
        self.clock.advance(NS)
        self._tell(Window(took=NS, decoded=30, verified=verified, latencies=latencies, sounds=sounds), session)
        return self

    def cut(self, session: str, kind: str = "rebind", step: str = "cut") -> Story:
        self._tell(CutBegan(kind=kind, step=step), session)
        return self

    def restored(self, session: str, kind: str = "rebind", step: str = "cut") -> Story:
        self._tell(Restored(kind=kind, step=step), session)
        return self

    def resumed(
        self,
        session: str,
        outcome: CutOutcome = CutOutcome.RESTARTED,
        *,
        kind: str = "rebind",
        step: str = "cut",
        outage: int | None = 3 * NS,
        reconnect: int | None = NS,
        failure: Failed | None = None,
    ) -> Story:
        self._tell(
            Resumed(kind=kind, step=step, outcome=outcome, outage=outage, reconnect=reconnect, attempts=1, failure=failure),
            session,
        )
        return self

    def away(self, session: str, so_far: int = 3 * NS) -> Story:
        """Its end was asked for while the picture was away by itself; then it ended as planned."""
        failure = Failed(Phase.PLAYING, "frozen")
        self._tell(Resumed(kind="unplanned", step="", outcome=CutOutcome.OPEN, failure=failure, so_far=so_far), session)
        return self.end(session)

    def request(
        self, session: str, status: int = 200, *, edge: str = "edge-a", purpose: str = "segment", failure: Failed | None = None
    ) -> Story:
        self._tell(
            RequestDone(
                service="",
                purpose=purpose,
                method="GET",
                url="http://platform/x",
                edge=edge,
                cache="HIT",
                status=status,
                size=1,
                took=MS,
                request_id="",
                span_id="",
                parent_span_id="",
                failure=failure,
            ),
            session,
        )
        return self

    def unwell(self, took: int, *taints: str) -> Story:
        """The probe's health over the last `took`."""
        self._tell(HealthSample(took=took, loop_lag=1.0 if taints else 0.001, taints=taints))
        return self

    def wait(self, ns: int) -> Story:
        self.clock.advance(ns)
        return self

    def finish(self, outcome: Outcome = DONE) -> list[Observation]:
        self._tell(RunEnded(outcome=outcome))
        return self.facts


def healthy() -> Story:
    """Login, publisher, three WHEP viewers and two of HLS, chat: not yet ended."""
    story = Story().step("login", service="auth").publisher().done("publish", Done(), kind="publish")
    for name in ("w1", "w2", "w3"):
        story.viewer(name)
    for name in ("h1", "h2"):
        story.viewer(name, protocol="hls", buffered=True)
    return story.done("view", Done(), kind="view").step("chat", kind="websocket", service="chat")


def of(facts: Iterable[Observation], kind: type) -> list[Observation]:
    return [fact for fact in facts if isinstance(fact, kind)]
