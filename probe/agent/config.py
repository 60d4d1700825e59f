"""agent.yaml: what an agent runs, when, and where its findings go. Models only; reading files is `loading`."""

from __future__ import annotations

import re
import socket
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from probe.agent.schedule import Cron, Every, Recurring, Span, Window
from probe.decide.settings import Action, Prometheus
from probe.model.clock import NS
from probe.scenario.fields import Model, Name, OneOrMany, SecretSource
from probe.scenario.jsonschema import schema_of
from probe.scenario.units import PositiveDuration, Rate, Ratio, Size, describe, format_duration

_LISTEN = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]*):(\d{1,5})")


def origin(value: Any) -> Any:
    """Of a server, as a text. Raises ValueError."""
    if isinstance(value, str):
        parts = urlsplit(value)
        if "@" in value:
            raise ValueError("carries a user or a password, and is not an origin; write https://host or http://host:port")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
            raise ValueError(f"{describe(value)} is not an origin; write https://host or http://host:port")
        return value.rstrip("/")
    return value


def _moment(value: Any) -> Any:
    if isinstance(value, datetime) or not isinstance(value, str):
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{describe(value)} is not a moment; write for example 2026-12-24T18:00") from None


def _zone(value: Any) -> Any:
    if isinstance(value, str):
        Cron("* * * * *", value)
    return value


Zone = Annotated[str, BeforeValidator(_zone), Field(examples=["Asia/Jakarta"])]
Moment = Annotated[datetime, BeforeValidator(_moment)]


class Times(Model):
    """A stretch of time: from one moment to another, or a while from each slot of a cron expression."""

    begin: Moment | None = Field(None, alias="from", description="Its first moment.", examples=["2026-12-24T18:00"])
    end: Moment | None = Field(None, alias="to", description="Its end.", examples=["2026-12-25T06:00"])
    cron: str | None = Field(None, description="When it begins, again and again.", examples=["0 3 * * 0"])
    length: PositiveDuration | None = Field(None, alias="for", description="How long each time.", examples=["1h"])
    tz: Zone = Field("UTC", description="The time zone of these.")
    why: str = Field("", description="For people.", examples=["release freeze"])

    @model_validator(mode="after")
    def _whole(self) -> Times:
        once, again = (self.begin, self.end), (self.cron, self.length)
        if all(once) == all(again) or (any(once) and any(again)):
            raise ValueError("a time is `from` and `to`, or `cron` and `for`")
        window = self.window
        if isinstance(window, Span) and window.begin >= window.end:
            raise ValueError("it ends before it begins")
        return self

    @property
    def window(self) -> Window:
        if self.cron is not None and self.length is not None:
            return Recurring(Cron(self.cron, self.tz), self.length)
        assert self.begin is not None and self.end is not None
        return Span(self._unix(self.begin), self._unix(self.end))

    def _unix(self, moment: datetime) -> int:
        at = moment if moment.tzinfo is not None else moment.replace(tzinfo=ZoneInfo(self.tz))
        return int(at.timestamp()) * NS


class Scheduled(Model):
    """One scenario, again and again."""

    scenario: str = Field(
        min_length=1, description="Its file, or the name of one that comes along.", examples=["room-start.yaml"]
    )
    every: PositiveDuration | None = Field(None, description="How often.", examples=["1m"])
    cron: str | None = Field(None, description="When, as a cron expression.", examples=["*/5 8-23 * * *"])
    tz: Zone = Field("UTC", description="The time zone of `cron`.")
    jitter: Ratio = Field(0.1, description="A run starts within this share of the gap to the next.", examples=["10%"])
    mode: Literal["scheduled", "adhoc"] = Field("scheduled", description="Objectives read scheduled runs only.")
    publish_region: Name | None = Field(None, description="Where the stream is published; default: here.", examples=["eu"])
    set: dict[str, Any] = Field(
        {}, description="Changes fields of the scenario.", examples=[{"platform.url": "https://live.example"}]
    )
    run_on_start: bool = Field(False, description="Also once when the agent starts.")
    only: Annotated[tuple[Times, ...], OneOrMany()] = Field((), description="Runs only then, for example during an event.")

    @model_validator(mode="after")
    def _when(self) -> Scheduled:
        if (self.every is None) == (self.cron is None):
            raise ValueError("say when: give every or cron")
        self.when  # noqa: B018 - raises where it is no cron expression
        if self.jitter > 0.5:
            raise ValueError("jitter is at most 50%")
        return self

    @property
    def when(self) -> Every | Cron:
        return Every(self.every) if self.every is not None else Cron(self.cron or "", self.tz)

    @property
    def words(self) -> str:
        """When, for people."""
        return f"every {format_duration(self.every)}" if self.every is not None else f"at {self.cron} {self.tz}"


class StoreSettings(Model):
    """Where records are kept, and how long."""

    url: Annotated[
        Annotated[str, Tag("text")] | Annotated[SecretSource, Tag("reference")],
        Discriminator(lambda value: "text" if isinstance(value, str) else "reference"),
    ] = Field(
        "sqlite",
        description="sqlite: a file under `state`; or a PostgreSQL address, by reference where it holds a password.",
        examples=["sqlite", "postgresql+psycopg://db/probe", {"env": "DATABASE_URL"}],
    )
    keep: PositiveDuration = Field(90 * 86_400 * NS, description="How long runs are kept.", examples=["90d"])
    keep_reports: PositiveDuration = Field(14 * 86_400 * NS, description="How long their reports are.", examples=["14d"])

    @field_validator("url")
    @classmethod
    def _known(cls, value: str | SecretSource) -> str | SecretSource:
        if isinstance(value, str) and value != "sqlite":
            parts = urlsplit(value)
            if parts.scheme not in ("sqlite", "postgresql", "postgresql+psycopg"):
                raise ValueError(f"{describe(parts.scheme)} is not a kind of store; write sqlite or postgresql+psycopg://…")
            if parts.password is not None:
                raise ValueError("carries a password; keep the address elsewhere and name it: {env: DATABASE_URL}")
        return value


class TelemetrySettings(Model):
    """Where traces and metrics are sent, by OTLP over HTTP."""

    endpoint: str | None = Field(
        None,
        description="Base address; default: $OTEL_EXPORTER_OTLP_ENDPOINT, else nothing is sent.",
        examples=["http://127.0.0.1:4318"],
    )
    headers: dict[str, SecretSource] = Field(
        {}, description="Headers, by reference.", examples=[{"authorization": {"env": "OTLP_AUTH"}}]
    )
    metrics: PositiveDuration = Field(15 * NS, description="How often metrics are sent.", examples=["15s"])
    traces: Ratio = Field(
        0.1, description="Share of traces sent of runs in which all was well; all others always are.", examples=["10%"]
    )
    spool: Size = Field(256 * 10**6, description="On disk while the collector is away; then the oldest goes.", examples=["256MB"])

    @field_validator("endpoint")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "http://none")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{describe(value)} is no address of a collector; write http://collector:4318")
        if parts.password is not None or parts.username is not None:
            raise ValueError("carries a password; put it into headers, by reference: {authorization: {env: OTLP_AUTHORIZATION}}")
        return value


class WorkerSettings(Model):
    """The processes that runs are made in."""

    count: int = Field(2, ge=1, le=64, description="How many are kept warm.")
    memory: Size = Field(10**9, description="What one may take; beyond it, it is ended.", examples=["1GB"])
    recycle: int = Field(
        100_000, ge=1, description="Runs after which the process that workers are forked from is replaced; a worker makes one."
    )
    grace: PositiveDuration = Field(20 * NS, description="What runs have to end when the agent does.", examples=["20s"])


class Budget(Model):
    """What runs may take at once, all together."""

    runs: int = Field(2, ge=1, le=64, description="Runs.")
    bandwidth: Rate | None = Field(None, description="Bit rate of what they publish and view.", examples=["50Mbps"])


class Config(Model):
    """The agent."""

    agent: str = Field(
        default_factory=socket.gethostname, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="Its name, one in the world; default: the host's.", examples=["jakarta-1"],
    )  # fmt: skip
    region: Name | None = Field(None, description="Where it stands; default: $PROBE_REGION.", examples=["apac"])
    state: str | None = Field(
        None,
        description="Directory of what outlives it. Default: $XDG_STATE_HOME/stream-probe/agent.",
        examples=["/var/lib/stream-probe"],
    )
    listen: str = Field("127.0.0.1:9464", description="Address of its HTTP service; port 0: any.", examples=["127.0.0.1:9464"])
    web: str | None = Field(None, description="Prometheus' web-config file: TLS and basic auth.", examples=["web.yaml"])
    store: StoreSettings = Field(StoreSettings(), description="Records.")
    telemetry: TelemetrySettings = Field(TelemetrySettings(), description="OTLP.")
    workers: WorkerSettings = Field(WorkerSettings(), description="Processes.")
    budget: Budget = Field(Budget(), description="At once.")
    targets: tuple[Annotated[str, BeforeValidator(origin)], ...] = Field(
        (), description="Origins /probe may be told to look at, besides the scenarios' own.", examples=[["https://live.example"]]
    )
    objectives: Annotated[tuple[str, ...], OneOrMany()] = Field(
        (), description="Files of objectives, beside those of the scenarios.", examples=[["objectives.yaml"]]
    )
    drills: str | None = Field(
        None,
        min_length=1,
        description="campaigns.yaml: overdue drills are then a metric of this agent.",
        examples=["campaigns.yaml"],
    )
    blackouts: tuple[Times, ...] = Field((), description="Nothing starts then.", examples=[[{"cron": "0 3 * * 0", "for": "1h"}]])
    prometheus: Prometheus | None = Field(
        None, description="Where gates that are from: prometheus ask.", examples=[{"url": "http://127.0.0.1:9090"}]
    )
    actions: dict[Name, Action] = Field(
        {},
        description="What is run when a gate closes or opens: nothing else ever is.",
        examples=[{"pause": {"gates": "hold-campaign", "webhook": {"url": "https://hooks.example/campaigns"}}}],
    )
    schedules: dict[Name, Scheduled] = Field(min_length=1, description="What is run.")

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        match = _LISTEN.fullmatch(value)
        if match is None or int(match[2]) > 65535:
            raise ValueError(f"{describe(value)} is not an address; write host:port, such as 127.0.0.1:9464")
        return value

    @property
    def host_and_port(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104  # what `:9464` means everywhere


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of agent.yaml, for editors."""
    return schema_of(Config, "stream-probe agent")
