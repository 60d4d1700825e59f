"""One tree a run, the ids that travelled, and an OTLP receiver that parses what it is sent."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from probe.export import otlp
from probe.export.spans import Span, derived_id, from_plain
from probe.export.trace import spans_of, trace_json
from probe.model.observation import AnswerBegan, Role
from probe.model.outcome import Failed
from probe.model.stage import Phase
from tests.export import sample


def plain(text: str) -> str:
    return text


def spans() -> list[Span]:
    return spans_of(sample.result(), plain)


def server_span(result: Any, **fields: Any) -> dict[str, Any]:
    request = result.sessions[1].requests[0]
    return {
        "trace_id": result.began.trace_id,
        "span_id": "00000000000000aa",
        "parent_span_id": request.span_id,
        "name": "POST /whep",
        "kind": "server",
        "start_unix_ns": sample.UNIX,
        "end_unix_ns": sample.UNIX + 5,
        "attributes": {"room": 1, "x": [1]},
        "error": False,
        "service.name": "sandbox-media",
    } | fields


def test_every_span_hangs_in_one_tree_under_the_run() -> None:
    tree = spans()
    ids = {span.span_id for span in tree}
    assert len(ids) == len(tree)
    assert [span.name for span in tree if not span.parent] == ["run room-start"]
    assert all(span.parent in ids for span in tree[1:])
    assert {span.trace_id for span in tree} == {sample.result().began.trace_id}
    assert all(span.attributes["user_agent.synthetic.type"] == "test" for span in tree)
    assert all(span.start <= span.end for span in tree)


def test_every_viewer_that_started_is_confirmed_under_its_session() -> None:
    result = sample.result()
    started = {s.span_id for s in result.sessions if s.role is Role.VIEWER and s.started is not None}
    assert {s.parent for s in spans() if s.name == "playback confirmed"} == started
    assert len(started) == 4


def test_stages_of_a_session_follow_each_other_without_gap_or_overlap() -> None:
    for session in sample.result().sessions:
        stages = [s for s in spans() if s.parent == session.span_id and s.name.startswith("stage ")]
        assert [s.end for s in stages[:-1]] == [s.start for s in stages[1:]]
        assert sum(s.end - s.start for s in stages) == sum(session.stages.values())


def test_a_request_keeps_the_id_that_travelled_in_its_traceparent() -> None:
    result = sample.result()
    request = result.sessions[1].requests[0]
    (span,) = [s for s in spans() if s.span_id == request.span_id]
    assert span.kind == "client"
    assert span.parent == result.sessions[1].span_id
    assert span.attributes["http.response.status_code"] == 201
    assert span.end - span.start == request.took


def test_a_failure_is_an_error_with_phase_and_reason() -> None:
    (span,) = [s for s in spans() if s.name == "step gift"]
    assert span.attributes["error.type"] == "gift/counted_twice"
    assert span.error == "gift/counted_twice: 2 entries in the ledger"


def test_a_cut_has_its_outage_below_it() -> None:
    cuts = [s for s in spans() if s.name == "cut rebind"]
    assert len(cuts) == 4
    outages = [s for s in spans() if s.name == "outage"]
    assert {o.parent for o in outages} < {c.span_id for c in cuts}
    assert [round((o.end - o.start) / 1e9, 2) for o in outages] == [2.27, 2.3]


def test_a_run_that_was_cut_short_still_makes_a_tree() -> None:
    result = sample.result()
    sessions = tuple(replace(s, outcome=None, ended=None) for s in result.sessions)
    steps = tuple(replace(s, outcome=None, took=None) for s in result.steps)
    tree = spans_of(replace(result, ended=None, outcome=None, sessions=sessions, steps=steps), plain)
    assert all(span.start <= span.end <= tree[0].end for span in tree if not span.name.startswith("outage"))


def test_trace_json_is_otlp_with_hex_ids_and_the_platforms_spans_joined() -> None:
    result = sample.result()
    strangers = [
        server_span(result),
        server_span(result, trace_id="f" * 32),
        server_span(result, span_id="nonsense"),
        server_span(result, start_unix_ns="1"),
        "junk",
    ]
    made = json.loads(trace_json([result], strangers, plain))
    services = {
        r["resource"]["attributes"][0]["value"]["stringValue"]: r["scopeSpans"][0]["spans"] for r in made["resourceSpans"]
    }
    assert set(services) == {"stream-probe", "sandbox-media"}
    (joined,) = services["sandbox-media"]
    assert joined["parentSpanId"] in {s["spanId"] for s in services["stream-probe"]}
    assert joined["kind"] == 2
    assert joined["attributes"] == [{"key": "room", "value": {"intValue": "1"}}]
    for span in services["stream-probe"]:
        assert len(bytes.fromhex(span["traceId"])) == 16 and len(bytes.fromhex(span["spanId"])) == 8
        assert isinstance(span["startTimeUnixNano"], str)


def test_the_answer_of_an_endless_body_is_an_event_and_no_secret_stands_in_it() -> None:
    result = sample.result(healthy=True)
    viewer = next(s for s in result.sessions if s.role is Role.VIEWER and s.started is not None)
    said = AnswerBegan(
        at=viewer.began, purpose="http-flv", request_id="r", status=200, edge="pop hunter2", cache="hunter2", took=1
    )
    result = replace(result, sessions=(replace(viewer, answers=(said,)),))
    spans = spans_of(result, lambda text: text.replace("hunter2", "***"))
    (event,) = [event for span in spans for event in span.events if event.name == "answer http-flv"]
    told = {"http.response.status_code": 200, "streamprobe.edge": "pop ***", "streamprobe.cache": "***"}
    assert dict(event.attributes) == told


def test_no_secret_stands_in_any_span() -> None:
    result = sample.result()
    secret = "hunter2"
    steps = (replace(result.steps[0], outcome=Failed(Phase.AUTH, "http_401", f"refused {secret}")), *result.steps[1:])
    foreign = [server_span(result, name=secret, attributes={"a": secret}, **{"service.name": secret})]
    text = trace_json([replace(result, steps=steps)], foreign, lambda t: t.replace(secret, "•••"))
    assert secret not in text and "refused" in text


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda c: st.lists(c) | st.dictionaries(st.text(), c),
            max_leaves=8,
        )
    )
)
def test_spans_of_strangers_never_raise(junk: list[Any]) -> None:
    assert from_plain(junk, "0" * 32) == []


@given(st.dictionaries(st.text(max_size=5), st.floats() | st.integers() | st.text(max_size=5) | st.none(), max_size=100))
def test_attributes_of_strangers_are_bounded_and_finite(attributes: dict[str, Any]) -> None:
    result = sample.result()
    (span,) = from_plain([server_span(result, attributes=attributes)], result.began.trace_id)
    assert len(span.attributes) <= 64
    trace_json([result], [server_span(result, attributes=attributes)], plain)


def test_derived_ids_are_the_same_each_time_and_differ() -> None:
    assert derived_id("a", "b") == derived_id("a", "b") != derived_id("ab", "")
    assert len(derived_id("a")) == 16


# -- the wire


class Receiver:
    """An OTLP/HTTP receiver that parses the protobuf it is sent."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.hang = asyncio.Event()
        self.hang.set()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        await self.hang.wait()
        self.headers.append(dict(request.headers))
        self.requests.append(ExportTraceServiceRequest.FromString(body))
        return web.Response(status=self.status)

    def spans(self) -> list[Any]:
        return [s for r in self.requests for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]


@asynccontextmanager
async def receiver(monkeypatch: pytest.MonkeyPatch, **environment: str) -> AsyncIterator[tuple[Receiver, dict[str, str]]]:
    taker = Receiver()
    application = web.Application()
    application.router.add_post("/v1/traces", taker.take)
    runner = web.AppRunner(application, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{runner.addresses[0][1]}", **environment}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    try:
        yield taker, env
    finally:
        taker.hang.set()
        await runner.cleanup()


async def test_the_receiver_gets_every_span_with_our_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver(monkeypatch, OTEL_EXPORTER_OTLP_HEADERS="x-tenant=probe") as (taker, env):
        assert await asyncio.to_thread(otlp.send, spans(), env)
        got = {s.span_id.hex(): s for s in taker.spans()}
        assert set(got) == {s.span_id for s in spans()}
        root = got[sample.result().began.span_id]
        assert root.trace_id.hex() == sample.result().began.trace_id
        assert root.parent_span_id == b""
        gift = next(s for s in got.values() if s.name == "step gift")
        assert gift.status.code == 2 and gift.parent_span_id == root.span_id
        assert taker.headers[0]["x-tenant"] == "probe"
        names = {a.key: a.value.string_value for a in taker.requests[0].resource_spans[0].resource.attributes}
        assert names["service.name"] == "stream-probe" and names["service.version"] == "0.1.0"


async def test_the_service_name_of_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver(monkeypatch, OTEL_SERVICE_NAME="probe-eu") as (taker, env):
        assert await asyncio.to_thread(otlp.send, spans(), env)
        names = {a.key: a.value.string_value for a in taker.requests[0].resource_spans[0].resource.attributes}
        assert names["service.name"] == "probe-eu"


async def test_a_refusing_receiver_is_one_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiver(monkeypatch) as (taker, env):
        taker.status = 400
        assert not await asyncio.to_thread(otlp.send, spans(), env)
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING and r.name != "asyncio"] == [
        "the trace was not sent: the receiver did not take it"
    ]


async def test_a_silent_receiver_is_given_up_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiver(monkeypatch) as (taker, env):
        taker.hang.clear()
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert not await asyncio.to_thread(otlp.send, spans(), env, 0.5)
        assert loop.time() - began < 3
    assert sum("the trace was not sent" in r.message for r in caplog.records) == 1
    for left in [t for t in threading.enumerate() if t.name == "otlp"]:
        await asyncio.to_thread(left.join, 5)


def test_nothing_is_sent_where_nothing_asks_for_it() -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    assert not otlp.wanted({})
    assert otlp.wanted(endpoint)
    assert not otlp.wanted(endpoint | {"OTEL_SDK_DISABLED": "true"})
    assert not otlp.wanted(endpoint | {"OTEL_TRACES_EXPORTER": "none"})
    assert not otlp.send(spans(), {})


def test_a_protocol_we_do_not_speak_is_said_and_not_tried(caplog: pytest.LogCaptureFixture) -> None:
    assert not otlp.send(spans(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert "grpc is not spoken here" in caplog.text
