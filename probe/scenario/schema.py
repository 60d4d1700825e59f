"""The scenario: a platform, a journey, its deadlines, objectives and gates.

Models only; reading files is `load`, questions that need two places at once (is `${room}` kept by then?) are `check`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from probe.scenario.devices import Device
from probe.scenario.fields import MediaUrl, Model, Name, OneOrMany, SecretSource
from probe.scenario.gate import AnyGate
from probe.scenario.gate import Gate as Gate
from probe.scenario.objective import Objective as Objective
from probe.scenario.steps import AnyStep, SecretText
from probe.scenario.units import PositiveDuration, describe

DEFAULT_VIEWS = {"whep": "/rooms/${room}/whep", "hls": "/rooms/${room}/hls/index.m3u8"}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


EMBEDDED = "sandbox"  # as a platform's url: the embedded platform, started for the occasion


def _platform_url(value: Any) -> Any:
    if not isinstance(value, str) or value == EMBEDDED:
        return value
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        parts.port  # noqa: B018 - raises on a port that is none
    except ValueError:
        good = False
    if not good:
        raise ValueError(
            f"{describe(value)} is not the address of a platform; write http://… or https://…, without query, or {EMBEDDED}"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError("carries a password; put it under platform.secrets and name it")
    return value.rstrip("/")


def _allowed(value: Any) -> Any:
    if isinstance(value, str) and not _HOST.fullmatch(value):
        try:
            ipaddress.ip_network(value)
        except ValueError:
            raise ValueError(f"{describe(value)} is neither a host nor a network such as 10.0.0.0/8") from None
    return value


def _ice_server(value: Any) -> Any:
    if isinstance(value, str) and not value.startswith(("stun:", "stuns:", "turn:", "turns:")):
        raise ValueError(f"{describe(value)} is not an ICE server; write stun:… or turn:…")
    return value


def _account_token(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"\$\{[^{}]+\}", value):
        raise ValueError('a token is a reference alone, such as "${secret.token}" or "${token}"; never write one down')
    return value


PlatformUrl = Annotated[str, BeforeValidator(_platform_url)]
Allowed = Annotated[str, BeforeValidator(_allowed)]


class Account(Model):
    """Who a step acts as."""

    token: Annotated[str, BeforeValidator(_account_token)] = Field(
        description="Its bearer token, by reference.", examples=["${secret.token}"]
    )


class Secret(SecretSource):
    """Where a secret comes from, and where it may go."""

    origins: Annotated[tuple[str, ...], OneOrMany()] = Field(
        ("${platform.url}",),
        alias="for",
        description="The only origins it is sent to.",
        examples=["${platform.url}", "https://auth.example.com"],
    )
    optional: bool = Field(False, description="Where it is missing, accounts that use it have no token.", examples=[True])

    @field_validator("origins")
    @classmethod
    def _origin(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not re.match(r"(https?|wss?|rtmps?|srt|turns?)://[^/]|\$\{", origin):
                raise ValueError(f"{describe(origin)} is not an origin; write https://host, rtmp://host or ${{platform.url}}")
        return value


class IceServer(Model):
    """A STUN or TURN server (RFC 7064, RFC 7065); a text alone is its url."""

    url: Annotated[str, BeforeValidator(_ice_server)] = Field(
        description="Where.", examples=["turn:turn.example.com:3478?transport=tcp"]
    )
    username: str = Field("", description="TURN user.", examples=["probe", "${secret.turn_user}"])
    credential: SecretText = Field("", description="TURN password.", examples=["${secret.turn_password}"])


class IceServerShape:
    """Annotates IceServer: a text alone is its `url`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: value if isinstance(value, dict | IceServer) else {"url": value}, handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, handler(schema)]}


AnyIceServer = Annotated[IceServer, IceServerShape()]


class RegionPlatform(Model):
    """What is different in one region; the rest is the platform's."""

    url: PlatformUrl | None = Field(None, description="The platform's address there.", examples=["https://eu.example.com"])
    views: dict[str, MediaUrl] = Field(
        {}, description="View addresses there.", examples=[{"hls": "https://cdn-eu.example.com/${room}/index.m3u8"}]
    )
    allow: tuple[Allowed, ...] | None = Field(
        None, description="Hosts or networks a server may name there although private.", examples=[["10.1.0.0/16"]]
    )
    ice_servers: tuple[AnyIceServer, ...] | None = Field(
        None, description="ICE servers there.", examples=[["stun:stun-eu.example.com"]]
    )


class Platform(Model):
    """The system under test."""

    url: PlatformUrl = Field(
        description=f"Its address; paths of steps are taken under it. {EMBEDDED}: the embedded platform.",
        examples=["${env.PLATFORM_URL}", "${env.PLATFORM_URL:-sandbox}"],
    )
    regions: dict[Name, RegionPlatform] = Field(
        {}, description="What is different by region.", examples=[{"eu": {"url": "https://eu.example.com"}}]
    )
    views: dict[str, MediaUrl] = Field(
        {}, description="Where viewers of a protocol look when a view names no url.", examples=[DEFAULT_VIEWS]
    )
    allow: tuple[Allowed, ...] = Field(
        (), description="Hosts or networks a server may name although private.", examples=[["10.0.0.0/8"]]
    )
    ice_servers: tuple[AnyIceServer, ...] = Field(
        (),
        description="ICE servers; none are used unless named.",
        examples=[["stun:stun.example.com:3478"], [{"url": "turns:turn.example.com", "credential": "${secret.turn_password}"}]],
    )
    accounts: dict[Name, Account] = Field(
        {},
        description="Tokens by account. One not named here uses the kept variable `<account>_token`, else `token`, else none.",
        examples=[{"viewer": {"token": "${secret.viewer_token}"}}],
    )
    release: str = Field(
        "",
        max_length=200,
        description="Which release is looked at: a text, or what a step keeps of an answer. An agent notices when it changes.",
        examples=["${env.RELEASE:-}", "${version}"],
    )
    secrets: dict[Name, Secret] = Field(
        {}, description="Secrets by name.", examples=[{"password": {"env": "BROADCASTER_PASSWORD"}}]
    )


class Deadlines(Model):
    """How long things may take where steps do not say themselves."""

    start: dict[str, PositiveDuration] = Field(
        {}, description="Start deadline by protocol; default: the protocol's own.", examples=[{"whep": "5s", "hls": "10s"}]
    )
    reconnect: PositiveDuration = Field(10 * 10**9, description="To be back after a cut.", examples=["10s"])
    run: PositiveDuration = Field(90 * 10**9, description="The whole run.", examples=["90s"])


class Scenario(Model):
    """A journey on a platform, and what is expected of it."""

    name: Name = Field(alias="scenario", description="Its name, a metric label.", examples=["room-start"])
    description: str = Field(
        "", description="What it shows, for people.", examples=["A broadcaster goes live; viewers see it at once."]
    )
    owner: str = Field(min_length=1, description="Who is called.", examples=["media-sre"])
    regions: tuple[Name, ...] = Field(("local",), min_length=1, description="Where its viewers run.", examples=[["eu", "us"]])
    platform: Platform = Field(description="The system under test: where it is, and who acts there.")
    devices: dict[Name, Device] = Field(
        {},
        description="Devices of its own, and what is different here of those that come with the product.",
        examples=[{"android-4g": {"max_height": 480}, "our-tv": {"like": "smart-tv", "prefer": ["hls"]}}],
    )
    deadlines: Deadlines = Field(Deadlines(), description="How long things may take.")
    journey: tuple[AnyStep, ...] = Field(min_length=1, description="What is done, in this order.")
    final: tuple[AnyStep, ...] = Field((), alias="finally", description="What is done whatever happened.")
    objectives: tuple[Objective, ...] = Field((), description="Promises.")
    gates: tuple[AnyGate, ...] = Field(
        (), description="Rules.", examples=[["room-start", {"use": "payment", "owner": "payments"}]]
    )
