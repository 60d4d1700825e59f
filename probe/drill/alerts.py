"""What fires: Alertmanager's `/api/v2/alerts`, Prometheus' `/api/v1/alerts`, and the gates of the fleet's agents as Prometheus
has them. Bounded; what a server answers is taken for hostile, and whatever is not the answer that was asked for is Away.

Of Alertmanager what people are told: what is silenced or inhibited is left out, somebody or something having seen to it. Of
Prometheus what fires, not what is pending.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from probe.decide.asking import Away, ask
from probe.decide.prometheus import Asking
from probe.decide.settings import Prometheus
from probe.drill.sources import Source
from probe.export.words import printable
from probe.model.clock import NS
from probe.model.metrics import PREFIX
from probe.net.redact import Redactor
from probe.net.secret import revealed

MOST_ALERTS = 5_000
_LONGEST = 200  # characters of a label
_PAGES = frozenset({"p1", "page", "critical"})
_GATES = f'max by (scenario, gate, region) ({PREFIX}gate_state{{verdict="fail"}}) == 1'


@dataclass(frozen=True, slots=True, order=True)
class Firing:
    """One that fires. Of several that differ in other labels only, one."""

    source: str
    name: str
    region: str = ""
    scenario: str = ""
    severity: str = ""
    owner: str = ""
    gate: str = ""  # of the fleet; its name

    @property
    def pages(self) -> bool:
        """Somebody is woken for it: P1, or what others call it."""
        return self.severity.lower() in _PAGES


class Asked:
    """One source."""

    def __init__(self, source: Source, client: aiohttp.ClientSession, redactor: Redactor) -> None:
        self.source, self._client, self._redactor = source, client, redactor

    async def alertmanager(self) -> frozenset[Firing]:
        """Raises Away."""
        return await self._get("/api/v2/alerts?active=true&silenced=false&inhibited=false", of_alertmanager)

    async def prometheus(self) -> frozenset[Firing]:
        """Alerts and closed gates. Raises Away."""
        settings = Prometheus.model_construct(url=self.source.url, headers=self.source.headers, timeout=self.source.timeout)
        found = await self._get("/api/v1/alerts", of_prometheus)
        samples = await Asking(settings, self._client, self._redactor).ask(_GATES)
        return found | {_gate(sample.labels) for sample in samples}

    async def _get(self, path: str, read: Any) -> frozenset[Firing]:
        try:
            url, headers = await asyncio.to_thread(self._to)
        except OSError as error:
            raise Away(str(error.strerror)) from None
        reply = await ask(self._client, "GET", url + path, headers, self.source.timeout / NS)
        if reply.status != 200:
            raise Away(f"it answered {reply.status}")
        found: frozenset[Firing] = await asyncio.to_thread(read, reply.body)
        return found

    def _to(self) -> tuple[str, dict[str, str]]:
        url = self.source.url if isinstance(self.source.url, str) else revealed(self.source.url.source, self._redactor)
        headers = {name: revealed(source.source, self._redactor) for name, source in self.source.headers.items()}
        return url.rstrip("/"), headers


def of_alertmanager(body: bytes) -> frozenset[Firing]:
    """Those that are active. Raises Away."""
    found = _json(body)
    if not isinstance(found, list):
        raise Away("its answer is not a list of alerts")
    active = [one for one in _bounded(found) if _field(one, "status", "state") == "active"]
    return frozenset(_firing("alertmanager", one) for one in active)


def of_prometheus(body: bytes) -> frozenset[Firing]:
    """Those that fire. Raises Away."""
    found = _json(body)
    data = found.get("data") if isinstance(found, dict) and found.get("status") == "success" else None
    alerts = data.get("alerts") if isinstance(data, dict) else None
    if not isinstance(alerts, list):
        raise Away("its answer is not a list of alerts")
    return frozenset(_firing("prometheus", one) for one in _bounded(alerts) if _field(one, "state") == "firing")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Away("its answer is not JSON") from None


def _bounded(alerts: list[Any]) -> list[Any]:
    if len(alerts) > MOST_ALERTS:
        raise Away(f"it answered with {len(alerts)} alerts, more than {MOST_ALERTS}")
    return alerts


def _field(one: Any, *names: str) -> Any:
    for name in names:
        one = one.get(name) if isinstance(one, dict) else None
    return one


def _firing(source: str, one: Any) -> Firing:
    labels = _field(one, "labels")
    if not isinstance(labels, dict) or not isinstance(labels.get("alertname"), str):
        raise Away("one of its alerts has no name")
    return Firing(
        source, _label(labels, "alertname"), *(_label(labels, name) for name in ("region", "scenario", "severity", "owner"))
    )


def _gate(labels: Mapping[str, str]) -> Firing:
    name = _label(labels, "gate")
    return Firing("prometheus", f"gate {name}", _label(labels, "region"), _label(labels, "scenario"), gate=name)


def _label(labels: Mapping[str, Any], name: str) -> str:
    return printable(str(labels.get(name, "")), _LONGEST)
