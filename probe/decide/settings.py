"""The parts of agent.yaml about actions and Prometheus. Models only.

What is run stands here and not in a scenario: a scenario is handed round, and must not come with a program to start or an address
to call. A command is a list of arguments that no shell reads; a secret is a reference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from probe.model.clock import NS
from probe.scenario.fields import Model, Name, OneOrMany, SecretSource
from probe.scenario.units import PositiveDuration, describe


def _web_address(value: Any) -> Any:
    """An address without a password; never repeated where it has one."""
    if isinstance(value, str):
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and bool(parts.hostname)
            parts.port  # noqa: B018 - raises on a port that is none
        except ValueError:
            raise ValueError("is not an address; write https://host/path") from None
        if parts.username is not None or parts.password is not None:
            raise ValueError("carries a password; put it into headers, by reference: {authorization: {env: NAME}}")
        if not good or any(c.isspace() or ord(c) < 32 for c in value):
            raise ValueError(f"{describe(value)} is not an address; write https://host/path")
    return value


Address = Annotated[
    Annotated[str, BeforeValidator(_web_address), Tag("text")] | Annotated[SecretSource, Tag("reference")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "reference"),
]
Headers = dict[str, SecretSource]


class Webhook(Model):
    """A POST of JSON, signed where there is a secret."""

    url: Address = Field(
        description="Where; by reference where it is a secret itself.",
        examples=["https://hooks.example/gates", {"env": "HOOK_URL"}],
    )
    secret: SecretSource | None = Field(
        None,
        description="Signs it: X-Probe-Signature is v1= and the HMAC-SHA256, in hex, of X-Probe-Timestamp, a dot and the body.",
        examples=[{"env": "HOOK_SECRET"}],
    )
    headers: Headers = Field({}, description="Headers, by reference.", examples=[{"authorization": {"env": "HOOK_TOKEN"}}])


class Action(Model):
    """What is run when a gate closes, or opens again: once for each change."""

    gates: Annotated[tuple[Name, ...], OneOrMany()] = Field(
        min_length=1, description="Of these gates.", examples=["hold-campaign", ["payment", "gift"]]
    )
    when: Annotated[tuple[Literal["closed", "opened"], ...], OneOrMany()] = Field(
        ("closed", "opened"), min_length=1, description="At which change.", examples=["closed"]
    )
    webhook: Webhook | None = Field(None, description="A POST.", examples=[{"url": "https://hooks.example/gates"}])
    command: tuple[str, ...] = Field(
        (),
        description="A program by its whole path, and its arguments; no shell. PROBE_… variables tell it of the change.",
        examples=[["/usr/local/bin/pause-campaign", "--all"]],
    )
    timeout: PositiveDuration = Field(10 * NS, description="How long one try may take.", examples=["10s"])
    give_up: PositiveDuration = Field(
        15 * 60 * NS, description="It is tried again for so long after the change, and not at all later.", examples=["15m"]
    )

    @field_validator("command")
    @classmethod
    def _program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and not Path(value[0]).is_absolute():
            raise ValueError(f"{describe(value[0])} is not a whole path; what is run is not to depend on $PATH")
        return value

    @model_validator(mode="after")
    def _one(self) -> Action:
        if (self.webhook is None) == (not self.command):
            raise ValueError("say what is done: give webhook or command")
        return self

    @property
    def kind(self) -> str:
        return "webhook" if self.webhook is not None else "command"


class Prometheus(Model):
    """Where gates that are `from: prometheus` ask."""

    url: Address = Field(description="Its address, with its path where it has one.", examples=["http://127.0.0.1:9090"])
    headers: Headers = Field({}, description="Headers, by reference.", examples=[{"authorization": {"env": "PROMETHEUS_AUTH"}}])
    timeout: PositiveDuration = Field(5 * NS, description="How long an answer may take.", examples=["5s"])
    every: PositiveDuration = Field(30 * NS, description="How often each gate asks.", examples=["30s"])

    @field_validator("every")
    @classmethod
    def _often(cls, value: int) -> int:
        if not 5 * NS <= value <= 50 * NS:
            raise ValueError("is from 5s to 50s: what is not asked for a minute is not known to have held")
        return value
