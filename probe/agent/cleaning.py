"""Facts leave a worker without secrets in them: only it knows the secrets of its run, and whoever writes records, pages and
traces later does not.

What the plan says and what we mint (ids, names of steps, kinds) is ours and stays as it is, for it names series; all other
text may quote a platform, and is redacted. A fact is cleaned when its batch leaves, a moment after it was made: by then the
token that an answer brought is known. A secret that is learned later than that cannot be taken out any more.
"""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any, TypeVar

from probe.export.figures import redacted
from probe.model.observation import Observation, RequestDone
from probe.net.redact import Redactor

_OURS = frozenset(
    {
        *("run", "session", "step", "scenario", "mode", "region", "publish_region", "device", "protocol", "ingest", "of"),
        *("join", "verify", "kind", "service", "purpose", "method", "ending", "rule", "taints", "phase", "reason", "stage"),
        *("trace_id", "span_id", "parent_span_id", "request_id", "probe_version", "role"),
    }
)
_REMEMBERED = 4096
_T = TypeVar("_T")


class Cleaner(Redactor):
    """A redactor that remembers what it has looked at: the same few texts come again each second."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}
        super().__init__()

    def add(self, secret: str) -> None:
        super().add(secret)
        self._seen.clear()

    def fact(self, fact: Observation) -> Observation:
        """The fact as it may leave; an edge's name that quotes a secret names no edge."""
        clean = self.value(fact)
        if isinstance(clean, RequestDone) and isinstance(fact, RequestDone) and clean.edge != fact.edge:
            return replace(clean, edge="")
        return clean

    def value(self, value: _T) -> _T:
        """Any part of a fact."""
        return self._clean(value)  # type: ignore[no-any-return]  # what it makes is of the type it was given

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, tuple):
            return tuple(map(self._clean, value)) if value and not isinstance(value[0], float) else value
        if isinstance(value, dict):
            return {self._clean(key): self._clean(item) for key, item in value.items()}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            changed = {}
            for field in dataclasses.fields(value):
                if field.name not in _OURS:
                    before = getattr(value, field.name)
                    if (after := self._clean(before)) is not before and after != before:
                        changed[field.name] = after
            return replace(value, **changed) if changed else value
        return value

    def _text(self, text: str) -> str:
        if not text:
            return text
        if (known := self._seen.get(text)) is None:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            known = self._seen[text] = redacted(text, self.redact)
        return known
