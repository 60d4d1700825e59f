"""Asking Prometheus (HTTP API, `POST /api/v1/query`), bounded; what it answers is taken for hostile.

Away, slow, a refusal, no JSON, JSON of another shape, more series than there can be: each is Away with its reason. NaN and
infinities are no numbers: such a sample is there without a value.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import aiohttp

from probe.decide.asking import Away, ask
from probe.decide.settings import Prometheus
from probe.export.words import printable
from probe.model.clock import NS
from probe.net.redact import Redactor
from probe.net.secret import revealed

MOST_SERIES = 5_000


@dataclass(frozen=True, slots=True)
class Sample:
    """`value` None: it is not a finite number."""

    labels: Mapping[str, str]
    value: float | None


class Asking:
    """One Prometheus, by its settings."""

    def __init__(self, settings: Prometheus, client: aiohttp.ClientSession, redactor: Redactor) -> None:
        self._settings, self._client, self._redactor = settings, client, redactor

    async def ask(self, query: str) -> list[Sample]:
        """An instant query. Raises Away."""
        try:
            url, headers = await asyncio.to_thread(self._to)
        except OSError as error:
            raise Away(str(error.strerror)) from None
        body = urlencode({"query": query, "timeout": f"{self._settings.timeout // 1_000_000}ms"}).encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        reply = await ask(self._client, "POST", url, {**headers, **kind}, self._settings.timeout / NS, body)
        try:
            return await asyncio.to_thread(samples, reply.status, reply.body)
        except Away as away:
            raise Away(self._redactor.redact(str(away))) from None

    def _to(self) -> tuple[str, dict[str, str]]:
        settings = self._settings
        url = settings.url if isinstance(settings.url, str) else self._secret(settings.url.source)
        headers = {name: self._secret(source.source) for name, source in settings.headers.items()}
        return url.rstrip("/") + "/api/v1/query", headers

    def _secret(self, source: tuple[str, str]) -> str:
        return revealed(source, self._redactor)


def samples(status: int, body: bytes) -> list[Sample]:
    """The vector that stands in an answer. Raises Away for anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise Away(f"it answered {status}, and that is not JSON") from None
    if not isinstance(found, dict) or found.get("status") != "success":
        said = found.get("error", "") if isinstance(found, dict) else ""
        raise Away(f"it answered {status}: {printable(str(said), 200) or 'no success'}")
    data = found.get("data")
    result = data.get("result") if isinstance(data, dict) and data.get("resultType") == "vector" else None
    if not isinstance(result, list):
        raise Away("its answer is not a vector")
    if len(result) > MOST_SERIES:
        raise Away(f"it answered with {len(result)} series, more than {MOST_SERIES}")
    return [_sample(one) for one in result]


def _sample(one: object) -> Sample:
    try:
        assert isinstance(one, dict)
        labels, (_, text) = one["metric"], one["value"]
        value = float(text)
        told = {str(name): str(value) for name, value in labels.items()}
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError):
        raise Away("its answer is not a vector") from None
    return Sample(told, value if math.isfinite(value) else None)
