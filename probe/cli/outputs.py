"""The files beside a verdict, and the sinks that feed them while the run goes on."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from probe.cli.options import Options
from probe.drivers.table import phases
from probe.errors import ConfigError, Located
from probe.export import exposition, otlp
from probe.export.console import plain_lines, summary, verdict_line
from probe.export.junit import junit_xml
from probe.export.prometheus import MetricsSink
from probe.export.records import RecordSink
from probe.export.report import report_html
from probe.export.results import Evaluation
from probe.export.trace import spans_of, trace_json
from probe.export.verdict_json import verdict_json
from probe.model.observation import Observation, RequestDone
from probe.net.redact import Redactor
from probe.plan import Plan

_log = logging.getLogger("probe")
FILES = ("verdict.json", "junit.xml", "report.html", "metrics.prom", "metrics.openmetrics", "trace.json")


@dataclass(slots=True)
class Outputs:
    """`--out DIR` and what goes there. Directory and port are proven usable before the first run."""

    options: Options
    redactor: Redactor
    metrics: MetricsSink
    records: RecordSink

    @classmethod
    @asynccontextmanager
    async def opened(cls, options: Options, redactor: Redactor, todo: Sequence[Plan]) -> AsyncIterator[Outputs]:
        """Raises ConfigError where the directory cannot be written or the metrics port is taken."""
        async with AsyncExitStack() as stack:
            metrics = MetricsSink()
            for plan in todo:
                metrics.declare(plan, phases())
            try:
                options.out.mkdir(parents=True, exist_ok=True)
                for name in FILES:  # what an earlier run left is not to be taken for this one's
                    (options.out / name).unlink(missing_ok=True)
                records = RecordSink(options.out / "observations.jsonl", redactor.redact)
            except OSError as error:
                raise ConfigError([Located(str(options.out), 0, 0, "--out", f"cannot be written: {error.strerror}")]) from error
            stack.callback(records.close)
            if options.metrics_port is not None:
                try:
                    port = await stack.enter_async_context(exposition.serve(metrics.registry, options.metrics_port))
                except OSError as error:
                    raise ConfigError(
                        [Located("--metrics-port", 0, 0, "", f"{options.metrics_port}: {error.strerror}")]
                    ) from error
                _log.info("metrics at http://127.0.0.1:%d/metrics", port)
            yield cls(options, redactor, metrics, records)

    def put(self, fact: Observation) -> None:
        if isinstance(fact, RequestDone) and self.redactor.redact(fact.edge) != fact.edge:
            fact = replace(fact, edge="")  # a label that quotes a secret names no edge
        self.records.put(fact)
        self.metrics.put(fact)

    async def write(self, evaluation: Evaluation, platform_spans: Sequence[Mapping[str, Any]]) -> list[str]:
        """Every file; one that cannot be written is told, returned, and does not keep the others from being written."""
        redact = self.redactor.redact
        self.records.close()
        self.metrics.count_dropped("records", self.records.dropped)
        renderings: dict[str, Callable[[], str]] = {
            "verdict.json": lambda: verdict_json(evaluation, redact),
            "junit.xml": lambda: junit_xml(evaluation, redact),
            "report.html": lambda: report_html(evaluation, redact),
            "metrics.prom": lambda: exposition.classic(self.metrics.registry),
            "metrics.openmetrics": lambda: exposition.openmetrics_text(self.metrics.registry),  # the same, with exemplars
            "trace.json": lambda: trace_json([run.result for run in evaluation.runs], platform_spans, redact),
        }
        unwritten = []
        for name in FILES:
            try:
                _replace(self.options.out / name, renderings[name]())
            except OSError as error:
                unwritten.append(name)
                _log.error("%s could not be written: %s", name, error.strerror)
            except Exception:
                unwritten.append(name)
                _log.exception("%s could not be written", name)
        if otlp.wanted(os.environ):
            spans = [span for run in evaluation.runs for span in spans_of(run.result, redact)]
            await asyncio.to_thread(otlp.send, spans, os.environ)
        return unwritten

    def show(self, evaluation: Evaluation, console: Console) -> None:
        """The verdict for whoever sits in front of it."""
        redact = self.redactor.redact
        if self.options.json:
            print(verdict_json(evaluation, redact), end="")
        elif self.options.quiet:
            console.print(verdict_line(evaluation, redact), markup=False, soft_wrap=True)
        else:
            if console.is_terminal:
                console.print(summary(evaluation, redact))
            else:
                console.print("\n".join(plain_lines(evaluation, redact)), markup=False, soft_wrap=True)
            console.print(f"report: {self.options.out / 'report.html'}", markup=False, soft_wrap=True)


def _replace(path: Path, text: str) -> None:
    """A reader never sees half a file."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8", errors="replace")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
