"""The table: what is planted, who is to fail of it, where and why, and within how many seconds of the whole of `probe`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.faults.platform import HERE, Ran

JOURNEY, MATRIX = HERE / "journey.yaml", HERE.parent.parent / "scenarios" / "every-way.yaml"
PATHS = {"whep": "whep", "hls": "hls/index.m3u8", "ll-hls": "ll/index.m3u8", "http-flv": "live.flv"}
AT_ONCE = "1500ms"  # to start in, for a viewer that is to fail before it has a picture: who looks for the first takes as long
WHIP = '{via: whip, url: "/rooms/${room}/whip", as: broadcaster}'


def rtmp(key: str = "${room}?token=${broadcaster_token}") -> str:
    return f'{{via: rtmp, url: "${{env.RTMP_URL}}", key: "{key}"}}'


@dataclass(frozen=True)
class Watch:
    """watch.yaml made concrete: one viewer of `via`, who has `start` to start in and stays for `stay`."""

    via: str
    stay: str = "200ms"
    start: str = "2500ms"
    publish: str = WHIP
    device: str = "default"
    url: str = ""

    def text(self) -> str:
        url = self.url or f"/rooms/${{room}}/{PATHS[self.via]}"
        view = f'{{via: {self.via}, url: "{url}", as: viewer, start: {self.start}, device: {self.device}}}'
        text = (HERE / "watch.yaml").read_text()
        for step, value in (("publish", self.publish), ("view", view), ("stay", f"{{wait: {self.stay}}}")):
            text = text.replace(f"- {step}: {step.upper()}\n", f"- {step}: {value}\n")
        return text


class Written(Protocol):
    """A scenario that is written for a row."""

    def text(self) -> str: ...


@dataclass(frozen=True)
class Row:
    """`who` (a step or a protocol) must be among the failures with `why` (phase/reason); nobody where `who` is empty, and then
    `why` must be in the cause's words. `then`: planted as well, once a session of `who` has started. `also` looks further."""

    fault: str
    scenario: Path | Written
    exit: int
    who: str
    why: str
    params: dict[str, Any] = field(default_factory=dict)
    within: float = 14.0  # s: start, stay and reconnect as watch.yaml has them, and as much again for a slow machine
    then: dict[str, Any] | None = None
    also: Callable[[Ran], None] | None = None
    label: str = ""
    more: tuple[str, ...] = ()  # further arguments
    alone: bool = False  # two of its kind at once are more than two cores can do
    may: tuple[str, str] | None = None  # a failure that may be there or not

    def __str__(self) -> str:
        via = f"{self.scenario.via}: " if isinstance(self.scenario, Watch) else ""
        return self.label or f"{via}{self.fault} {' '.join(f'{k}={v}' for k, v in self.params.items())}".strip()


def only(ran: Ran, protocol: str) -> dict[str, Any]:
    """The one session of that protocol."""
    (one,) = (s for run in ran.verdict["runs"] for s in run["sessions"] if s["protocol"] == protocol)
    return dict(one)


def refusals_are_told(ran: Ran) -> None:
    """A player helped itself, but what its edge refused is counted."""
    edges = only(ran, "ll-hls")["edges"]
    assert any(edge["status"] == "4xx" and edge["edge"] for edge in edges), edges


def nothing_is_lost(ran: Ran) -> None:
    """Half of the frame rate it declares is what the ladder shows, and no frame counts as lost."""
    (one,) = (s for run in ran.verdict["runs"] for s in run["sessions"] if s["role"] == "viewer")
    (rung,) = (rung for rung in one["ladder"] if "delivered_frame_rate" in rung)
    assert rung["frame_rate"] == 30 and 13 < rung["delivered_frame_rate"] < 17, rung
    assert (one["frames"]["lost"], rung["delivered_height"]) == (0, 180), one["frames"]


def the_leg_is_named(ran: Ran) -> None:
    """A check of its own says who heard nothing."""
    (one,) = (s for run in ran.verdict["runs"] for s in run["sessions"] if s["role"] == "viewer")
    (check,) = (c for c in ran.verdict["checks"] if c["name"].startswith("sound "))
    assert (check["name"], check["result"], check["value"]) == (f"sound view/{one['protocol']}", "warn", 0.0), check
    fields = ran.verdict["cause"]["fields"]
    assert (fields["protocol"], fields["sound"]) == (one["protocol"], "none"), fields


def the_cause_is(**fields: str) -> Callable[[Ran], None]:
    def check(ran: Ran) -> None:
        """The common factor of the failing cells is this, and no other attribute of theirs."""
        found = ran.verdict["cause"]["fields"]
        named = {name: found[name] for name in ("edge", "protocol", "ingest", "device", "region", "service") if name in found}
        assert named == fields, ran.verdict["cause"]
        cells = ran.verdict["runs"][0]["matrix"]
        assert len(cells) == 8 and len({(cell["ingest"], cell["protocol"]) for cell in cells}) == 8, cells
        failing = {(cell["ingest"], cell["protocol"]) for cell in cells if cell["result"] == "fail"}
        assert len(failing) == 2, cells

    return check


def broadcast(fault: str, why: str, params: dict[str, Any] | None = None, key: str = "", **more: Any) -> Row:
    """A row of an RTMP publisher."""
    scenario = Watch("http-flv", more.pop("stay", "200ms"), publish=rtmp(key) if key else rtmp())
    label = f"rtmp: {fault} {' '.join(f'{k}={v}' for k, v in (params or {}).items())}".strip()
    return Row("" if key else fault, scenario, 1, "rtmp", why, params or {}, label=label, **more)


def service(fault: str, step: str, why: str, **params: Any) -> Row:
    return Row(fault, JOURNEY, 1, step, why, params)


def viewer(
    via: str, fault: str, why: str, stay: str = "200ms", start: str = "2500ms", device: str = "default", within: float = 14,
    **params: Any,
) -> Row:  # fmt: skip
    return Row(fault, Watch(via, stay, start, device=device), 1, via, why, params, within)


SHORT = ("--set", "journey.watch.wait=1s")
ROWS = [
    # the journey's services
    service("refuse", "login", "auth/http_401", service="auth", status=401),
    service("hang", "login", "auth/timeout", service="auth"),
    service("expired_token", "room", "auth/token_expired"),
    service("refuse", "room", "room/http_500", service="room", status=500, body="html"),
    service("redirect", "room", "room/redirect_refused", service="room"),
    service("endless", "room", "room/too_large", service="room"),
    service("chat_lost", "chat", "chat/not_seen"),
    service("refuse", "payment", "payment/http_402", service="payment", status=402),
    service("payment_twice", "charged", "payment/charged_twice"),
    service("gift_twice", "counted", "gift/counted_twice"),
    service("gift_lost", "counted", "gift/not_counted"),
    service("gift_unseen", "gift", "gift/not_seen"),
    service("flag_ignored", "acted", "moderation/not_acted"),
    # WHIP and WHEP: signalling
    Row("refuse", Watch("whep"), 1, "whip", "signal/http_503", {"service": "whip"}, label="whip: refuse"),
    viewer("whep", "refuse", "signal/http_404", service="whep", status=404),
    viewer("whep", "hang", "signal/timeout", service="whep"),
    viewer("whep", "sdp_html", "signal/not_sdp"),
    viewer("whep", "sdp_garbage", "signal/not_sdp"),
    viewer("whep", "sdp_no_video", "signal/no_video"),
    Row("sdp_high_only", Watch("whep"), 3, "whep", "skipped/unsupported"),
    viewer("whep", "no_candidates", "ice/no_candidates"),
    viewer("whep", "black_hole", "ice/timeout"),
    viewer("whep", "wrong_fingerprint", "dtls/failed"),
    # WHEP: media
    viewer("whep", "media_none", "first_packet/silence", of="whep"),
    viewer("whep", "media_no_keyframe", "keyframe/none", of="whep"),
    viewer("whep", "media_black", "first_frame/black", of="whep"),
    viewer("whep", "media_foreign", "first_frame/foreign", of="whep"),
    viewer("whep", "media_stale", "first_frame/stale", start="4s", of="whep", seconds=2.3),
    viewer("whep", "media_broken", "first_frame/broken", of="whep", how="grey"),
    Row("media_broken", Watch("whep", "6s"), 1, "whep", "playing/broken", {"of": "whep", "how": "torn", "after": 1},
        then={"fault": "refuse", "service": "whep"}),
    Row("media_stalls", Watch("whep", "6s"), 1, "whep", "playing/frozen", {"of": "whep", "after": 1},
        then={"fault": "refuse", "service": "whep"}),
    viewer("whep", "media_frozen", "playing/frozen", "5s", of="whep"),
    Row("media_ends", Watch("whep", "4s"), 1, "whep", "playing/ended", {"of": "whep", "after": 1},
        then={"fault": "refuse", "service": "whep"}),
    Row("media_silent", Watch("whep", "4s"), 0, "", "heard no sound", {"of": "whep"}, also=the_leg_is_named),
    # RTMP: the publisher
    broadcast("a forged key", "auth/refused", key="${room}?token=${run.tag}"),
    broadcast("no such room", "join/refused", key="nowhere?token=${broadcaster_token}"),
    broadcast("rtmp_refuses", "signal/refused", {"at": "connect"}),
    broadcast("rtmp_refuses", "join/refused", {"at": "publish"}),
    broadcast("rtmp_hangs", "handshake/timeout", {"at": "handshake"}),
    broadcast("rtmp_hangs", "signal/timeout", {"at": "connect"}),
    broadcast("rtmp_hangs", "join/timeout", {"at": "publish"}),
    broadcast("rtmp_ends", "playing/ended", {"seconds": 2}, stay="5s", then={"fault": "rtmp_refuses", "at": "publish"}),
    # HTTP-FLV
    viewer("http-flv", "refuse", "join/http_404", start=AT_ONCE, service="http-flv", status=404),
    viewer("http-flv", "hang", "join/timeout", start=AT_ONCE, service="http-flv"),
    viewer("http-flv", "endless", "first_packet/malformed", start=AT_ONCE, service="http-flv"),
    viewer("http-flv", "flv_garbage", "first_packet/malformed", start=AT_ONCE, at="header"),
    viewer("http-flv", "flv_garbage", "first_packet/malformed", start=AT_ONCE, at="tag"),
    viewer("http-flv", "media_none", "first_packet/silence", start=AT_ONCE, of="http-flv"),
    viewer("http-flv", "media_no_keyframe", "keyframe/none", of="http-flv"),
    viewer("http-flv", "media_garbage", "first_frame/undecodable", of="http-flv"),
    viewer("http-flv", "media_foreign", "first_frame/foreign", of="http-flv"),
    viewer("http-flv", "media_broken", "first_frame/broken", of="http-flv", how="grey"),
    Row("media_stalls", Watch("http-flv", "7s"), 1, "http-flv", "playing/frozen", {"of": "http-flv", "after": 1},
        then={"fault": "refuse", "service": "http-flv"}),
    Row("media_ends", Watch("http-flv", "4s"), 1, "http-flv", "playing/ended", {"of": "http-flv", "after": 1},
        then={"fault": "refuse", "service": "http-flv"}),
    Row("media_silent", Watch("http-flv", "4s"), 0, "", "heard no sound", {"of": "http-flv"}, also=the_leg_is_named),
    Row("", Watch("http-flv", url="${env.STRANGE_FLV}"), 3, "http-flv", "skipped/unsupported", label="http-flv: a codec we lack"),
    # HLS
    viewer("hls", "segment_missing", "segment/http_404", start="3500ms"),
    viewer("hls", "segment_garbage", "segment/malformed", start="3500ms"),
    viewer("hls", "playlist_html", "playlist/not_a_playlist", start=AT_ONCE),
    viewer("hls", "playlist_huge", "playlist/too_large", start=AT_ONCE),
    viewer("hls", "playlist_private", "segment/address_refused"),
    viewer("hls", "media_broken", "first_frame/broken", of="hls", how="grey"),
    viewer("hls", "rendition_missing", "playlist/http_404", start="3500ms", device="small"),
    Row("rendition_half_rate", Watch("hls", "4s", "6s", device="small"), 0, "", "", also=nothing_is_lost),
    # low-latency HLS
    viewer("ll-hls", "hang", "playlist/timeout", start=AT_ONCE, service="ll-hls"),
    viewer("ll-hls", "part_hangs", "part/timeout"),
    Row("part_missing", Watch("ll-hls", "4s", "6s"), 1, "ll-hls", "playing/frozen", also=refusals_are_told),
    Row("hint_never_comes", Watch("ll-hls", "2s"), 0, "", "", also=refusals_are_told),
    # Each lie costs a list read whole: the picture may stand a moment for it, also when the stay ends, which is a warning.
    Row("delta_lies", Watch("ll-hls", "6s"), 0, "", "", may=("ll-hls", "playing/frozen")),
    viewer("ll-hls", "segment_garbage", "part/malformed", start="3500ms", of="ll-hls"),
    viewer("ll-hls", "playlist_private", "part/address_refused", of="ll-hls"),
    viewer("ll-hls", "playlist_stale", "playing/frozen", "10s", within=18, of="ll-hls"),
    viewer("ll-hls", "media_broken", "first_frame/broken", of="ll-hls", how="grey"),
    Row("rendition_half_rate", Watch("ll-hls", "4s", "6s", device="small"), 0, "", "", also=nothing_is_lost),
    # the matrix: 2 ingests × 4 egresses, and what the failing cells share
    Row("edge_refuses", MATRIX, 1, "hls", "playlist/http_503", {"edge": "edge-b"}, 20,
        also=the_cause_is(edge="edge-b"), more=SHORT, alone=True),
    Row("refuse", MATRIX, 1, "http-flv", "join/http_503", {"service": "http-flv"}, 20,
        also=the_cause_is(protocol="http-flv"), more=SHORT, alone=True),
]  # fmt: skip
