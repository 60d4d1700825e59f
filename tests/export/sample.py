"""A run as a bad evening would leave it: some viewers well, one refused, one black, one cut off, the probe unwell for a while.

`failing()` and `healthy()` build whole evaluations; `observations()` plays a result back as the facts it was folded from.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from probe.export.results import Cause, Evaluation, JudgedRun
from probe.model.clock import MS, NS
from probe.model.ids import new_run_ids, span_id
from probe.model.observation import (
    Available,
    CutBegan,
    CutOutcome,
    Freeze,
    HealthSample,
    Note,
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
from probe.model.outcome import Done, Failed, Outcome, Skipped
from probe.model.stage import Phase, Slice, Stage
from probe.model.verdict import Check, CutResult, RunResult, SessionResult, StepResult, Verdict

UNIX = 1_795_251_600 * NS  # 2026-11-21T09:00:00Z
BOOT = 7_000 * NS  # monotonic time at the beginning of the run
WHEP_STAGES = (
    (Stage.PROBE, 2),
    (Stage.RESOLVE, 1),
    (Stage.CONNECT, 4),
    (Stage.TLS, 11),
    (Stage.SIGNAL, 38),
    (Stage.ICE, 22),
    (Stage.DTLS, 19),
    (Stage.FIRST_PACKET, 14),
    (Stage.KEYFRAME, 180),
    (Stage.FIRST_FRAME, 6),
)
WHIP_STAGES = (
    (Stage.PROBE, 8),
    (Stage.CONNECT, 3),
    (Stage.TLS, 12),
    (Stage.SIGNAL, 31),
    (Stage.ICE, 18),
    (Stage.DTLS, 21),
    (Stage.ACK, 210),
)
HLS_STAGES = (
    (Stage.PROBE, 1),
    (Stage.CONNECT, 4),
    (Stage.TLS, 10),
    (Stage.PLAYLIST, 45),
    (Stage.INIT, 21),
    (Stage.SEGMENT, 260),
    (Stage.FIRST_FRAME, 30),
)


class Builder:
    """Repeatable: everything random comes from `seed`."""

    def __init__(self, seed: int = 7, region: str = "eu", mode: str = "smoke") -> None:
        self.rng = random.Random(seed)
        self.ids = new_run_ids(UNIX // MS, self.rng)
        self.region = region
        self.began = RunBegan(
            run=self.ids.run_id,
            at=BOOT,
            scenario="room-start",
            mode=mode,
            seed=seed,
            publish_region="eu",
            region=region,
            run_number=self.ids.number,
            trace_id=self.ids.trace_id,
            span_id=span_id(self.rng),
            wall_unix_ns=UNIX,
            wall_error_ns=2 * MS,
            target="https://live.example.test",
            probe_version="0.1.0",
        )
        self.sessions: list[SessionResult] = []
        self.steps: list[StepResult] = []
        self.requests: list[RequestDone] = []
        self.number = 0

    def slices(self, began: int, stages: tuple[tuple[Stage, int], ...]) -> tuple[Slice, ...]:
        out: list[Slice] = []
        for stage, ms in stages:
            took = max(1, int(ms * MS * self.rng.uniform(0.7, 1.6)))
            out.append(Slice(stage, began, took))
            began += took
        return tuple(out)

    def request(self, at: int, session: str = "", parent: str = "", **fields: object) -> RequestDone:
        self.number += 1
        values: dict[str, object] = {
            "service": "",
            "purpose": "signal",
            "method": "POST",
            "url": "https://live.example.test/rooms/r/whep",
            "edge": "",
            "cache": "",
            "status": 201,
            "size": 2_100,
            "took": 30 * MS,
            "request_id": f"req-{self.number}",
            "span_id": span_id(self.rng),
            "parent_span_id": parent,
            "failure": None,
        }
        values |= fields
        return RequestDone(run=self.began.run, session=session, at=at, **values)  # type: ignore[arg-type]

    def window(self, session: str, at: int, **fields: object) -> Window:
        values: dict[str, object] = {
            "took": NS,
            "decoded": 30,
            "verified": 30,
            "bytes": self.rng.randint(90_000, 110_000),
            "media_seconds": 1.0,
            "latencies": tuple(round(self.rng.gauss(0.085, 0.008), 6) for _ in range(30)),
            "clock_error": 0.003,
            "skews": (round(self.rng.gauss(0.004, 0.003), 6),),
            "rendition": "640x360",
        }
        values |= fields
        return Window(run=self.began.run, session=session, at=at, **values)  # type: ignore[arg-type]

    def session(
        self,
        name: str,
        *,
        protocol: str,
        began: int,
        stages: tuple[tuple[Stage, int], ...],
        role: Role = Role.VIEWER,
        outcome: Outcome | None = None,
        seconds: int = 20,
        gap: tuple[int, int] | None = None,
        latency: float = 0.085,
        step: str = "view",
        **fields: object,
    ) -> SessionResult:
        """`gap`: seconds of playing [from, to) without pictures. `outcome` None means done."""
        slices = self.slices(began, stages)
        took = sum(piece.took for piece in slices)
        started = began + took if outcome is None else None
        by_stage: dict[Stage, int] = {}
        for piece in slices:
            by_stage[piece.stage] = by_stage.get(piece.stage, 0) + piece.took
        windows: list[Window] = []
        if started is not None:
            for second in range(1, seconds + 1):
                if gap and gap[0] < second <= gap[1]:
                    values: dict[str, object] = {
                        "decoded": 0,
                        "verified": 0,
                        "bytes": 0,
                        "media_seconds": 0.0,
                        "latencies": (),
                        "skews": (),
                        "lost": 0,
                    }
                elif role is Role.PUBLISHER:
                    values = {"latencies": (), "skews": (), "verified": 0, "clock_error": None}
                else:
                    values = {"latencies": tuple(round(self.rng.gauss(latency, latency / 10), 6) for _ in range(30))}
                windows.append(self.window(name, started + second * NS, **values))
        session = SessionResult(
            session=name,
            step=step,
            name=name,
            role=role,
            protocol=protocol,
            device="desktop",
            region=self.region,
            publish_region="eu",
            join="" if role is Role.PUBLISHER else "mid_stream",
            ingest="whip",
            of="publish",
            sound=True,
            verify="code",
            buffered=protocol == "hls",
            optional=False,
            span_id=span_id(self.rng),
            began=began,
            outcome=outcome or Done(),
            started=started,
            took=took if started else None,
            ended=(started or began + took) + seconds * NS if started else began + took,
            ending="planned" if started else "",
            stages=by_stage,
            slices=slices,
            windows=tuple(windows),
            facts={"codec": "H264 42e01f", "server": "sandbox/0.1"} if started else {},
        )
        session = replace(session, **fields)  # type: ignore[arg-type]
        self.sessions.append(session)
        return session

    def step(
        self,
        name: str,
        began: int,
        ms: int,
        *,
        kind: str = "http",
        service: str = "",
        outcome: Outcome | None = None,
        **fields: object,
    ) -> None:
        self.steps.append(
            replace(
                StepResult(
                    step=name,
                    kind=kind,
                    service=service,
                    span_id=span_id(self.rng),
                    began=began,
                    outcome=outcome or Done(),
                    took=ms * MS,
                ),
                **fields,  # type: ignore[arg-type]
            )
        )

    def cut(
        self,
        session: SessionResult,
        *,
        at: int,
        kind: str = "rebind",
        outcome: CutOutcome,
        outage: int | None,
        reconnect: int | None,
    ) -> None:
        """Mark `session` as cut `at` seconds after it started; outage and reconnect in ms."""
        assert session.started is not None
        began = session.started + at * NS
        result = CutResult(
            step="cut",
            kind=kind,
            began=began,
            restored=began + 2 * NS,
            ended=began + 2 * NS + (reconnect or 400) * MS,
            outcome=outcome,
            outage=None if outage is None else outage * MS,
            reconnect=None if reconnect is None else reconnect * MS,
            attempts=1,
            failure=Failed(Phase.RECONNECTING, "timeout", "no verified frame within 10 s")
            if outcome is CutOutcome.FAILED
            else None,
        )
        freezes = session.freezes
        if outage is not None:
            freezes = (
                *freezes,
                Freeze(
                    run=self.began.run, session=session.session, at=began + outage * MS, began=began, took=outage * MS, rule="w3c"
                ),
            )
        index = next(i for i, other in enumerate(self.sessions) if other.session == session.session)
        self.sessions[index] = replace(self.sessions[index], cuts=(*session.cuts, result), freezes=freezes)

    def result(self, *, taints: frozenset[str] = frozenset(), outcome: Outcome | None = None, seconds: int = 24) -> RunResult:
        health = []
        for second in range(seconds):
            unwell = taints and second in (9, 10)
            health.append(
                HealthSample(
                    run=self.began.run,
                    at=BOOT + second * NS,
                    took=NS,
                    loop_lag=0.21 if unwell else round(self.rng.uniform(0.001, 0.009), 6),
                    decode_backlog=0.01,
                    run_delay=0.05,
                    throttled=None,
                    taints=tuple(sorted(taints)) if unwell else (),
                )
            )
        return RunResult(
            began=self.began,
            ended=BOOT + seconds * NS,
            outcome=outcome or Done(),
            sessions=tuple(self.sessions),
            steps=tuple(self.steps),
            requests=tuple(self.requests),
            available={("whip", "whep"): 41 * MS, ("whip", "hls"): 1_310 * MS},
            health=tuple(health),
            notes=(Note(run=self.began.run, at=BOOT + 22 * NS, session="viewer-1", text="DELETE was answered 405"),),
            taints=taints,
        )


def result(*, healthy: bool = False, seed: int = 7, region: str = "eu", mode: str = "smoke") -> RunResult:
    """One run; `healthy` leaves the failures out."""
    b = Builder(seed, region, mode)
    t = BOOT
    b.step("login", t + 5 * MS, 41, service="auth")
    b.step("room", t + 50 * MS, 33, service="room")
    b.step("publish", t + 90 * MS, 310, kind="publish")
    b.step(
        "view",
        t + 1_000 * MS,
        1_450,
        kind="view",
        outcome=None if healthy else Failed(Phase.FIRST_FRAME, "black", "1 of 5 viewers failed"),
    )
    b.step("chat", t + 4_000 * MS, 62, kind="websocket", service="chat")
    b.step("coins", t + 4_100 * MS, 55, service="payment")
    b.step(
        "gift",
        t + 4_200 * MS,
        130,
        service="gift",
        outcome=None if healthy else Failed(Phase.GIFT, "counted_twice", "2 entries in the ledger"),
    )
    b.step("cut", t + 8_000 * MS, 5_300, kind="cut")
    b.step(
        "moderate",
        t + 15_000 * MS,
        900,
        service="moderation",
        outcome=None if healthy else Skipped("prerequisite", "gift failed"),
    )
    b.step("end", t + 22_000 * MS, 48, service="room", final=True)
    for step in b.steps[:2]:
        b.requests.append(
            b.request(
                step.began + 40 * MS,
                session=step.step,
                parent=step.span_id,
                service=step.service,
                purpose="step",
                url=f"https://live.example.test/{step.step}",
                status=200,
            )
        )
    b.session(
        "broadcaster", protocol="whip", role=Role.PUBLISHER, began=t + 92 * MS, stages=WHIP_STAGES, seconds=21, step="publish"
    )
    for n in (1, 2, 3):
        gap = (7, 9 if n < 3 else 10)
        s = b.session(f"viewer-{n}", protocol="whep", began=t + 1_000 * MS + n * 37 * MS, stages=WHEP_STAGES, gap=gap)
        b.sessions[-1] = replace(
            s,
            requests=(b.request(s.slices[4].began + s.slices[4].took, s.session, s.span_id, service="media"),),
            taints=frozenset({"loop_lag"}) if n == 2 and not healthy else frozenset(),
        )
        failed = n == 3 and not healthy
        b.cut(
            b.sessions[-1],
            at=7,
            outcome=CutOutcome.FAILED if failed else CutOutcome.RESTARTED,
            outage=None if failed else 2_240 + 30 * n,
            reconnect=None if failed else 268 + 20 * n,
        )
        if failed:
            cut = b.sessions[-1].cuts[0]
            b.sessions[-1] = replace(
                b.sessions[-1],
                ending="crashed",
                ended_by=cut.failure,
                ended=cut.began + 12 * NS,
                windows=tuple(w for w in b.sessions[-1].windows if w.at <= cut.began),
            )
    if not healthy:
        s = b.sessions[1]
        assert s.started is not None
        freeze = Freeze(
            run=b.began.run, session=s.session, at=s.started + 4 * NS, began=s.started + 3_300 * MS, took=640 * MS, rule="w3c"
        )
        windows = list(s.windows)
        windows[4] = replace(windows[4], decoded=24, verified=22, lost=6, corrupt=2, latencies=windows[4].latencies[:22])
        b.sessions[1] = replace(s, freezes=(*s.freezes, freeze, replace(freeze, rule="fixed_500ms")), windows=tuple(windows))
    for n in (4, 5):
        bad = n == 5 and not healthy
        s = b.session(
            f"viewer-{n}",
            protocol="hls",
            began=t + 1_000 * MS + n * 37 * MS,
            stages=HLS_STAGES,
            latency=2.4,
            outcome=Failed(Phase.FIRST_FRAME, "black", "212 pictures, none of this broadcast") if bad else None,
        )
        requests = []
        for i in range(24):
            status = 503 if not healthy and i % 9 == 4 else 200
            purpose = "playlist" if i % 2 else "segment"
            requests.append(
                b.request(
                    s.began + (i + 1) * 800 * MS,
                    s.session,
                    s.span_id,
                    service="media",
                    purpose=purpose,
                    method="GET",
                    url=f"https://edge-{i % 2}.example.test/hls/{i}.m4s",
                    edge=f"edge-{'ab'[i % 2]}",
                    cache="hit" if i % 3 else "miss",
                    status=status,
                    size=98_000 if purpose == "segment" else 800,
                    failure=Failed(Phase.SEGMENT if purpose == "segment" else Phase.PLAYLIST, "http_503")
                    if status == 503
                    else None,
                )
            )
        b.sessions[-1] = replace(s, requests=tuple(requests))
        if not bad:
            b.cut(b.sessions[-1], at=7, outcome=CutOutcome.UNAFFECTED, outage=None, reconnect=None)
    return b.result(taints=frozenset() if healthy else frozenset({"loop_lag"}))


def checks(healthy: bool) -> tuple[Check, ...]:
    ok = Verdict.PASS
    bad = Verdict.PASS if healthy else Verdict.FAIL
    return (
        Check(
            name="room start",
            result=ok,
            value=1.0,
            unit="ratio",
            threshold=">= 90%",
            n=1,
            min_n=1,
            region="eu",
            owner="growth-lead",
        ),
        Check(
            name="hold-campaign",
            result=ok,
            value=1.0 if healthy else 0.75,
            unit="ratio",
            threshold="room_start < 90%",
            n=4,
            min_n=1,
            window="10m",
            region="eu",
            owner="growth-lead",
            action="pause campaign expansion",
        ),
        Check(
            name="viewer start",
            result=bad,
            value=1.0 if healthy else 0.8,
            unit="ratio",
            threshold="every viewer",
            n=5,
            min_n=1,
            region="eu",
            phase="" if healthy else "first_frame",
            reason="" if healthy else "1 of 5: first_frame/black",
            subject="" if healthy else "view",
        ),
        Check(
            name="gift",
            result=bad,
            n=1,
            region="eu",
            phase="" if healthy else "gift",
            reason="" if healthy else "gift/counted_twice",
            subject="gift",
        ),
        Check(
            name="reconnect p95",
            result=ok if healthy else Verdict.INCONCLUSIVE,
            value=None if not healthy else 0.31,
            unit="seconds",
            threshold="<= 10 s",
            n=2,
            min_n=3,
            region="eu",
            reason="" if healthy else "too few untainted",
        ),
    )


def evaluation(*, healthy: bool = False) -> Evaluation:
    r = result(healthy=healthy)
    verdict = Verdict.PASS if healthy else Verdict.FAIL
    return Evaluation(
        kind="smoke",
        verdict=verdict,
        runs=(JudgedRun(result=r, verdict=verdict, checks=checks(healthy)),),
        started=UNIX,
        evaluated=UNIX + 25 * NS,
        expires=UNIX + 3_625 * NS,
        release="2026.11.3",
        probe_version="0.1.0",
        cause=None
        if healthy
        else Cause(words="a viewer on hls saw only black; edge-a answered 503", fields={"protocol": "hls", "edge": "edge-a"}),
    )


def failing() -> Evaluation:
    return evaluation(healthy=False)


def healthy() -> Evaluation:
    return evaluation(healthy=True)


def crowd(count: int = 80, failures: int = 3) -> Evaluation:
    """A run with many viewers alike."""
    b = Builder()
    for n in range(count):
        b.session(
            f"viewer-{n}",
            protocol="whep",
            began=BOOT + NS + n * 5 * MS,
            stages=WHEP_STAGES,
            seconds=3,
            outcome=Failed(Phase.ICE, "timeout", "deadline of 5 s passed") if n < failures else None,
        )
    r = b.result()
    return replace(failing(), runs=(JudgedRun(result=r, verdict=Verdict.FAIL, checks=checks(False)),))


def observations(r: RunResult) -> Iterator[Observation]:
    """The facts `r` could have been folded from, in order of time, numbered."""
    run = r.began.run
    facts: list[Observation] = [r.began, *r.requests, *r.health, *r.notes]
    for (ingest, p), took in r.available.items():
        facts.append(Available(run=run, at=BOOT + took, protocol=p, took=took, ingest=ingest))
    for step in r.steps:
        facts.append(
            StepBegan(
                run=run,
                session=step.step,
                at=step.began,
                step=step.step,
                kind=step.kind,
                service=step.service,
                span_id=step.span_id,
            )
        )
        if step.outcome is not None and step.took is not None:
            facts.append(
                StepDone(
                    run=run,
                    session=step.step,
                    at=step.began + step.took,
                    step=step.step,
                    kind=step.kind,
                    service=step.service,
                    outcome=step.outcome,
                    took=step.took,
                    optional=step.optional,
                    final=step.final,
                )
            )
    for s in r.sessions:
        facts.append(
            SessionBegan(
                run=run,
                session=s.session,
                at=s.began,
                step=s.step,
                name=s.name,
                role=s.role,
                protocol=s.protocol,
                device=s.device,
                region=s.region,
                publish_region=s.publish_region,
                join=s.join,
                ingest=s.ingest,
                of=s.of,
                sound=s.sound,
                verify=s.verify,
                buffered=s.buffered,
                optional=s.optional,
                span_id=s.span_id,
            )
        )
        facts += [
            StageDone(run=run, session=s.session, at=x.began + x.took, stage=x.stage, began=x.began, took=x.took)
            for x in s.slices
        ]
        if s.started is not None and s.took is not None:
            facts.append(SessionStarted(run=run, session=s.session, at=s.started, took=s.took))
        facts += [*s.windows, *s.freezes, *s.requests]
        for cut in s.cuts:
            facts.append(CutBegan(run=run, session=s.session, at=cut.began, kind=cut.kind, step=cut.step))
            if cut.restored is not None:
                facts.append(Restored(run=run, session=s.session, at=cut.restored, kind=cut.kind, step=cut.step))
            if cut.outcome is not None and cut.ended is not None:
                facts.append(
                    Resumed(
                        run=run,
                        session=s.session,
                        at=cut.ended,
                        kind=cut.kind,
                        step=cut.step,
                        outcome=cut.outcome,
                        outage=cut.outage,
                        reconnect=cut.reconnect,
                        attempts=cut.attempts,
                        failure=cut.failure,
                    )
                )
        if s.outcome is not None and s.ended is not None:
            facts.append(
                SessionEnded(
                    run=run, session=s.session, at=s.ended, outcome=s.outcome, ending=s.ending, ended_by=s.ended_by, facts=s.facts
                )
            )
    if r.outcome is not None and r.ended is not None:
        facts.append(RunEnded(run=run, at=r.ended, outcome=r.outcome))
    facts.sort(key=lambda fact: fact.at)
    for seq, fact in enumerate(facts, 1):
        yield replace(fact, seq=seq)
