"""Loading: the design's sample, the scenarios that ship, the environment, settings and secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.errors import ConfigError
from probe.scenario.fields import Vocabulary
from probe.scenario.load import load, loads
from probe.scenario.steps import Cut, Http, Publish, View, Wait
from probe.scenario.text import MAX_BYTES

HERE = Path(__file__).parent
SHIPPED = HERE.parent.parent / "scenarios"
ENV = {"PLATFORM_URL": "https://live.example.com/"}
SMALL = """
scenario: small
owner: me
platform: {url: "http://localhost:1"}
journey:
  - publish: {via: whip, url: /whip}
  - view: {via: whep, url: /whep}
"""


def mistakes(text: str, **kwargs) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, "s.yaml", **{"env": {}, **kwargs})
    return [str(m) for m in caught.value.mistakes]


def test_the_sample_of_the_design_loads():
    scenario = load(HERE / "sample.yaml", env=ENV)
    assert [s.name for s in scenario.journey] == ["login", "room", "publish", "view", "chat", "gift", "cut", "moderate"]
    assert scenario.platform.url == "https://live.example.com"
    assert scenario.regions == ("eu", "us", "apac")
    assert scenario.gates[0].when.hold == 120 * 10**9
    assert scenario.objectives[1].within == 2 * 10**9


@pytest.mark.parametrize("name", ["room-start.yaml", "bare-whip-whep.yaml"])
def test_a_scenario_that_ships_loads(name):
    assert load(SHIPPED / name, env=ENV).owner == "media-sre"


def test_a_shipped_scenario_names_its_missing_platform():
    with pytest.raises(
        ConfigError, match=r"room-start\.yaml:\d+:\d+ platform\.url: environment variable PLATFORM_URL is not set"
    ):
        load(SHIPPED / "room-start.yaml", env={})


def test_a_file_that_is_not_there_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml")


def test_a_file_over_one_mebibyte_is_refused_even_where_it_is_cut_inside_a_character(tmp_path):
    file = tmp_path / "big.yaml"
    file.write_bytes(b"# " + "é".encode() * (MAX_BYTES // 2 + 8))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load(file)
    file.write_bytes(b"#" + "é".encode() * (MAX_BYTES // 2 + 8))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load(file)


def test_a_byte_order_mark_is_no_matter(tmp_path):
    file = tmp_path / "bom.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert load(file, env={}).name == "small"


def test_the_environment_is_the_process_s_unless_given(monkeypatch):
    monkeypatch.setenv("SMALL_URL", "http://elsewhere:2")
    assert loads(SMALL.replace("http://localhost:1", "${env.SMALL_URL}")).platform.url == "http://elsewhere:2"


@pytest.mark.parametrize(
    ("env", "url"),
    [({}, "http://a"), ({"URL": ""}, "http://a"), ({"URL": "http://b"}, "http://b")],
)
def test_a_default_stands_in_for_an_unset_or_empty_variable(env, url):
    assert loads(SMALL.replace("http://localhost:1", "${env.URL:-http://a}"), env=env).platform.url == url


def test_an_environment_variable_may_be_a_number():
    text = SMALL.replace("url: /whep", 'url: /whep, count: "${env.N:-3}"')
    step = loads(text, env={}).journey[1]
    assert isinstance(step, View)
    assert step.view[0].count == 3


def test_a_kind_is_the_step_s_name_or_the_field_that_is_one():
    text = """
scenario: kinds
owner: me
platform: {url: "http://localhost:1"}
journey:
  - login: {http: POST /login, as: me, json: {a: 1}}
  - go-live: {publish: whip, url: /whip}
  - publish: {publish: whip, url: /whip}
  - view: [{via: whep, url: /a}]
  - watch: {view: {via: whep, url: /a}, phase: 0s}
  - view-more: {view: [{via: hls, url: /b}], optional: true}
  - blink: {cut: flap, of: viewers, for: 1s}
  - cut: {kind: rebind, of: whep, for: 1s}
  - wait: 1s
  - pause: {wait: 2s}
  - pretend: {fake: failed, phase: signal, reason: http_404, took: 1s}
"""
    steps = loads(text, env={}).journey
    assert [s.KIND for s in steps] == ["http", "publish", "publish", "view", "view", "view", "cut", "cut", "wait", "wait", "fake"]
    assert isinstance(steps[0], Http) and steps[0].body == {"a": 1} and steps[0].account == "me"
    assert isinstance(steps[1], Publish) and steps[1].publish == "whip"
    assert isinstance(steps[7], Cut) and (steps[7].cut, steps[7].duration) == ("rebind", 10**9)
    assert isinstance(steps[9], Wait) and steps[9].wait == 2 * 10**9


def test_the_caller_says_which_protocols_cuts_and_programmes_there_are():
    words = Vocabulary(publish=("rtmp",), view=("flv",), cut=("nap",), programmes=("720p30",))
    text = SMALL.replace("via: whip, url: /whip", "via: rtmp, url: rtmp://x/live").replace("via: whep", "via: flv")
    assert mistakes(text, words=words) == ["s.yaml:6:14 publish.programme: '360p30' is not one of 720p30"]
    assert loads(text.replace("via: rtmp", "via: rtmp, programme: 720p30"), words=words, env={}).name == "small"
    assert mistakes(SMALL.replace("via: whip", "via: whip, programme: 720p30"), words=words) == [
        "s.yaml:6:20 publish.via: 'whip' is not one of rtmp",
        "s.yaml:7:17 view.via: 'whep' is not one of flv",
    ]


def test_a_protocol_without_a_default_address_needs_one():
    words = Vocabulary(view=("flv",))
    assert mistakes(SMALL.replace("via: whep, url: /whep", "via: flv"), words=words) == [
        "s.yaml:7:11 view: has no url, and platform.views has none for flv"
    ]


def test_a_region_s_own_view_address_is_checked_too():
    text = SMALL.replace("via: whep, url: /whep", "via: hls").replace(
        '"http://localhost:1"', '"http://localhost:1", views: {hls: /a}, regions: {local: {views: {hls: "/${room}"}}}'
    )
    assert mistakes(text) == ["s.yaml:7:11 view: its address is /${room} (platform.views): ${room}: no step before provides it"]


# -- settings


def test_settings_replace_values_by_path_index_and_step_name():
    sets = {"platform.url": "http://b", "journey.view.count": "2", "journey.0.publish.bitrate": "1Mbps", "deadlines.run": "5s"}
    scenario = loads(SMALL, env={}, sets=sets)
    publish, view = scenario.journey
    assert isinstance(publish, Publish) and publish.bitrate == 1_000_000
    assert isinstance(view, View) and view.view[0].count == 2
    assert (scenario.platform.url, scenario.deadlines.run) == ("http://b", 5 * 10**9)


def test_a_setting_may_be_a_list():
    assert loads(SMALL, env={}, sets={"regions": "[eu, us]"}).regions == ("eu", "us")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("deadlines.run", "5", "--set deadlines.run deadlines.run: 5 has no unit; write 5s if seconds are meant"),
        ("journey.cut.for", "5s", "--set journey.cut.for journey.cut: there is no such place in the scenario"),
        ("journey.9", "5s", "--set journey.9 journey.9: there is no such place in the scenario"),
        ("owner.name", "me", "--set owner.name owner.name: there is no such place in the scenario"),
        ("owner", "[", "--set owner:1:2 is not YAML: expected the node content, but found '<stream end>'"),
        ("nothing.at.all", "1", "--set nothing.at.all nothing: unknown field; known are scenario, description, owner, regions,"),
        ("owner", "${env.NO}", "--set owner owner: environment variable NO is not set; set it, or write ${env.NO:-default}"),
    ],
)
def test_a_bad_setting_is_told_under_its_option(key, value, message):
    assert mistakes(SMALL, sets={key: value})[0].startswith(message)


# -- secrets

SECRETS = (
    SMALL
    + """
  - login: {http: POST /login, json: {password: "${secret.a}"}}
"""
)
SECRETS = SECRETS.replace('"http://localhost:1"', '"http://localhost:1", secrets: {a: {env: A}, b: {file: /nowhere/b}}')


def test_missing_secrets_are_told_where_asked_for():
    assert loads(SECRETS, env={}).platform.secrets["a"].env == "A"
    assert mistakes(SECRETS, secrets=True) == [
        "s.yaml:4:58 platform.secrets.a.env: environment variable A is not set",
        "s.yaml:4:72 platform.secrets.b.file: /nowhere/b cannot be read",
    ]


def test_secrets_that_are_there_pass(tmp_path):
    (tmp_path / "b").write_text("x")
    assert loads(SECRETS.replace("/nowhere/b", str(tmp_path / "b")), env={"A": "x"}, secrets=True).platform.secrets


OPTIONAL = (
    SMALL.replace(
        '"http://localhost:1"',
        '"http://localhost:1", secrets: {a: {env: A, optional: true}},'
        ' accounts: {viewer: {token: "${secret.a}"}, me: {token: "${t}"}}',
    )
    + "  - login: {http: POST /login, keep: {t: token}}\n"
)


def test_an_optional_secret_takes_its_accounts_with_it():
    there, gone = loads(OPTIONAL, env={"A": "x"}, secrets=True), loads(OPTIONAL, env={}, secrets=True)
    assert set(there.platform.accounts) == {"viewer", "me"}
    assert (set(gone.platform.accounts), set(gone.platform.secrets)) == ({"me"}, set())


def test_a_missing_optional_secret_cannot_be_sent():
    text = OPTIONAL.replace("POST /login,", 'POST /login, json: {p: "${secret.a}"},')
    assert mistakes(text) == ["s.yaml:8:43 login.json.p: ${secret.a}: this secret is optional and not there"]


def test_two_calls_give_the_same_scenario():
    assert loads(SMALL, env={}) == loads(SMALL, env={})


def test_a_scenario_with_half_its_parts_broken_still_tells_every_mistake():
    text = """
scenario: broken
owner: me
platform: 5
deadlines: {start: 5s}
regions: eu
objectives: [x]
gates: {}
journey:
  - login: {http: POST /login, keep: [a]}
  - view: 5
  - x: 3
"""
    assert mistakes(text) == [
        "s.yaml:4:11 platform: expected a mapping, got 5",
        "s.yaml:5:20 deadlines.start: expected a mapping, got '5s'",
        "s.yaml:6:10 regions: expected a list, got 'eu'",
        "s.yaml:7:14 objectives[0]: expected a mapping, got 'x'",
        "s.yaml:8:8 gates: expected a list, got a mapping",
        "s.yaml:10:38 login.keep: expected a mapping, got a list",
        "s.yaml:11:11 view: expected a mapping, got 5",
        "s.yaml:12:5 x: what does it do? give it one of http, websocket, publish, view, cut, wait, fake,"
        " or call it one of publish, view, cut, wait",
    ]


def test_promises_of_any_shape_are_mistakes_and_nothing_worse():
    text = (
        "scenario: s\nowner: me\nplatform: {url: 'http://x'}\njourney: [{login: {http: POST /login}}]\n"
        "objectives: [{indicator: [a]}, 5, {indicator: {a: b}, regions: {a: b}, protocols: 3}]\n"
        "gates: [{use: [a]}, 7, {when: []}]\n"
    )
    found = "\n".join(mistakes(text))
    assert "objectives[0].indicator" in found and "objectives[1]" in found and "gates[0]" in found and "gates[1]" in found
