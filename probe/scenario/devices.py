"""What a viewer or broadcaster imitates: what it plays, what it calls itself, and the network it is on.

Presets come with the product (`devices.yaml`); a scenario uses them by name, changes single fields of one under its own
`devices`, or defines others. What is written nearer to the step wins, field by field: a step's `network`, the scenario's
device, the preset. A device's CPU is not imitated: FFmpeg's frame threads would add a frame of delay each, and slowing
our own decoder would measure the probe.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from probe.scenario.fields import Model, Name, OneOrMany, one_of, vocabulary
from probe.scenario.units import Duration, Rate, Ratio, describe

DEFAULT = "default"
PRESET = "preset"  # in a validation context: this comes with the product, whatever drivers there are
Codec = Literal["h264", "vp8", "hevc", "vp9", "av1"]


def _protocol(value: str, info: ValidationInfo) -> str:
    return value if (info.context or {}).get(PRESET) else one_of(value, vocabulary(info).view)


Protocol = Annotated[str, AfterValidator(_protocol)]


class Network(Model):
    """The network between: what it does to every packet, each way."""

    delay: Duration = Field(0, description="One way; a round trip has two of them.", examples=["25ms"])
    jitter: Duration = Field(0, description="Standard deviation of the delay.", examples=["5ms"])
    loss: Ratio = Field(0.0, description="Share of packets lost; a stream feels it as waiting.", examples=["0.5%"])
    burst: float = Field(1, ge=1, le=1_000, description="Mean length of a run of losses, in packets.", examples=[3])
    down: Rate | None = Field(None, description="Rate towards us; default: unlimited.", examples=["9Mbps"])
    up: Rate | None = Field(None, description="Rate from us; default: unlimited.", examples=["3Mbps"])
    reorder: Ratio = Field(0.0, description="Share of packets that others overtake.", examples=["0.1%"])
    duplicate: Ratio = Field(0.0, description="Share of packets that come twice.", examples=["0.1%"])

    @field_validator("delay", "jitter")
    @classmethod
    def _earthly(cls, value: int) -> int:
        if value > 10 * 10**9:
            raise ValueError("no network is that slow; at most 10s")
        return value

    @field_validator("loss", "reorder", "duplicate")
    @classmethod
    def _some_left(cls, value: float) -> float:
        if value > 0.9:
            raise ValueError("at most 90%; for a path that is down, use a cut")
        return value

    @field_validator("down", "up")
    @classmethod
    def _some_rate(cls, value: int | None) -> int | None:
        if value is not None and value < 8_000:
            raise ValueError("at least 8kbps; for a path that is down, use a cut")
        return value


class Device(Model):
    """A device that viewers or broadcasters imitate."""

    like: Name | None = Field(None, description="The preset it is like, but for what is said here.", examples=["android-4g"])
    prefer: Annotated[tuple[Protocol, ...], OneOrMany()] = Field(
        (), description="Protocols in its order of preference, for views that name none.", examples=[["whep", "ll-hls", "hls"]]
    )
    codecs: Annotated[tuple[Codec, ...], OneOrMany(), Field(min_length=1)] = Field(
        ("h264", "vp8"), description="Of the picture, in its order of preference.", examples=[["h264"]]
    )
    max_height: int | None = Field(None, ge=1, le=8_640, description="Highest rendition it plays, in lines.", examples=[720])
    user_agent: str = Field(
        "", max_length=400, description="What it calls itself to servers.", examples=["Mozilla/5.0 (…) probe"]
    )
    network: Network = Field(Network(), description="The network it is on.", examples=[{"delay": "25ms", "loss": "0.5%"}])

    @field_validator("user_agent")
    @classmethod
    def _header(cls, value: str) -> str:
        if any(ord(c) < 32 or ord(c) > 126 for c in value):
            raise ValueError("a header carries plain ASCII only")
        return value


def network_over(base: Network, changes: Network) -> Network:
    """`base` with the fields that `changes` was given."""
    return base.model_copy(update={name: getattr(changes, name) for name in changes.model_fields_set})


def _over(base: Device, changes: Device) -> Device:
    given = {name: getattr(changes, name) for name in changes.model_fields_set}
    if "network" in given:
        given["network"] = network_over(base.network, changes.network)
    return base.model_copy(update=given)


def resolved(presets: Mapping[str, Device], own: Mapping[str, Device]) -> dict[str, Device]:
    """Every device there is, whole: the presets, and the scenario's own over those they are like or share a name with."""
    known = {DEFAULT: Device(), **presets}
    base = {name: known.get(device.like or name, Device()) for name, device in own.items()}
    return known | {name: _over(base[name], device) for name, device in own.items()}


def known_device(name: str, known: Mapping[str, Device]) -> str:
    """`name` if there is such a device. Raises ValueError with the nearest ones."""
    if name not in known:
        close = get_close_matches(name, sorted(known), 1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"
        raise ValueError(f"{describe(name)} is no device{hint}")
    return name


def devices(info: ValidationInfo) -> Mapping[str, Device] | None:
    """The devices there are, from the validation context; None where nobody said."""
    found: Mapping[str, Device] | None = (info.context or {}).get("devices")
    return found
