"""Metrics: exactly the table, every series at 0 first, nothing unbounded, nothing that is not a number."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from probe.export.exposition import classic, openmetrics_text, serve
from probe.export.families import Families, plain
from probe.export.figures import OWN_CUTS, UNPLANNED
from probe.export.prometheus import MetricsSink
from probe.judge.fold import fold
from probe.judge.sums import OWN_CUTS as JUDGED_CUTS
from probe.judge.sums import UNPLANNED as JUDGED_UNPLANNED
from probe.model.clock import MS, NS
from probe.model.metrics import LABELS, MAX_COLLAPSIBLE, METRICS, OTHER, PREFIX
from probe.model.observation import CutOutcome, Delivery, Freeze, HealthSample, RequestDone, Role, SessionStarted, Window
from probe.model.outcome import REASONS, Failed
from probe.model.stage import Phase
from probe.model.verdict import RunResult, Verdict
from probe.plan import (
    CutStep,
    Device,
    FakeStep,
    HttpCall,
    HttpStep,
    Plan,
    PublishStep,
    ViewSpec,
    ViewStep,
    WaitStep,
    WebsocketStep,
)
from probe.scenario.schema import Objective
from tests.export import sample
from tests.tools import free_port, requires, spawn, wait_until

BEGAN = 1000 * NS
PROTOCOLS = {
    (Role.PUBLISHER, "whip"): (Phase.CONNECT, Phase.SIGNAL, Phase.ICE, Phase.ACK),
}


def promise(name: str, indicator: str) -> Objective:
    within = {"within": "2s"} if indicator == "first_frame" else {}
    return Objective.model_validate({"name": name, "indicator": indicator, "target": "99%", "window": "30d", **within})


def plan() -> Plan:
    call = HttpCall(method="POST", url="/x")
    return Plan(
        scenario="room-start",
        description="",
        owner="",
        mode="smoke",
        seed=7,
        region="eu",
        publish_region="eu",
        run_id="r",
        run_number=1,
        trace_low=1,
        platform_url="https://live.example.test",
        allow=(),
        ice_servers=(),
        accounts={},
        secrets={},
        journey=(
            HttpStep(name="login", service="auth", call=call),
            HttpStep(name="room", service="room", call=call),
            PublishStep(name="publish", protocol="whip", url="/whip", device=Device(name="desktop")),
            ViewStep(
                name="view",
                views=(
                    ViewSpec(protocol="whep", url="/whep", count=3, device=Device(name="desktop")),
                    ViewSpec(protocol="hls", url="/hls", count=2, device=Device(name="desktop")),
                ),
            ),
            WebsocketStep(name="chat", service="chat", url="/chat", send="hello"),
            HttpStep(name="coins", service="payment", call=call),
            HttpStep(name="gift", service="gift", call=call),
            CutStep(name="cut", of="viewers", cut="rebind", duration=2 * NS),
            HttpStep(name="moderate", service="moderation", call=call),
        ),
        final=(HttpStep(name="end", service="room", call=call),),
        run_deadline=90 * NS,
        reconnect_deadline=10 * NS,
        objectives=(promise("room-start", "room_start"), promise("first-frame", "first_frame")),
    )


def fed(result: RunResult, *, declared: bool = False) -> MetricsSink:
    sink = MetricsSink()
    if declared:
        sink.declare(plan())
    for fact in sample.observations(result):
        sink.put(fact)
    sink.count_result(result, Verdict.FAIL)
    return sink


def value(sink: MetricsSink, name: str, **labels: str) -> float | None:
    """The sum of the series that carry `labels`; None where there is none."""
    found = [
        s.value
        for family in sink.registry.collect()
        for s in family.samples
        if s.name == PREFIX + name and all(s.labels.get(k) == v for k, v in labels.items())
    ]
    return sum(found) if found else None


def series(sink: MetricsSink) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {(s.name, tuple(sorted(s.labels.items()))) for family in sink.registry.collect() for s in family.samples}


def test_every_exported_name_and_label_set_is_exactly_the_tables() -> None:
    sink = fed(sample.failing().runs[0].result, declared=True)
    sink.count_objective(sample.failing().runs[0].result.began, "room-start", "good")
    for family in parse_classic(classic(sink.registry)):
        name = family.name if family.name in METRICS else f"{family.name}_total"
        metric = METRICS[name]
        assert family.type == metric.kind.value
        assert family.documentation == metric.help
        for s in family.samples:
            assert set(s.labels) - {"le"} == set(metric.labels), s.name
            assert set(s.labels) <= LABELS | {"le"}
    exported = {f.name for f in parse_openmetrics(openmetrics_text(sink.registry))}
    assert exported == {name.removesuffix("_total") for name in METRICS}


def test_what_a_scenario_can_produce_stands_at_zero_before_anything_happens() -> None:
    sink = MetricsSink()
    sink.declare(plan())
    declared = series(sink)
    assert all(s.value == 0 for f in sink.registry.collect() for s in f.samples if s.name != f"{PREFIX}self_series")
    used = fed(sample.result(), declared=True)
    used.count_objective(sample.result().began, "room-start", "bad")
    used.count_objective(sample.result().began, "first-frame", "inconclusive", "hls")
    born_late = {
        name for name, labels in series(used) - declared if name.endswith("_total") and name != f"{PREFIX}edge_requests_total"
    }  # an edge is known once it has answered
    assert born_late == set()


def test_an_edge_is_born_at_zero_in_every_class_when_it_is_first_seen() -> None:
    sink = fed(sample.result())
    for family in ("2xx", "3xx", "4xx", "5xx", "none"):
        assert value(sink, "edge_requests_total", edge="edge-a", cache="hit", **{"class": family}) is not None
    assert value(sink, "edge_requests_total", edge="edge-a", cache="none", **{"class": "4xx"}) == 0


def test_an_edge_is_born_at_zero_for_every_protocol_that_meets_it() -> None:
    """One protocol, or a look before any viewer came, was once enough to have met an edge: the next one's error was born at 1."""
    result = sample.result()
    sink = MetricsSink()
    for fact in sample.observations(result):
        if type(fact).__name__ in ("RunBegan", "SessionBegan"):
            sink.put(fact)
    by_protocol = {s.protocol: s.session for s in result.sessions}
    for session in ("", by_protocol["hls"], by_protocol["whep"]):
        sink.put(
            RequestDone(
                run=result.began.run, session=session, service="", purpose="segment", method="GET", url="", edge="shared",
                cache="hit", status=200, size=1, took=1, request_id="", span_id="", parent_span_id="",
            )
        )  # fmt: skip
    for protocol in ("", "hls", "whep"):
        for cache in ("hit", "miss", "none", "other"):
            found = value(sink, "edge_requests_total", edge="shared", protocol=protocol, cache=cache, **{"class": "5xx"})
            assert found == 0, (protocol, cache)


def test_a_platform_whose_clock_is_ahead_has_no_negative_live_latency_in_the_histogram() -> None:
    result = sample.result()
    sink = MetricsSink()
    for fact in sample.observations(result):
        if type(fact).__name__ in ("RunBegan", "SessionBegan"):
            sink.put(fact)
    session = next(s.session for s in result.sessions if s.protocol == "hls")
    for latency in (-3.0, 2.0, None):
        sink.put(Delivery(run=result.began.run, session=session, at=BEGAN, live_latency=latency))
    assert value(sink, "live_latency_seconds_count", protocol="hls") == 1
    assert value(sink, "live_latency_seconds_sum", protocol="hls") == 2.0


def test_declared_phases_narrow_the_failures_of_a_protocol() -> None:
    sink = MetricsSink()
    sink.declare(plan(), PROTOCOLS)
    assert value(sink, "failures_total", protocol="whip", phase="ack", reason="none") == 0
    assert value(sink, "failures_total", protocol="whip", phase="keyframe") is None
    assert value(sink, "failures_total", protocol="whep", phase="keyframe", reason="none") == 0
    assert value(sink, "failures_total", service="gift", phase="gift", reason="counted_twice") == 0


def test_attempts_are_the_sum_of_outcomes() -> None:
    sink = fed(sample.result())
    assert value(sink, "attempts_total") == value(sink, "outcomes_total") == 6
    assert value(sink, "outcomes_total", tainted="true") == 1
    assert value(sink, "outcomes_total", outcome="failed", protocol="hls") == 1
    assert value(sink, "taints_total", taint="loop_lag") == 1


def test_a_tainted_start_is_counted_but_stays_out_of_the_distribution() -> None:
    sink = fed(sample.result())
    assert value(sink, "outcomes_total", protocol="whep", outcome="done") == 3
    assert value(sink, "first_frame_seconds_count", protocol="whep") == 2


def test_stages_in_the_histogram_add_up_to_the_first_frame() -> None:
    sink = fed(sample.result())
    for protocol in ("whep", "hls"):
        whole = value(sink, "first_frame_seconds_sum", protocol=protocol)
        assert value(sink, "stage_seconds_sum", protocol=protocol) == pytest.approx(whole, abs=1e-6)


def test_a_failed_reconnect_that_ended_its_session_is_one_failure() -> None:
    sink = fed(sample.result())
    assert value(sink, "failures_total", phase="reconnecting") == 1
    assert value(sink, "reconnects_total", outcome="failed") == 1
    assert value(sink, "sessions_ended_total", kind="crashed") is None  # it counts up to our own cut


def test_a_cut_session_counts_up_to_the_cut_only() -> None:
    result = sample.result(healthy=True)
    viewer = next(s for s in result.sessions if s.protocol == "whep")
    only = replace(result, sessions=(viewer,))
    sink = fed(only)
    cut = viewer.cuts[0]
    assert value(sink, "frames_total", kind="verified") == sum(w.verified for w in viewer.windows if w.at <= cut.began)
    assert value(sink, "freezes_total") is None
    assert value(sink, "outage_seconds_count") == 1


def test_an_interruption_that_nobody_made_is_held_against_the_platform() -> None:
    result = sample.result(healthy=True)
    viewer = next(s for s in result.sessions if s.protocol == "whep")
    lost = Failed(Phase.PLAYING, "frozen")
    back = Failed(Phase.RECONNECTING, "timeout")
    cut = replace(viewer.cuts[0], kind="unplanned", step="", outcome=CutOutcome.FAILED, failure=back, restored=None)
    sink = fed(replace(result, sessions=(replace(viewer, cuts=(cut,), ending="crashed", ended_by=lost),)))
    assert value(sink, "reconnects_total", kind="unplanned", outcome="failed") == 1
    assert value(sink, "sessions_ended_total", kind="crashed") == 1
    assert value(sink, "failures_total") == 1  # one loss, told by why it was lost
    assert value(sink, "failures_total", phase="playing", reason="frozen") == 1


def test_how_far_a_session_counts_is_the_same_here_and_for_the_judge() -> None:
    assert (OWN_CUTS, UNPLANNED) == (JUDGED_CUTS, JUDGED_UNPLANNED)


def test_a_result_that_was_really_folded_is_counted_whole() -> None:
    result = fold(sample.observations(sample.result()))
    sink = fed(result, declared=True)
    assert value(sink, "attempts_total") == value(sink, "outcomes_total") == 6
    assert value(sink, "steps_total") == len(result.steps)


def test_a_failure_of_a_view_step_is_counted_for_its_sessions_and_not_again() -> None:
    sink = fed(sample.result())
    assert value(sink, "failures_total", phase="first_frame") == 1
    assert value(sink, "failures_total", service="gift", reason="counted_twice") == 1
    assert value(sink, "steps_total", step="view", outcome="failed") == 1


def test_a_platforms_own_switch_that_fails_is_a_failure_born_at_zero() -> None:
    cut = CutStep(name="cut", of="platform", cut="restart", duration=NS, call=HttpCall(method="POST", url="/restart"))
    sink = MetricsSink()
    sink.declare(replace(plan(), journey=(cut,), final=()))
    declared = series(sink)
    result = sample.result(healthy=True)
    step = next(s for s in result.steps if s.kind == "cut")
    failed = replace(step, step="cut", service="", outcome=Failed(Phase.ROOM, "http_503"))
    sink.count_result(replace(result, sessions=(), steps=(failed,), available={}), Verdict.FAIL)
    assert value(sink, "failures_total", phase="room", reason="http_503") == 1
    assert {n for n, _ in series(sink) - declared} <= {f"{PREFIX}runs_total"}


def test_reasons_stand_on_failures_alone() -> None:
    assert [m.name for m in METRICS.values() if "reason" in m.labels] == [f"{PREFIX}failures_total"]
    assert sum(len(reasons) for reasons in REASONS.values()) < 1500


def test_a_tainted_probe_adds_to_no_distribution_of_media() -> None:
    result = sample.result()
    viewer = next(s for s in result.sessions if s.protocol == "hls")
    sink = MetricsSink()
    facts = list(sample.observations(replace(result, sessions=(viewer,), health=(), requests=())))
    began, intent = (next(f for f in facts if type(f).__name__ == kind) for kind in ("RunBegan", "SessionBegan"))
    window = viewer.windows[0]
    sink.put(began)
    sink.put(intent)
    sink.put(SessionStarted(run=began.run, session=viewer.session, at=BEGAN, took=NS))
    health = HealthSample(run=began.run, took=NS // 2, loop_lag=0.001, at=BEGAN)
    sink.put(health)
    frozen = Freeze(run=began.run, session=viewer.session, began=0, took=NS // 2, rule="w3c")
    for second, (taints, expected) in enumerate(((("loop_lag",), None), ((), 30)), start=1):
        at = BEGAN + second * 2 * NS
        sink.put(replace(frozen, at=at))
        sink.put(replace(window, at=at, took=NS))
        assert value(sink, "e2e_latency_seconds_count") is None  # how the probe was just now it has not said yet
        sink.put(replace(health, at=at + 1, taints=taints))
        assert value(sink, "e2e_latency_seconds_count") == expected
    assert (value(sink, "freezes_total"), value(sink, "frozen_seconds_total")) == (1, 0.5)
    assert value(sink, "watched_seconds_total") == 1
    assert value(sink, "frames_total", kind="decoded") == 60  # frames are counted all the same


@given(st.lists(st.text(max_size=80), min_size=1, max_size=60))
def test_names_a_server_chose_stay_few_short_and_plain(edges: list[str]) -> None:
    result = sample.result()
    sink = MetricsSink()
    sink.put(result.began)
    for edge in edges:
        fact = RequestDone(
            run=result.began.run, service="", purpose="segment", method="GET", url="", edge=edge, cache=edge, status=200, size=1,
            took=1, request_id="", span_id="", parent_span_id="",
        )  # fmt: skip
        sink.put(fact)
    found = {dict(labels)["edge"] for name, labels in series(sink) if name.endswith("edge_requests_total")}
    assert len(found - {OTHER}) <= MAX_COLLAPSIBLE
    assert all(len(edge) <= 64 and edge.isprintable() and edge for edge in found)
    assert {dict(labels)["cache"] for name, labels in series(sink) if name.endswith("edge_requests_total")} <= {
        "hit",
        "miss",
        "none",
        "other",
    }
    assert value(sink, "edge_requests_total") == len(edges)
    assert len(list(parse_classic(classic(sink.registry)))) == len({f.name for f in sink.registry.collect()})


def test_the_twenty_first_edge_is_other_and_the_first_twenty_keep_their_names() -> None:
    families = Families(CollectorRegistry())
    named = [families.collapse("s", "edge", f"edge-{n}")[0] for n in range(25)]
    assert named == [f"edge-{n}" for n in range(20)] + [OTHER] * 5
    assert families.collapse("s", "edge", "edge-3") == ("edge-3", False)
    assert families.collapse("t", "edge", "edge-24") == ("edge-24", True)  # each scenario has its own twenty


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_only_finite_numbers_are_observed(number: float) -> None:
    sink = MetricsSink()
    result = sample.result(healthy=True)
    facts = list(sample.observations(result))
    for fact in facts:
        if type(fact).__name__ in ("RunBegan", "SessionBegan"):
            sink.put(fact)
    viewer = next(s for s in result.sessions if s.protocol == "hls")
    before = value(sink, "e2e_latency_seconds_count", protocol="hls") or 0
    sink.put(
        Window(
            run=result.began.run, session=viewer.session, at=1, took=NS, latencies=(number,), skews=(number,), clock_error=number
        )
    )
    text = classic(sink.registry) + openmetrics_text(sink.registry)
    assert "NaN" not in text
    after = value(sink, "e2e_latency_seconds_count", protocol="hls") or 0
    assert after - before == (1 if math.isfinite(number) else 0)


def test_each_rule_of_freezing_has_a_name_of_its_own() -> None:
    result = sample.result(healthy=True)
    viewer = next(s for s in result.sessions if s.protocol == "hls")
    sink = MetricsSink()
    for fact in sample.observations(replace(result, sessions=(replace(viewer, windows=(), cuts=()),))):
        if type(fact).__name__ in ("RunBegan", "SessionBegan"):
            sink.put(fact)
    for rule, took in (("w3c", 300), ("w3c", 700), ("fixed_500ms", 700), ("rebuffer", 1500)):
        sink.put(Freeze(run=result.began.run, session=viewer.session, at=9, began=1, took=took * MS, rule=rule))
    assert value(sink, "freezes_total") == 2
    assert value(sink, "freezes_fixed_total") == 1
    assert value(sink, "rebuffers_total") == 1
    assert value(sink, "frozen_seconds_total", kind="freeze") == pytest.approx(1.0)
    assert value(sink, "frozen_seconds_total", kind="rebuffer") == pytest.approx(1.5)


def test_a_moving_picture_is_a_series_of_its_own() -> None:
    result = sample.result(healthy=True)
    sessions = tuple(replace(s, verify="moving") if s.protocol == "hls" else s for s in result.sessions)
    sink = fed(replace(result, sessions=sessions))
    assert value(sink, "first_frame_seconds_count", protocol="hls", kind="moving") == 2
    assert value(sink, "attempts_total", protocol="hls", kind="code") is None


def test_open_sessions_are_bounded_and_what_is_beyond_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.export.prometheus.MAX_OPEN", 3)
    sink = MetricsSink()
    for fact in sample.observations(sample.result()):
        if type(fact).__name__ in ("RunBegan", "SessionBegan"):
            sink.put(fact)
    assert len(sink._sessions) == 3
    assert value(sink, "attempts_total") == 6
    assert value(sink, "self_observations_dropped_total", kind="metrics") == 3


def test_a_scripted_failure_and_an_unnamed_service_stand_at_zero_too() -> None:
    sink = MetricsSink()
    fake = FakeStep(name="fake", outcome="failed", phase="chat", reason="not_seen")
    other = HttpStep(name="ping", service="catalogue", call=HttpCall(method="GET", url="/x"))
    sink.declare(replace(plan(), journey=(fake, other, WaitStep(name="wait", duration=NS)), final=(), objectives=()))
    assert value(sink, "failures_total", service="", phase="chat", reason="not_seen") == 0
    assert value(sink, "failures_total", service="catalogue", phase="gift", reason="http_500") == 0
    assert value(sink, "steps_total", step="wait") == 0


def test_a_publishers_objective_is_declared_for_its_protocol() -> None:
    sink = MetricsSink()
    sink.declare(replace(plan(), objectives=(promise("live", "publisher_start"), promise("rooms", "room_start"))))
    assert value(sink, "objective_runs_total", slo="live", protocol="whip", outcome="bad") == 0
    assert value(sink, "objective_runs_total", slo="live", protocol="whep") is None
    assert value(sink, "objective_runs_total", slo="rooms", protocol="") == 0


def test_a_bug_while_counting_hurts_no_one_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    sink = MetricsSink()
    broken: Any = replace(
        next(f for f in sample.observations(sample.result()) if type(f).__name__ == "SessionBegan"), run="unknown"
    )
    sink.put(broken)
    assert value(sink, "self_observations_dropped_total", kind="metrics") == 1


def test_nothing_of_a_run_is_held_after_it_ended() -> None:
    sink = fed(sample.result())
    assert not sink._runs and not sink._sessions


def test_label_values_of_servers_are_plain_words() -> None:
    assert plain("") == "none"
    assert plain('a"b\n{}') == "a_b___"
    assert plain("x" * 500) == "x" * 64


def test_promtool_accepts_the_classic_text() -> None:
    promtool = requires("promtool", package="prometheus")
    sink = fed(sample.result(), declared=True)
    done = subprocess.run([promtool, "check", "metrics"], input=classic(sink.registry).encode(), capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""


async def test_the_endpoint_serves_what_is_asked_for() -> None:
    sink = fed(sample.result())
    async with serve(sink.registry, 0) as port, aiohttp.ClientSession() as http:
        for accept, kind in (
            ("", "text/plain"),
            ("application/openmetrics-text;version=9.9.9x,*/*;q=0", "application/openmetrics-text"),
        ):
            async with http.get(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept}) as answer:
                assert answer.status == 200
                assert answer.content_type == kind
                text = await answer.text()
                assert ("# EOF" in text) == ("trace_id" in text) == (kind != "text/plain")
        async with http.get(f"http://127.0.0.1:{port}/") as answer:
            assert answer.status == 404


async def test_a_taken_port_is_refused_at_once() -> None:
    async with serve(CollectorRegistry(), 0) as port:
        with pytest.raises(OSError, match=str(port)):
            async with serve(CollectorRegistry(), port):
                pass


async def test_a_real_prometheus_scrapes_openmetrics_with_exemplars(tmp_path: Path) -> None:
    prometheus = requires("prometheus", package="prometheus")
    result = sample.result()
    sink = fed(result, declared=True)
    web = free_port()
    async with serve(sink.registry, 0) as port, aiohttp.ClientSession(f"http://127.0.0.1:{web}") as http:
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "probe", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))
        command = [
            prometheus,
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{web}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]

        async def ask(path: str, **query: str) -> Any:
            try:
                async with http.get(f"/api/v1/{path}", params=query) as answer:
                    return (await answer.json())["data"] if answer.status == 200 else None
            except aiohttp.ClientError:
                return None

        async def exemplars() -> Any:
            return await ask("query_exemplars", query=f"{PREFIX}first_frame_seconds_bucket", start="0", end="4000000000")

        with spawn(command, tmp_path / "prometheus.log"):
            found = await wait_until(exemplars, 30, "exemplars in Prometheus")
            traces = {e["labels"]["trace_id"] for s in found for e in s["exemplars"]}
            assert traces == {result.began.trace_id}

            async def failed() -> Any:  # a scrape's exemplars are visible a moment before its samples are
                answer = await ask("query", query=f'{PREFIX}outcomes_total{{outcome="failed",protocol="hls",tainted="false"}}')
                return answer and answer["result"]

            assert [r["value"][1] for r in await wait_until(failed, 10, "the scrape's samples")] == ["1"]
            targets = await ask("targets")
            assert [t["lastError"] for t in targets["activeTargets"]] == [""]
