"""The collector parses what OpenTelemetry's own exporter sends."""

import asyncio

import aiohttp
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.peers import otlp


async def test_spans_of_the_sdk_arrive_with_parents_attributes_and_resource() -> None:
    async with otlp.running() as collector:

        def send() -> None:
            provider = TracerProvider(resource=Resource({"service.name": "here"}), shutdown_on_exit=False)
            provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{collector.url}/v1/traces", timeout=5)))
            tracer = provider.get_tracer("scope")
            with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner") as inner:
                inner.set_attributes({"n": 3, "list": ["a", "b"]})
                inner.add_event("seen")
            provider.shutdown()

        await asyncio.to_thread(send)
        inner, outer = await collector.expect(2)
        assert (inner.name, outer.name, inner.parent, outer.parent) == ("inner", "outer", outer.span_id, "")
        assert inner.attributes == {"n": 3, "list": ["a", "b"]}
        assert inner.resource["service.name"] == "here"
        assert inner.events[0][0] == "seen"
        assert collector.tree(outer.trace_id) == {"": [outer], outer.span_id: [inner]}


async def test_what_is_not_protobuf_is_refused() -> None:
    async with otlp.running() as collector, aiohttp.ClientSession() as http:
        url = f"{collector.url}/v1/traces"
        async with http.post(url, data=b"\xff\xff\xff", headers={"Content-Type": "application/x-protobuf"}) as answer:
            assert answer.status == 400
        async with http.post(url, json={}) as answer:
            assert answer.status == 415
        assert collector.spans == []
