"""Where a page goes: webhook, PagerDuty, Slack, e-mail, Opsgenie. Secrets are files on Alertmanager's machine.

Alertmanager reads a secret from a file and from nowhere else, so a reference here is `{file: PATH}` only; the path is
Alertmanager's own, relative to its configuration, and nothing opens it here. That keeps keys out of what is generated, which
lies in repositories. (A webhook's address by file needs Alertmanager 0.26; all else 0.25.)
"""

from __future__ import annotations

from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from probe.scenario.fields import Model, OneOrMany
from probe.scenario.units import describe

TAG = "~"  # begins what pydantic puts into a path and no file has: which of two forms was meant


class SecretFile(Model):
    """A file that Alertmanager reads a secret from."""

    file: str = Field(min_length=1, description="Its path there.", examples=["/etc/alertmanager/secrets/media-eu"])

    @model_validator(mode="before")
    @classmethod
    def _reference(cls, value: Any) -> Any:
        if not isinstance(value, dict | SecretFile):  # whatever it is, it may be the secret: not repeated
            raise ValueError("never write a secret down; say where Alertmanager finds it: {file: PATH}")
        if isinstance(value, dict) and {"env", "command"} & value.keys():
            raise ValueError("Alertmanager reads secrets from files only: {file: PATH}")
        return value


def _address(value: Any) -> Any:
    if isinstance(value, str):
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{describe(value)} is not an address; write https://…")
        if parts.username is not None or parts.password is not None or parts.query:
            raise ValueError(
                "may carry a secret; put it into token: {file: PATH}, or the whole address into a file: {file: PATH}"
            )
    return value


def _mailbox(value: Any) -> Any:
    if isinstance(value, str) and ("@" not in value or any(c.isspace() or c == "," for c in value)):
        raise ValueError(f"{describe(value)} is not a mail address")
    return value


def _smarthost(value: Any) -> Any:
    if isinstance(value, str) and not (value.rpartition(":")[0] and value.rpartition(":")[2].isdecimal()):
        raise ValueError(f"{describe(value)} is not a mail server; write host:port, such as mail.example.com:587")
    return value


Address = Annotated[str, BeforeValidator(_address)]
Mailbox = Annotated[str, BeforeValidator(_mailbox)]


class Webhook(Model):
    """A POST of Alertmanager's JSON."""

    url: Annotated[
        Annotated[Address, Tag(f"{TAG}text")] | Annotated[SecretFile, Tag(f"{TAG}file")],
        Discriminator(lambda value: f"{TAG}text" if isinstance(value, str) else f"{TAG}file"),
    ] = Field(
        description="Its address; by file where that is the secret.",
        examples=["https://pager.example/media-eu", {"file": "secrets/media-eu"}],
    )
    token: SecretFile | None = Field(None, description="Bearer token.", examples=[{"file": "secrets/pager-token"}])


class PagerDuty(Model):
    """An integration of PagerDuty: Events API v2 by `routing_key`, Prometheus integration by `service_key`."""

    routing_key: SecretFile | None = Field(None, description="Key of Events API v2.", examples=[{"file": "secrets/pd-eu"}])
    service_key: SecretFile | None = Field(None, description="Key of a Prometheus integration.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.routing_key is None) == (self.service_key is None):
            raise ValueError("give routing_key (Events API v2) or service_key (Prometheus integration)")
        return self


class Slack(Model):
    """A channel of Slack."""

    url: SecretFile = Field(description="File that holds the incoming webhook's address.", examples=[{"file": "secrets/slack"}])
    channel: str = Field(min_length=1, description="Where it is written.", examples=["#live-triage"])


class Email(Model):
    """Mail, by the server of `smtp`."""

    to: Annotated[tuple[Mailbox, ...], OneOrMany()] = Field(min_length=1, description="To whom.", examples=["triage@example.com"])


class Opsgenie(Model):
    """Opsgenie's alert API."""

    api_key: SecretFile = Field(description="Its key.", examples=[{"file": "secrets/opsgenie"}])
    api_url: Address = Field("https://api.opsgenie.com/", description="Where; Europe has another.")
    teams: Annotated[tuple[str, ...], OneOrMany()] = Field((), description="Teams that are told.", examples=[["live-media"]])


class Smtp(Model):
    """How mail leaves."""

    smarthost: Annotated[str, BeforeValidator(_smarthost)] = Field(
        description="Server and port.", examples=["mail.example.com:587"]
    )
    sender: Mailbox = Field(alias="from", description="Who it is from.", examples=["alertmanager@example.com"])
    username: str = Field("", description="For servers that ask.", examples=["alertmanager"])
    password: SecretFile | None = Field(None, description="With it.", examples=[{"file": "secrets/smtp"}])

    @model_validator(mode="after")
    def _both(self) -> Self:
        if bool(self.username) != (self.password is not None):
            raise ValueError("username and password go together")
        return self


class Receiver(Model):
    """Whoever is told, by one way or several at once."""

    webhook: Webhook | None = Field(None, description="Any service that takes a POST.")
    pagerduty: PagerDuty | None = Field(None, description="PagerDuty.")
    slack: Slack | None = Field(None, description="Slack.")
    email: Email | None = Field(None, description="Mail.")
    opsgenie: Opsgenie | None = Field(None, description="Opsgenie.")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.ways:
            raise ValueError(f"say how it is reached: {', '.join(type(self).model_fields)}")
        return self

    @property
    def ways(self) -> tuple[str, ...]:
        """By what it is reached."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)
