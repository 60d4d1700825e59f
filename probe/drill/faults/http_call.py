"""What the fault `http` sends: its calls, and the templates in them.

`${token}`: 8 hex digits of this fault. `${ttl}`, `${ttl_ms}`: whole seconds and milliseconds that are left of it.
`${secret.NAME}`: in headers alone, where no log and no address shows it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from probe.drill.faults.base import Params
from probe.model.clock import MS, NS
from probe.scenario.fields import METHODS, OneOrMany, SecretSource
from probe.scenario.steps import JmesPath
from probe.scenario.units import PositiveDuration, describe

SECRET = "secret."  # noqa: S105  # how a template names one
_LONGEST = 10 * NS
_NAMED = re.compile(r"\$\{([^}]*)\}")
_KNOWN = ("token", "ttl", "ttl_ms")


def _request(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    method, _, url = value.partition(" ")
    try:
        parts = urlsplit(url)
        good = method in METHODS and parts.scheme in ("http", "https") and bool(parts.hostname) and "$" not in parts.netloc
        parts.port  # noqa: B018 - raises on a port that is none
    except ValueError:
        good = False
    else:
        if parts.username is not None or parts.password is not None:
            raise ValueError("the address carries a password; put it into headers, as ${secret.NAME}")
    if not good or any(c.isspace() or ord(c) < 32 for c in url):
        raise ValueError(f"{describe(value)} is not a request; write METHOD and address, such as POST https://host/faults")
    return value


class HookSecret(SecretSource):
    """Where a secret is, and the only origins it goes to."""

    origins: Annotated[tuple[str, ...], OneOrMany()] = Field(
        min_length=1, alias="for", description="The only origins it is sent to.", examples=["https://admin.example.com"]
    )

    @field_validator("origins")
    @classmethod
    def _origin(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not re.match(r"https?://[^/]+/?$", origin):
                raise ValueError(f"{describe(origin)} is not an origin; write https://host")
        return value


class HookCall(Params):
    """One request. The body is JSON; a text `${ttl}` alone in it becomes a number."""

    http: Annotated[str, BeforeValidator(_request)] = Field(
        description="Method and whole address.", examples=["POST https://admin.example.com/faults/${token}"]
    )
    body: Any = Field(None, alias="json", description="JSON body; templates are filled.", examples=[{"for": "${ttl}"}])
    headers: dict[str, str] = Field({}, description="Headers.", examples=[{"Authorization": "Bearer ${secret.admin}"}])

    @model_validator(mode="after")
    def _templates(self) -> HookCall:
        for name in names(self.http, self.body):
            if name.startswith(SECRET):
                raise ValueError("a secret belongs into headers, where no log and no address shows it")
        for name in names(self.http, self.body, self.headers):
            if name not in _KNOWN and not name.startswith(SECRET):
                raise ValueError(f"${{{name}}} is not one of {', '.join(_KNOWN)} and secret.NAME")
        return self


class Expectation(Params):
    """What an answer must be like."""

    status: Annotated[tuple[Annotated[int, Field(ge=100, le=599)], ...], OneOrMany()] = Field(
        (200,), min_length=1, description="One of these.", examples=[200, [200, 204]]
    )
    when: JmesPath | None = Field(
        None, description="A JMESPath expression over its JSON that must be true.", examples=["state == 'down'"]
    )


class Verification(HookCall):
    """The request that says how it is. It must change nothing."""

    injected: Expectation = Field(description="What it answers while the fault is there.")
    restored: Expectation = Field(description="What it answers while it is not.")


class HttpParams(Params):
    """A platform's own switch."""

    inject: HookCall = Field(description="Breaks it.")
    restore: HookCall = Field(description="Puts it back; harmless where there is nothing to put back, or answered by 404 or 410.")
    verify: Verification = Field(description="Says which of the two it is.")
    secrets: dict[str, HookSecret] = Field({}, description="By name, as headers use them.")
    timeout: PositiveDuration = Field(3 * NS, le=_LONGEST, description="How long one answer may take.", examples=["3s"])


Fill = Callable[..., str]


def filling(token: str, left: int) -> Fill:
    """Fills templates: the token, and how long is left of `left` ns; at least a moment, so that nothing is taken for endless."""
    own = {"token": token, "ttl": str(max(1, math.ceil(left / NS))), "ttl_ms": str(max(1, left // MS))}

    def fill(text: str, more: Mapping[str, str] = {}) -> str:  # never changed
        known = {**own, **more}
        return _NAMED.sub(lambda found: known.get(found[1], found[0]), text)

    return fill


def filled(value: Any, fill: Fill) -> Any:
    match value:
        case "${ttl}" | "${ttl_ms}":
            return int(fill(value))
        case str():
            return fill(value)
        case dict():
            return {fill(name): filled(each, fill) for name, each in value.items()}
        case list():
            return [filled(each, fill) for each in value]
        case _:
            return value


def names(*values: Any) -> Iterator[str]:
    """What the templates within name."""
    for value in values:
        match value:
            case str():
                yield from _NAMED.findall(value)
            case dict():
                yield from names(*value, *value.values())
            case list():
                yield from names(*value)
            case _:
                pass
