"""Scenario × region × seed → plan."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import pytest

from probe.errors import ConfigError
from probe.model.clock import NS
from probe.model.ids import new_run_ids
from probe.plan import CutStep, FakeStep, HttpStep, Plan, PublishStep, ViewStep, WaitStep, WebsocketStep
from probe.planning import make_plan
from probe.scenario.load import load, loads

ROOT = Path(__file__).parent.parent.parent
IDS = new_run_ids(1, random.Random(1))
ENV = {"PLATFORM_URL": "https://live.example.com"}


def plan(text: str, region: str = "eu", **kwargs: Any) -> Plan:
    head = """
scenario: planned
owner: me
regions: [eu, us]
platform:
  url: "https://live.example.com"
  views: {whep: /all/whep, hls: /all/hls}
  allow: [10.0.0.0/8]
  regions:
    us: {url: "https://us.example.com", views: {hls: "https://cdn-us.example.com/x.m3u8"}, ice_servers: ["stun:stun.us"]}
deadlines: {start: {whep: 4s, whip: 6s}, reconnect: 7s, run: 50s}
journey:
"""
    return make_plan(loads(head + text, env={}), region, 1, IDS, **kwargs)


def shipped(name: str = "room-start.yaml") -> Plan:
    return make_plan(load(ROOT / "scenarios" / name, env=ENV), "local", 1, IDS, mode="smoke")


BROADCAST = """
  - publish: {via: whip, url: /whip}
  - view: [{via: whep, count: 2}, {via: hls, start: 12s, max_age: 20s, optional: true}]
"""


def test_the_room_start_that_ships_becomes_a_plan():
    made = shipped()
    assert [s.kind for s in made.journey] == [
        *("http", "http", "http", "publish", "view", "websocket", "http", "http", "http", "http", "cut", "http", "http")
    ]
    assert (made.mode, made.region, made.publish_region, made.run_id) == ("smoke", "local", "local", IDS.run_id)
    assert made.secrets["viewer_password"].source == ("env", "VIEWER_PASSWORD")
    assert made.secrets["viewer_password"].origins == ("${platform.url}",)
    assert made.accounts == {"broadcaster": "${broadcaster_token}", "viewer": "${viewer_token}"}
    assert [s.name for s in made.final] == ["end"]


def test_the_same_arguments_make_the_same_plan_and_it_can_be_sent():
    assert shipped() == shipped()
    assert pickle.loads(pickle.dumps(shipped())) == shipped()


def test_a_room_is_undone_by_its_tag_as_the_account_that_made_it():
    (room,) = (s for s in shipped().journey if s.name == "room")
    assert isinstance(room, HttpStep) and room.undo is not None
    assert (room.undo.method, room.undo.url, room.undo.account) == ("DELETE", "/rooms?tag=${run.tag}", "broadcaster")


def test_a_login_is_not_sent_the_token_it_is_to_fetch():
    login, room = shipped().journey[0], shipped().journey[2]
    assert isinstance(login, HttpStep) and login.call.account is None
    assert isinstance(room, HttpStep) and room.call.account == "broadcaster"


def test_a_gift_is_looked_for_on_the_socket_of_the_chat_as_a_viewer():
    (gift,) = (s for s in shipped().journey if s.name == "gift")
    assert isinstance(gift, HttpStep)
    assert (gift.seen_by, gift.socket, gift.socket_account, gift.seen) == ("viewers", "/rooms/${room}/chat", "viewer", None)


def test_the_bare_scenario_has_tokens_only_where_they_are_set():
    scenario = load(ROOT / "scenarios" / "bare-whip-whep.yaml", env={"WHEP_TOKEN": "x"})
    made = make_plan(scenario, "local", 1, IDS)
    assert made.accounts == {"viewer": "${secret.whep_token}"}
    publish, view = made.journey[:2]
    assert isinstance(publish, PublishStep) and publish.account is None
    assert isinstance(view, ViewStep) and view.views[0].account == "viewer"


def test_accounts_use_their_own_kept_token_else_the_only_one():
    made = plan("""
  - login: {http: POST /login, keep: {token: token}}
  - other: {http: POST /login, as: guest, keep: {guest_token: token}}
  - act: {http: POST /x, as: guest, undo: {http: DELETE /x, as: cleaner, json: {why: probe}}}
  - plain: {http: POST /x}
""")
    assert made.accounts == {"cleaner": "${token}", "default": "${token}", "guest": "${guest_token}", "viewer": "${token}"}
    login, other, act, plain = made.journey
    assert isinstance(login, HttpStep) and login.call.account is None
    assert isinstance(other, HttpStep) and other.call.account is None
    assert isinstance(act, HttpStep) and act.call.account == "guest"
    assert act.undo is not None and (act.undo.account, act.undo.json) == ("cleaner", {"why": "probe"})
    assert isinstance(plain, HttpStep) and plain.call.account == "default"


def test_a_view_is_impaired_by_the_cuts_of_ours_that_come_after_it_and_are_aimed_at_it():
    made = plan(
        BROADCAST
        + """
  - a: {cut: flap, of: viewers, for: 1s}
  - b: {cut: rebind, of: hls, for: 1s}
  - c: {cut: drop, of: publisher, for: 1s}
  - d: {cut: restart, of: platform, call: POST /restart}
  - late: {view: {via: whep}}
"""
    )
    early, late = (s for s in made.journey if isinstance(s, ViewStep))
    assert [v.impaired for v in early.views] == [{"flap"}, {"flap", "rebind"}]
    assert late.views[0].impaired == frozenset()
    (restart,) = (s for s in made.journey if s.name == "d")
    assert isinstance(restart, CutStep) and restart.call is not None and restart.duration == 0


def test_deadlines_are_the_nearest_that_the_scenario_sets():
    made = plan(BROADCAST + "  - call: {http: GET /x, within: 3s}\n  - again: {publish: whip, url: /b, within: 2s}\n")
    publish, view, call, again = made.journey
    assert isinstance(view, ViewStep)
    assert (publish.deadline, view.deadline, call.deadline, again.deadline) == (6 * NS, None, 3 * NS, 2 * NS)
    assert [v.start for v in view.views] == [4 * NS, 12 * NS]
    assert [v.max_age for v in view.views] == [None, 20 * NS]
    assert (made.reconnect_deadline, made.run_deadline) == (7 * NS, 50 * NS)


def test_a_step_of_optional_viewers_alone_is_optional():
    made = plan(BROADCAST + "  - extra: {view: {via: hls, optional: true}}\n")
    assert [s.optional for s in made.journey] == [False, False, True]


def test_a_region_s_own_platform_wins_and_the_rest_is_shared():
    eu, us = plan(BROADCAST, "eu"), plan(BROADCAST, "us")
    urls = [[v.url for s in p.journey if isinstance(s, ViewStep) for v in s.views] for p in (eu, us)]
    assert urls == [["/all/whep", "/all/hls"], ["/all/whep", "https://cdn-us.example.com/x.m3u8"]]
    assert (eu.platform_url, us.platform_url) == ("https://live.example.com", "https://us.example.com")
    assert ([s.url for s in eu.ice_servers], [s.url for s in us.ice_servers]) == ([], ["stun:stun.us"])
    assert us.allow == ("10.0.0.0/8",)


def test_a_publisher_elsewhere_publishes_at_its_own_platform():
    (here,) = (s for s in plan(BROADCAST, "us", publish_region="us").journey if isinstance(s, PublishStep))
    (there,) = (s for s in plan(BROADCAST, "us", publish_region="eu").journey if isinstance(s, PublishStep))
    assert (here.url, there.url) == ("/whip", "https://live.example.com/whip")


def test_services_are_those_said_else_the_step_s_name_else_the_kind_s():
    made = plan("""
  - payment: {http: POST /pay}
  - other: {http: POST /x}
  - said: {http: POST /x, service: gift}
  - talk: {websocket: /chat, send: hi}
  - moderation: {websocket: /chat, send: hi}
  - wait: 1s
  - pretend: {fake: skipped, reason: unsupported}
""")
    assert [s.service for s in made.journey] == ["payment", "room", "gift", "chat", "moderation", "", ""]
    assert isinstance(made.journey[3], WebsocketStep) and made.journey[3].seen_account is None
    assert isinstance(made.journey[5], WaitStep) and made.journey[5].duration == NS
    assert isinstance(made.journey[6], FakeStep) and made.journey[6].reason == "unsupported"


def test_an_http_step_may_name_its_own_socket():
    made = plan(BROADCAST + '  - gift: {http: POST /gifts, seen_by: whep, socket: /events, seen: "gift ${run.id}"}\n')
    gift = made.journey[2]
    assert isinstance(gift, HttpStep)
    assert (gift.seen_by, gift.socket, gift.seen, gift.socket_account) == ("whep", "/events", "gift ${run.id}", None)


def test_a_gate_without_an_owner_is_the_scenario_s():
    made = plan(
        "  - login: {http: POST /login}\ngates:\n  - {name: a, when: failures > 3, action: x}\n"
        "  - {name: b, when: failures > 3, action: x, owner: you}\n"
    )
    assert [g.owner for g in made.gates] == ["me", "you"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"region": "asia"}, "planned region: 'asia' is not one of eu, us"),
        ({"publish_region": "asia"}, "planned publish_region: 'asia' is not one of eu, us"),
        ({"mode": "party"}, "planned mode: 'party' is not one of scheduled, smoke, ramp, drill, adhoc"),
    ],
)
def test_what_the_scenario_does_not_know_is_refused(arguments, message):
    with pytest.raises(ConfigError) as caught:
        plan(BROADCAST, **arguments)
    assert str(caught.value) == message


MATRIX = """
  - go-a: {publish: whip, url: /a/whip, stream: a}
  - go-b: {publish: whip, url: /b/whip, stream: b}
"""


def seen(text: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(v.protocol, v.url, v.of) for s in plan(text).journey if isinstance(s, ViewStep) for v in s.views]


def test_all_is_a_group_for_each_protocol_the_platform_declares():
    assert seen("  - publish: {via: whip, url: /whip}\n  - view: [{via: all}]\n") == [
        ("whep", "/all/whep", ("publish",)),
        ("hls", "/all/hls", ("publish",)),
    ]


def test_where_the_address_names_the_stream_each_broadcast_has_viewers_of_its_own():
    own = '  - view: [{via: whep, url: "/${stream}/whep"}]\n'
    assert seen(MATRIX + own) == [("whep", "/${stream}/whep", ("go-a",)), ("whep", "/${stream}/whep", ("go-b",))]
    assert seen(MATRIX + '  - view: [{via: whep, url: "/${stream}/whep", of: go-b}]\n') == [
        ("whep", "/${stream}/whep", ("go-b",))
    ]


def test_where_it_does_not_the_code_of_any_broadcast_will_do():
    assert seen(MATRIX + "  - view: [{via: whep}]\n") == [("whep", "/all/whep", ("go-a", "go-b"))]


def test_rooms_that_are_not_ours_expect_nobodys_code():
    text = """
  - list: {http: GET /top, keep: {rooms: "[].id"}}
  - view: [{via: hls, url: "/r/${item}", verify: moving, over: rooms, at_most: 3}]
"""
    (view,) = [v for s in plan(text).journey if isinstance(s, ViewStep) for v in s.views]
    assert (view.of, view.over, view.at_most, view.verify) == ((), "rooms", 3, "moving")


def test_what_opens_a_way_in_stays_a_reference():
    made = plan(
        '  - publish: {via: whip, url: "https://in.example/live", key: "${run.tag}", latency: 200ms, streamid: "publish:x"}\n'
    )
    (step,) = made.journey
    assert isinstance(step, PublishStep)
    assert (step.access.key, step.access.latency, step.access.streamid) == ("${run.tag}", 200_000_000, "publish:x")


def test_a_relays_secret_stays_a_reference_and_nothing_else_may_stand_there():
    text = """
scenario: relayed
owner: me
platform:
  url: https://live.example.com
  secrets: {relay: {env: RELAY, for: "turn://turn.example.com:3478"}}
  ice_servers: [{url: "turn:turn.example.com", username: probe, credential: "${secret.relay}"}]
journey:
  - publish: {via: whip, url: /whip, ice: relay, family: ipv6}
  - view: {via: hls, url: /x.m3u8, edges: each}
"""
    made = make_plan(loads(text, env={}), "local", 1, IDS)
    (server,) = made.ice_servers
    assert (server.url, server.username, server.credential) == ("turn:turn.example.com", "probe", "${secret.relay}")
    publish, view = made.journey
    assert isinstance(publish, PublishStep) and (publish.ice, publish.family) == ("relay", "ipv6")
    assert isinstance(view, ViewStep) and view.views[0].edges == "each"
    with pytest.raises(ConfigError, match="only \\$\\{env.NAME\\} can be used here"):
        loads(text.replace('url: "turn:turn.example.com"', 'url: "turn:${secret.relay}"'), env={})
