"""Spans as OTLP: first the SDK's read-only spans, then bytes by the SDK's own encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SdkEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from probe.export.spans import Span

BATCH = 512
_SCOPE = InstrumentationScope("probe")


class Payload(NamedTuple):
    """One request's body, protobuf, and how many spans or data points it holds."""

    entries: int
    body: bytes


def payloads(spans: Sequence[Span], resource: Mapping[str, str]) -> Iterator[Payload]:
    """`spans` in requests of at most 512. `resource` describes the process whose spans they are; those of other services
    (a platform's) are described by their name alone."""
    resources: dict[tuple[str, str], Resource] = {}

    def described(span: Span) -> Resource:
        key = span.service, span.version
        if key not in resources:
            own = resource if span.service == resource.get("service.name") else {}
            resources[key] = Resource({"service.name": span.service, "service.version": span.version, **own})
        return resources[key]

    readables = readable(spans, described)
    for n in range(0, len(readables), BATCH):
        batch = readables[n : n + BATCH]
        yield Payload(len(batch), encode_spans(batch).SerializeToString())


def readable(spans: Sequence[Span], resource: Callable[[Span], Resource]) -> list[ReadableSpan]:
    """As the SDK's exporters take them, each with the resource that `resource` names for it."""
    return [
        ReadableSpan(
            name=span.name,
            context=_context(span.trace_id, span.span_id),
            parent=_context(span.trace_id, span.parent) if span.parent else None,
            resource=resource(span),
            attributes=dict(span.attributes),
            events=[SdkEvent(event.name, dict(event.attributes), event.at) for event in span.events],
            kind=SpanKind[span.kind.upper()],
            instrumentation_scope=_SCOPE,
            status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error),
            start_time=span.start,
            end_time=span.end,
        )
        for span in spans
    ]


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
