"""One run's trace by OTLP/HTTP, where the standard OTEL_* variables ask for it; an agent's way is `telemetry.py`.

The SDK's exporter does the speaking (and honours endpoint, headers, compression, certificates and timeout from the
environment); we hand it read-only spans with our own ids. It runs in a thread under a deadline after the run has been
judged, and whatever goes wrong is one line in the log: telemetry never hurts a verdict.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from probe.export.otlp_spans import BATCH, readable
from probe.export.spans import Span

_log = logging.getLogger(__name__)
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces to be sent."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(environment.get(name) for name in _ENDPOINTS)


def send(spans: Sequence[Span], environment: Mapping[str, str], deadline: float = 5.0) -> bool:
    """Send `spans`; returns whether all of them were taken within `deadline` seconds. Never raises.

    `environment` decides whether and says under which name; the exporter reads the rest from the process's own."""
    if not wanted(environment):
        return False
    spoken = next((environment[name] for name in _PROTOCOLS if environment.get(name)), _SPOKEN)
    if spoken != _SPOKEN:
        _log.warning("the trace was not sent: OTLP by %s is not spoken here, only %s", spoken, _SPOKEN)
        return False
    outcome: list[str] = []
    timeout = None if any(environment.get(name) for name in _TIMEOUTS) else deadline
    resources: dict[tuple[str, str], Resource] = {}

    def described(span: Span) -> Resource:
        key = environment.get("OTEL_SERVICE_NAME") or span.service, span.version
        if key not in resources:
            resources[key] = Resource.create({"service.name": key[0], "service.version": key[1]})
        return resources[key]

    sender = _Sender(readable(spans, described), timeout, outcome)
    thread = threading.Thread(target=sender, name="otlp", daemon=True)
    thread.start()
    thread.join(deadline)
    sender.stop()
    problem = outcome[0] if outcome else f"no answer within {deadline:g} s"
    if problem:
        _log.warning("the trace was not sent: %s", problem)
    return not problem


class _Sender:
    """What the thread does; leaves one line in `outcome`, empty when all went well."""

    def __init__(self, spans: list[ReadableSpan], timeout: float | None, outcome: list[str]) -> None:
        self._spans = spans
        self._timeout = timeout
        self._outcome = outcome
        self._exporter: OTLPSpanExporter | None = None

    def __call__(self) -> None:
        # The library tells of each retry; we tell once, how it ended.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        try:
            self._exporter = OTLPSpanExporter(timeout=self._timeout)
            batches = [self._spans[n : n + BATCH] for n in range(0, len(self._spans), BATCH)]
            taken = all(self._exporter.export(batch) is SpanExportResult.SUCCESS for batch in batches)
            self._outcome.append("" if taken else "the receiver did not take it")
        except Exception as error:
            self._outcome.append(f"{type(error).__name__}: {error}")

    def stop(self) -> None:
        """Ends a retry that is waiting."""
        if self._exporter is not None:
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK gives it no types
