"""Secrets written out in the addresses of media, and how many sessions a journey may come to."""

from __future__ import annotations

import pytest

from probe.errors import ConfigError
from probe.scenario.addresses import written_secret
from probe.scenario.fields import Vocabulary
from probe.scenario.load import loads
from probe.scenario.size import MOST_SESSIONS

WORDS = Vocabulary(publish=("whip", "rtmp"), view=("whep", "hls", "rtmp"), cut=())


@pytest.mark.parametrize(
    "address",
    [
        "https://probe:hunter2@live.example.com/whep",
        "rtmp://:hunter2@live.example.com/app",
        "https://live.example.com/a.m3u8?token=hunter2",
        "/a.m3u8?app=live&access_token=hunter2#x",
        "https://live.example.com/a.flv?wsSecret=hunter2&wsTime=1",
        "https://live.example.com/a.flv?auth_key=hunter2",
        "https://live.example.com/a.m3u8?hdnts=hunter2",
        "https://live.example.com/a.mpd?X-Amz-Signature=hunter2",
        "srt://live.example.com:9000?mode=caller&passphrase=hunter2",
        "rtmp://live.example.com/app?streamkey=hunter2",
        "https://live.example.com/a?sign=hunter2",
        "publish:room:probe:hunter2",
        "srt://live.example.com:8890?streamid=read:room:probe:hunter2&latency=200",
        "live/probe-1,token=hunter2",
        "#!::r=live/probe-1,m=publish,secret=hunter2",
    ],
)
def test_a_secret_written_out_is_found_and_not_repeated(address: str) -> None:
    message = written_secret(address)
    assert message is not None
    assert "hunter2" not in message
    assert "${secret.name}" in message


@pytest.mark.parametrize(
    "address",
    [
        "${secret.whep_url}",
        "/rooms/${room}/whep?token=${token}",
        "https://${user}:${password}@live.example.com/whep",
        "https://live.example.com/a?token=",
        "https://live.example.com/a?keyframe=1&design=2&signal=3&monkey=4&author=5&stream=6&key_frames=7",
        "srt://live.example.com:9000?streamid=read:${stream}&latency=200",
        "publish:probe-${run.number}-srt",
        "publish:${stream}:probe:${token}",
        "#!::r=live/${stream},m=request",
        "default/app/probe-1-srt",
        "https://live.example.com/2c1f9a7be04d4d6f8a3b5c7d9e0f1a2b/manifest/video.m3u8",
    ],
)
def test_what_is_no_secret_written_out_is_left_alone(address: str) -> None:
    assert written_secret(address) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("rtmp://live.example.com/app/9f8e7d6c5b4a39281706fedc", True),
        ("sk_us-west-2_abcd1234ABCD5678efgh", True),
        ("probe-1?token=hunter2", True),
        ("rtmp://live.example.com/app/probe-${run.number}", False),
        ("probe-${run.number}-rtmp?token=${token}", False),
        ("${secret.stream_key}", False),
        ("a-programme-that-loops-for-hours-720p30", False),
        ("rtmp://9f8e7d6c5b4a39281706fedc.example.com/app", False),
    ],
)
def test_a_stream_key_written_out_is_found_where_it_is_a_long_random_word(text: str, found: bool) -> None:
    assert (written_secret(text, key=True) is not None) is found


def test_the_loader_names_the_place_of_a_stream_key_and_what_to_write() -> None:
    text = """scenario: keyed
owner: me
platform: {url: "https://live.example.com", secrets: {url: {env: URL}}}
journey:
  - path: {publish: rtmp, url: "rtmp://live.example.com/app/9f8e7d6c5b4a39281706fedc"}
  - keyed:
      publish: rtmp
      url: "rtmp://live.example.com/app"
      key: "probe?streamkey=hunter2"
  - whole: {publish: rtmp, url: "${secret.url}"}
  - view: {via: rtmp, url: "rtmp://u:hunter2@live.example.com/app/a"}
"""
    with pytest.raises(ConfigError) as caught:
        loads(text, words=WORDS, env={})
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "scenario.yaml:5:32 path.url",
        "scenario.yaml:9:12 keyed.key",
        "scenario.yaml:11:28 view.url",
    ]
    assert all("under platform.secrets" in line for line in lines)
    assert "hunter2" not in str(caught.value)


def many(count: int, more: str = "") -> str:
    return f"""scenario: many
owner: me
platform: {{url: "https://live.example.com", views: {{whep: /whep, hls: /hls.m3u8}}}}
journey:
  - publish: {{via: whip, url: /whip}}
  - view: {{via: all, count: {count}{more}}}
"""


def test_a_journey_may_come_to_its_bound_and_not_beyond() -> None:
    assert len(loads(many(249), env={}).journey) == 2
    assert 2 * 249 + 1 < MOST_SESSIONS < 2 * 250 + 1
    with pytest.raises(ConfigError) as caught:
        loads(many(250), env={})
    (line,) = str(caught.value).splitlines()
    assert line.startswith("scenario.yaml:6:11 view: comes to 500 viewers (2 protocols and broadcasts × count 250), and the")
    assert "501 sessions where a run has 500 at most; lower count" in line


def test_every_address_of_a_name_counts_as_many_as_are_watched() -> None:
    assert loads(many(15, ", edges: each"), env={}).name == "many"
    with pytest.raises(ConfigError, match="16 addresses × count 16"):
        loads(many(16, ", edges: each"), env={})


def test_what_is_too_many_comes_with_every_other_mistake() -> None:
    with pytest.raises(ConfigError) as caught:
        loads(many(400).replace("owner: me", "owner: me\nownr: me"), env={})
    assert len(str(caught.value).splitlines()) == 2
