"""Where a drill asks for alerts that fire. Models only; named by whoever runs it, never by the drill file: a drill is handed
round, and must not come with an address to call."""

from __future__ import annotations

from pydantic import Field

from probe.decide.settings import Address, Headers
from probe.model.clock import NS
from probe.scenario.fields import Model
from probe.scenario.units import PositiveDuration


class Source(Model):
    """One server."""

    url: Address = Field(description="Its address, with its path where it has one.", examples=["http://127.0.0.1:9093"])
    headers: Headers = Field({}, description="Headers, by reference.", examples=[{"authorization": {"env": "ALERTS_AUTH"}}])
    timeout: PositiveDuration = Field(3 * NS, description="How long an answer may take.", examples=["3s"])
    every: PositiveDuration = Field(2 * NS, description="How often it is asked.", examples=["2s"])


class Sources(Model):
    """Who is asked."""

    alertmanager: Source | None = Field(None, description="`/api/v2/alerts`: what is told to people, silences left out.")
    prometheus: Source | None = Field(
        None, description="`/api/v1/alerts`, which fires before anybody is told, and the gates of the fleet's agents."
    )
