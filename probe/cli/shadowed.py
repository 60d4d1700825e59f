"""Alerts that are only tried: what each would have paged, by replay or by what Prometheus saw (its ALERTS series).

Prometheus is asked four instant questions over the whole time, so that its answer has a sample an alert and not one a minute, and
every answer is bounded (probe.decide.prometheus). Where it is away, slow or answers something else, that is said and nothing is
counted: no answer is not "it would have been quiet".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from rich.table import Table

from probe.decide.asking import Away, session
from probe.decide.prometheus import Asking, Sample
from probe.decide.settings import Prometheus
from probe.errors import ConfigError, Located, ProbeError
from probe.export.figures import rfc3339
from probe.export.words import printable
from probe.model.clock import NS
from probe.net.redact import Redactor
from probe.rules.backtest_report import Report, lasting
from probe.rules.told import Notice

STEP = 60 * NS
_FIRING = 'ALERTS{alertstate="firing",shadow="true"}'
_LABELS = ("alertname", "slo", "region", "severity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadowed:
    """`times` it would have told somebody, for `fired` ns in all; `first` and `last` fired at those Unix ns."""

    alert: str
    slo: str
    region: str
    severity: str
    times: int
    fired: int
    first: int
    last: int
    where: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        found = {
            "alert": self.alert, "slo": self.slo, "region": self.region, "severity": self.severity, "pattern": self.where,
            "times": self.times, "fired_seconds": self.fired / NS, "first_at": rfc3339(self.first), "last_at": rfc3339(self.last),
        }  # fmt: skip
        return {name: value for name, value in found.items() if value != ""}


def over_history(report: Report) -> list[Shadowed]:
    """Of the alerts that are marked shadow, over each history that was replayed."""
    out = []
    for result in report.results:
        groups: dict[tuple[str, str, str], list[Notice]] = {}
        for notice in result.shadow:
            groups.setdefault((", ".join(notice.alerts), notice.slo, notice.region), []).append(notice)
        for (alert, slo, region), told in groups.items():
            ends = [result.history.ended if one.ended is None else one.ended for one in told]
            out.append(
                Shadowed(
                    alert=alert, slo=slo, region=region, severity="", times=len(told), where=result.history.name,
                    fired=sum(end - one.began for end, one in zip(ends, told, strict=True)),
                    first=told[0].began, last=max(ends),
                )
            )  # fmt: skip
    return out


async def over_prometheus(address: str, days: float) -> list[Shadowed]:
    """What Prometheus at that address saw firing. Raises ConfigError for an address that is none, ProbeError where there is no
    answer."""
    try:
        settings = Prometheus.model_validate({"url": address, "timeout": "30s"})
    except ValidationError as error:
        said = error.errors(include_input=False, include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigError([Located("--prometheus", 0, 0, "", said)]) from None
    over = f"[{int(days * 24 * 60)}m:{STEP // (60 * NS)}m]"
    quiet = f"{_FIRING} unless last_over_time({_FIRING}[5m] offset 1m)"
    questions = {
        "fired": f"count_over_time({_FIRING}{over})",
        "times": f"count_over_time(({quiet}){over})",
        "first": f"min_over_time(timestamp({_FIRING}){over})",
        "last": f"max_over_time(timestamp({_FIRING}){over})",
    }
    redactor = Redactor()
    try:
        async with session() as client:
            asking = Asking(settings, client, redactor)
            answers = {name: _by_alert(await asking.ask(query)) for name, query in questions.items()}
    except Away as away:
        raise ProbeError(f"Prometheus: {away}; nothing is known of what would have paged") from None
    return [
        Shadowed(
            alert=key[0], slo=key[1], region=key[2], severity=key[3], times=int(answers["times"].get(key, 1)),
            fired=int(fired) * STEP, first=int(answers["first"].get(key, 0) * NS), last=int(answers["last"].get(key, 0) * NS),
        )
        for key, fired in sorted(answers["fired"].items())
    ]  # fmt: skip


def shadow_table(found: Sequence[Shadowed], where: str) -> Table | str:
    """For the console."""
    if not found:
        return f"nothing would have paged, by {where}: no alert that is marked shadow fired"
    table = Table(
        box=None, pad_edge=False, title_justify="left", title=f"would have told somebody, by {where}", header_style="dim"
    )
    for name in ("pattern", "alert", "region", "times", "fired for", "first", "last"):
        table.add_column(name, justify="right" if name in ("times", "fired for") else "left")
    for one in found:
        cells = (one.where, one.alert, one.region, str(one.times), lasting(one.fired), _short(one.first), _short(one.last))
        table.add_row(*(printable(cell, 80) for cell in cells))
    return table


def _by_alert(found: Sequence[Sample]) -> dict[tuple[str, ...], float]:
    """Values by alert, objective, region and severity; a sample without a value is left out."""
    out: dict[tuple[str, ...], float] = {}
    for one in found:
        if one.value is not None:
            key = tuple(one.labels.get(name, "") for name in _LABELS)
            out[key] = out.get(key, 0.0) + one.value
    return out


def _short(unix_ns: int) -> str:
    return rfc3339(unix_ns)[:16].replace("T", " ")
