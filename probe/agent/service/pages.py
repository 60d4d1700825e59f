"""HTML pages in the look of report.html: no script, one stylesheet known to the policy by its hash, every value escaped and on
one line, without the templates having a say in it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from probe.agent.service.answer import HTML, SECURITY, Answer
from probe.agent.service.view import GateState
from probe.export import report
from probe.export.words import duration, printable
from probe.model.clock import NS

_HERE = Path(__file__).parent / "templates"
_LOOK = Path(report.__file__).parent / "templates" / "report.css"


class Pages:
    """Templates, read once."""

    def __init__(self) -> None:
        style = _LOOK.read_text(encoding="utf-8") + (_HERE / "service.css").read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self._policy = SECURITY["Content-Security-Policy"].replace("form-action 'none'", "form-action 'self'")
        self._policy += f"; style-src 'sha256-{digest}'"
        self._environment = Environment(
            loader=FileSystemLoader(_HERE),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_safe,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(
            style=Markup(style),  # noqa: S704 - our own files, and their hash stands in the policy
            when=when,
            span=span,
            short=short,
            figure=figure,
        )

    async def page(self, name: str, **values: Any) -> Answer:
        """A template with its values, filled in a thread."""
        body = await asyncio.to_thread(self._environment.get_template(f"{name}.html.j2").render, **values)
        return Answer(body.encode(errors="replace"), HTML, headers={"Content-Security-Policy": self._policy})


def _safe(value: Any) -> Any:
    return printable(value, limit=600) if isinstance(value, str) and not isinstance(value, Markup) else value


def when(unix_ns: int | None) -> str:
    """`2026-11-21 16:20:03`, UTC."""
    return f"{datetime.fromtimestamp(unix_ns / NS, UTC):%Y-%m-%d %H:%M:%S}" if unix_ns else "–"


def span(ns: int | None) -> str:
    """A stretch of time from a clock that may have been stepped: `35 s`, `2 min 5 s`, `3 h 20 min`, `4 d`."""
    if ns is None:
        return "–"
    seconds = max(0, ns) // NS
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 86_400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86_400} d"


def figure(gate: GateState) -> str:
    """What a gate goes by: `87.5 %`, `2.31 s`, `3`."""
    if gate.value is None or not math.isfinite(gate.value):
        return "–"
    match gate.unit:
        case "ratio":
            return f"{gate.value:.1%}".replace("%", " %")
        case "seconds":
            return f"{gate.value:.3g} s"
    return f"{gate.value:g}"


def short(ns: int | None) -> str:
    """How long a run took: `38 ms`, `1.45 s`."""
    return duration(ns if ns is None or ns >= 0 else None)
