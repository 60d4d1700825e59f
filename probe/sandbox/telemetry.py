"""The platform's own spans and logs.

Server spans join the caller's `traceparent` (W3C trace context), so one run is one tree: the probe's request, our work.
They go by OTLP/HTTP where OTEL_EXPORTER_OTLP_ENDPOINT says so, and always into a bounded ring that the admin port shows,
for the probe to join into its `trace.json`. Each service is a resource of its own (`service.name`).
Logs are JSON lines on stderr; they carry ids, never bodies, queries or headers.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import deque
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from probe.model.clock import Clock

RING = 4000
_log = logging.getLogger("probe.sandbox")
Attribute = str | int | float | bool


class _Ring(SpanProcessor):
    def __init__(self) -> None:
        self.spans: deque[dict[str, Any]] = deque(maxlen=RING)

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        assert context is not None
        self.spans.append(
            {
                "trace_id": f"{context.trace_id:032x}",
                "span_id": f"{context.span_id:016x}",
                "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else "",
                "name": span.name,
                "kind": span.kind.name.lower(),
                "start_unix_ns": span.start_time,
                "end_unix_ns": span.end_time,
                "attributes": dict(span.attributes or {}),
                "error": not span.status.is_ok,
                "service.name": span.resource.attributes.get("service.name", ""),
            }
        )


class Span:
    """One open span; `end` it once."""

    def __init__(self, span: trace.Span, clock: Clock) -> None:
        self._span = span
        self._clock = clock
        self.context = trace.set_span_in_context(span)
        self.trace_id = f"{span.get_span_context().trace_id:032x}"

    def set(self, **attributes: Attribute) -> None:
        for name, value in attributes.items():
            self._span.set_attribute(name.replace("__", "."), value)

    def end(self, error: bool = False) -> None:
        if error:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end(self._clock.wall().unix_ns)

    def headers(self) -> dict[str, str]:
        """`traceparent` for a request that this span makes."""
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, self.context)
        return carrier


class Telemetry:
    """Makes spans, keeps the ring, exports where asked to."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ring = _Ring()
        self._processors: list[SpanProcessor] = [self._ring]
        if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            self._processors.append(BatchSpanProcessor(OTLPSpanExporter(timeout=1), schedule_delay_millis=500))
        self._tracers: dict[str, trace.Tracer] = {}

    def span(
        self,
        service: str,
        name: str,
        *,
        headers: Mapping[str, str] | None = None,
        parent: Span | None = None,
        server: bool = False,
    ) -> Span:
        """Open a span of `service`, under `parent` or under what the request's headers name."""
        context: Context | None = parent.context if parent else TraceContextTextMapPropagator().extract(dict(headers or {}))
        kind = trace.SpanKind.SERVER if server else trace.SpanKind.INTERNAL
        started = self._clock.wall().unix_ns
        return Span(self._tracer(service).start_span(name, context=context, kind=kind, start_time=started), self._clock)

    def recent(self, trace_id: str | None) -> list[dict[str, Any]]:
        return [s for s in self._ring.spans if trace_id in (None, s["trace_id"])]

    def close(self) -> None:
        """Flush what is left; bounded by the exporter's timeout of a second."""
        for processor in self._processors:
            processor.shutdown()

    def _tracer(self, service: str) -> trace.Tracer:
        if service not in self._tracers:
            resource = Resource.create({"service.name": f"sandbox-{service}"})
            provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            for processor in self._processors:
                provider.add_span_processor(processor)
            self._tracers[service] = provider.get_tracer("probe.sandbox")
        return self._tracers[service]


class _JsonLines(logging.Formatter):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"time_unix_ns": self._clock.wall().unix_ns, "level": record.levelname.lower()}
        line |= getattr(record, "fields", {"service": record.name})
        line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(clock: Clock) -> None:
    """JSON lines on stderr: ours from info on, libraries' from error on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines(clock))
    logging.basicConfig(handlers=[handler], level=logging.ERROR)
    _log.setLevel(logging.INFO)


def log(message: str, **fields: Attribute) -> None:
    _log.info(message, extra={"fields": fields})


def log_exception(message: str, **fields: Attribute) -> None:
    _log.exception(message, extra={"fields": fields})
