"""Devices: those that come with the product, a scenario's own, and what is written nearer to the step."""

from __future__ import annotations

import random

import pytest

from probe.errors import ConfigError
from probe.model.ids import new_run_ids
from probe.plan import Device, Network, PublishStep, ViewStep
from probe.planning import make_plan
from probe.scenario.fields import Vocabulary
from probe.scenario.load import loads, presets

MS = 1_000_000
NAMES = {
    *("desktop-fibre", "desktop-wifi", "android-4g", "android-3g", "android-low-end"),
    *("iphone-wifi", "iphone-wifi-busy", "smart-tv", "corporate-tcp-only"),
}
PROTOCOLS = ("whep", "rtmp", "srt", "hls", "ll-hls", "http-flv", "ws-flv", "http-ts", "dash")
HEAD = """scenario: devices
owner: me
platform: {url: "https://live.example.com", views: {whep: /whep, hls: /hls, dash: /dash}}
"""


def scenario(text: str):
    return loads(HEAD + text, env={}, words=Vocabulary(view=PROTOCOLS))


def view(body: str, top: str = "") -> tuple[str, Device]:
    made = make_plan(
        scenario(f"{top}journey:\n  - publish: {{via: whip, url: /whip}}\n  - view: {body}\n"),
        "local",
        1,
        new_run_ids(1, random.Random(1)),
    )
    (step,) = (s for s in made.journey if isinstance(s, ViewStep))
    return step.views[0].protocol, step.views[0].device


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        scenario(text)
    return str(caught.value).splitlines()


def test_every_preset_is_whole_and_prefers_only_protocols_there_are():
    assert presets().keys() == NAMES
    for device in presets().values():
        assert device.prefer and set(device.prefer) <= set(PROTOCOLS)
        assert device.user_agent.endswith(" stream-probe")
        assert device.network.delay and device.network.down and device.network.up


def test_a_preset_becomes_the_plan_s_device_in_the_plan_s_units():
    assert view("{via: hls, device: android-4g}")[1] == Device(
        name="android-4g",
        codecs=("h264", "vp8"),
        max_height=720,
        user_agent=presets()["android-4g"].user_agent,
        network=Network(delay=35 * MS, jitter=8 * MS, loss=0.003, burst=2, rate_down=12_000_000, rate_up=12_000_000),
    )


def test_the_default_device_has_no_network_between():
    assert view("{via: whep}")[1] == Device()


@pytest.mark.parametrize(
    ("device", "protocol"), [("android-4g", "whep"), ("iphone-wifi", "whep"), ("smart-tv", "hls"), ("corporate-tcp-only", "hls")]
)
def test_a_view_without_a_protocol_takes_the_first_its_device_prefers_of_those_declared(device, protocol):
    assert view(f"{{device: {device}}}")[0] == protocol
    assert view(f"[{{device: {device}}}]")[0] == protocol


def test_a_view_that_names_its_protocol_has_it_whatever_the_device_prefers():
    assert view("{via: dash, device: android-4g}")[0] == "dash"


def test_a_scenario_changes_single_fields_of_a_preset():
    _, device = view("{device: android-4g}", "devices: {android-4g: {max_height: 480, network: {loss: 5%}}}\n")
    assert (device.max_height, device.network) == (
        480,
        Network(delay=35 * MS, jitter=8 * MS, loss=0.05, burst=2, rate_down=12_000_000, rate_up=12_000_000),
    )


def test_a_scenario_defines_devices_of_its_own_from_nothing_or_like_a_preset():
    top = "devices: {box: {prefer: dash, network: {down: 2Mbps}}, tv2: {like: smart-tv, prefer: [dash, hls], max_height: 480}}\n"
    assert view("{device: box}", top) == ("dash", Device(name="box", network=Network(rate_down=2_000_000)))
    protocol, device = view("{device: tv2}", top)
    assert (protocol, device.max_height, device.codecs) == ("dash", 480, ("h264",))
    assert device.network is not None and device.network.delay == 14 * MS


def test_even_the_default_device_can_be_given_a_network():
    assert view("{via: hls}", "devices: {default: {network: {delay: 10ms}}}\n")[1].network == Network(delay=10 * MS)


def test_a_step_s_own_network_wins_field_by_field():
    _, device = view("{device: android-3g, network: {delay: 1ms, down: 500kbps}}")
    assert device.network == Network(delay=MS, jitter=20 * MS, loss=0.005, burst=3, rate_down=500_000, rate_up=768_000)
    assert view("{via: whep, network: {loss: 5%, reorder: 1%, duplicate: 2%}}")[1] == Device(
        network=Network(loss=0.05, reorder=0.01, duplicate=0.02)
    )


def test_a_publisher_has_a_device_and_a_network_too():
    made = make_plan(
        scenario("journey:\n  - publish: {via: whip, url: /whip, device: android-4g, network: {up: 300kbps}}\n"),
        "local",
        1,
        new_run_ids(1, random.Random(1)),
    )
    step = made.journey[0]
    assert isinstance(step, PublishStep) and step.device.name == "android-4g"
    assert step.device.network is not None
    assert (step.device.network.rate_up, step.device.network.delay) == (300_000, 35 * MS)


def test_an_unknown_device_is_told_with_its_place_and_the_nearest():
    found = mistakes("""journey:
  - publish: {via: whip, url: /whip, device: dekstop-fibre}
  - view:
      - {device: andriod-4g}
      - {via: whep, device: fridge}
""")
    known = ", ".join(sorted({*NAMES, "default"}))
    assert found == [
        "scenario.yaml:5:46 publish.device: 'dekstop-fibre' is no device; did you mean 'desktop-fibre'?",
        "scenario.yaml:7:18 view[0].device: 'andriod-4g' is no device; did you mean 'android-4g'?",
        f"scenario.yaml:8:29 view[1].device: 'fridge' is no device; known are {known}",
    ]


def test_a_device_that_prefers_nothing_declared_needs_a_protocol():
    found = mistakes("""devices: {box: {prefer: [srt, rtmp]}}
journey:
  - publish: {via: whip, url: /whip}
  - view: {device: box}
  - more: {view: [{count: 2}, {device: default}]}
""")
    assert found == [
        "scenario.yaml:7:11 view: names no protocol: box prefers srt, rtmp; platform.views has whep, hls, dash. Add via",
        "scenario.yaml:8:19 more.view[0].via: is missing",
        "scenario.yaml:8:31 more.view[1]: names no protocol: default prefers nothing; platform.views has whep, hls, dash. "
        "Add via",
    ]


def test_what_is_wrong_in_a_device_is_told_once_and_at_its_place():
    found = mistakes("""devices:
  phone: {prefer: [whep, hlss], codecs: [h265], max_height: 0, network: {delay: 5, loss: 95%, burst: 0, dwon: 1Mbps}}
  tv: {like: smart-tvs}
  slow: {network: {down: 1kbps, jitter: 11s}}
  loud: {user_agent: "a\\nb"}
  other: 5
journey:
  - publish: {via: whip, url: /whip}
  - view: [{via: whep, device: phone}, {via: hls, network: {loss: 0.05}}]
""")
    assert found == [
        f"scenario.yaml:5:26 devices.phone.prefer[1]: 'hlss' is not one of {', '.join(PROTOCOLS)}",
        "scenario.yaml:5:42 devices.phone.codecs[0]: 'h265' is not one of h264, vp8, hevc, vp9, av1",
        "scenario.yaml:5:61 devices.phone.max_height: 0 is less than 1",
        "scenario.yaml:5:81 devices.phone.network.delay: 5 has no unit; write 5s if seconds are meant",
        "scenario.yaml:5:90 devices.phone.network.loss: at most 90%; for a path that is down, use a cut",
        "scenario.yaml:5:102 devices.phone.network.burst: 0 is less than 1.0",
        "scenario.yaml:5:105 devices.phone.network.dwon: unknown field; did you mean 'down'?",
        "scenario.yaml:6:14 devices.tv.like: 'smart-tvs' is no device; did you mean 'smart-tv'?",
        "scenario.yaml:7:26 devices.slow.network.down: at least 8kbps; for a path that is down, use a cut",
        "scenario.yaml:7:41 devices.slow.network.jitter: no network is that slow; at most 10s",
        "scenario.yaml:8:22 devices.loud.user_agent: a header carries plain ASCII only",
        "scenario.yaml:9:10 devices.other: expected a mapping, got 5",
        "scenario.yaml:12:67 view[1].network.loss: 0.05 has no unit; write 0.05% if percent are meant",
    ]


def test_devices_must_be_a_mapping_of_names():
    assert mistakes("devices: [phone]\njourney:\n  - wait: 1s\n") == [
        "scenario.yaml:4:10 devices: expected a mapping, got a list"
    ]
    found = mistakes('devices: {"my phone": {max_height: 480}}\njourney:\n  - wait: 1s\n')
    assert found == ["scenario.yaml:4:11 devices.my phone: 'my phone' is not a name: letters, digits, _ and -, a letter first"]
