"""Logs: JSON lines on stderr with run_id, trace_id, request_id, service and region, and no secret in any of them.

Redaction is the last thing before the stream: whatever a library put into its message passes it too.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import IO, Any

from probe.net.redact import Redactor
from probe.plan import Plan

_FIELDS = ("run_id", "trace_id", "request_id", "service", "region")


class JsonLines(logging.Formatter):
    """One line an event; fields given as `extra` and the run's own are added where known."""

    def __init__(self, redactor: Redactor, fields: dict[str, str]) -> None:
        super().__init__()
        self._redactor = redactor
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in _FIELDS:
            value = getattr(record, name, None) or self._fields.get(name)
            if value:
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return self._redactor.redact(json.dumps(line, ensure_ascii=False))


def about(plan: Plan) -> dict[str, str]:
    """The fields of lines about a run."""
    return {"run_id": plan.run_id, "trace_id": plan.trace_id, "region": plan.region}


def set_up(redactor: Redactor, *, verbose: bool, fields: dict[str, str], stream: IO[str] | None = None) -> None:
    """Send every logger through the redactor to stderr; libraries from warnings up, ours from info (debug: all) up."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(redactor, fields))
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logging.getLogger("probe").setLevel(logging.DEBUG if verbose else logging.INFO)
    for chatty in ("aioice", "aiortc", "av", "libav", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.INFO if verbose else logging.ERROR)
