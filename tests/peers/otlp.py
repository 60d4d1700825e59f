"""An OTLP/HTTP collector that parses the protobuf it is sent, with opentelemetry-proto's own messages.

Answers as the specification asks (an Export…ServiceResponse in protobuf, 400 for a body that does not parse, 415 for
another content type) and keeps everything, flat.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from tests.tools import wait_until

MESSAGES: dict[str, tuple[type[Message], type[Message]]] = {
    "traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
    "logs": (ExportLogsServiceRequest, ExportLogsServiceResponse),
}


@dataclass(frozen=True)
class Span:
    """A span as received; ids in hex, `parent` empty for a root, times in Unix ns."""

    trace_id: str
    span_id: str
    parent: str
    name: str
    kind: str
    start: int
    end: int
    status: str
    attributes: dict[str, Any]
    events: tuple[tuple[str, int, dict[str, Any]], ...]
    resource: dict[str, Any]
    scope: str


@dataclass
class Collector:
    """What has been received so far. `refuse` set: every request is answered with that status."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    """Metric name → the last protobuf Metric of that name."""
    logs: list[Any] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    refuse: int = 0

    async def expect(self, count: int, deadline: float = 10.0) -> list[Span]:
        """Wait for `count` spans in all."""
        await wait_until(lambda: len(self.spans) >= count, deadline, f"{count} spans ({len(self.spans)} so far)")
        return self.spans

    def tree(self, trace_id: str) -> dict[str, list[Span]]:
        """Parent span id → its children, of one trace; roots and those whose parent never came stand under ''."""
        spans = [span for span in self.spans if span.trace_id == trace_id]
        known = {span.span_id for span in spans}
        children: dict[str, list[Span]] = {}
        for span in sorted(spans, key=lambda s: s.start):
            children.setdefault(span.parent if span.parent in known else "", []).append(span)
        return children

    async def receive(self, request: web.Request) -> web.Response:
        kind = request.match_info["kind"]
        self.requests.append(kind)
        self.headers.append(dict(request.headers))
        if self.refuse:
            return web.Response(status=self.refuse)
        if kind not in MESSAGES:
            return web.Response(status=404)
        if request.content_type != "application/x-protobuf":
            return web.Response(status=415)
        wanted, answer = MESSAGES[kind]
        message: Any = wanted()
        try:
            message.ParseFromString(await request.read())
        except DecodeError:
            return web.Response(status=400)
        if kind == "traces":
            for resource in message.resource_spans:
                for scope in resource.scope_spans:
                    self.spans += [_span(s, _plain(resource.resource.attributes), scope.scope.name) for s in scope.spans]
        elif kind == "metrics":
            found = (m for resource in message.resource_metrics for scope in resource.scope_metrics for m in scope.metrics)
            self.metrics.update((metric.name, metric) for metric in found)
        else:
            self.logs += [r for resource in message.resource_logs for scope in resource.scope_logs for r in scope.log_records]
        return web.Response(body=answer().SerializeToString(), content_type="application/x-protobuf")


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Collector]:
    """A collector on a port of its own; `url` goes into OTEL_EXPORTER_OTLP_ENDPOINT."""
    collector = Collector()
    application = web.Application(client_max_size=16 * 1024 * 1024)
    application.router.add_post("/v1/{kind}", collector.receive)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        collector.url = f"http://{host}:{port}"
        yield collector
    finally:
        await runner.cleanup()


def _span(span: WireSpan, resource: dict[str, Any], scope: str) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        kind=WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        status={0: "unset", 1: "ok", 2: "error"}[span.status.code],
        attributes=_plain(span.attributes),
        events=tuple((event.name, event.time_unix_nano, _plain(event.attributes)) for event in span.events),
        resource=resource,
        scope=scope,
    )


def _plain(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [_value(v) for v in value.array_value.values]
        case "kvlist_value":
            return _plain(value.kvlist_value.values)
        case name:
            return getattr(value, name)
