"""What can be broken on purpose: a closed table, one line each, and the faults now planted.

A fault is planted over the admin port, looked up where it acts, and ends by itself after `times` hits or `for` seconds.
Common to all: `times`, `for`, `after` (seconds until it acts: from planting; for media, from the session's first picture),
`room` (only there) and `by` (who plants it, so that each can heal its own). For media faults a hit is a session, for all
others a request. Planted faults are kept in the store, so that a restart heals nothing.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from probe.model.clock import NS, Clock
from probe.sandbox.store import Store

SERVICES = ("auth", "room", "payment", "gift", "chat", "moderation", "whip", "whep", "hls", "ll-hls", "http-flv")
EDGES = ("edge-a", "edge-b")
REGIONS = {"eu": "edge-a", "us": "edge-b"}  # and their edges
NEVER = 1 << 62
LIMIT = 64

Check = Callable[[Any], Any]


class BadFault(ValueError):
    """The fault asked for is not in the table, or its parameters are not its own."""


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise BadFault(f"not a number from {low:g} to {high:g}: {value!r}")
        return float(value)

    return check


def _one_of(*choices: Any) -> Check:
    def check(value: Any) -> Any:
        if value not in choices:
            raise BadFault(f"{value!r} is not one of {', '.join(map(str, choices))}")
        return value

    return check


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 2048:
        raise BadFault(f"not a short text: {value!r}")
    return value


def _origin(value: Any) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?/?", _text(value)):
        raise BadFault(f"not an origin: {value!r}")
    return str(value)


def _status(value: Any) -> int:
    return int(_number(300, 599)(value))


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of fault: what it does, its parameters, and their defaults (a parameter without one is required)."""

    about: str
    params: Mapping[str, Check] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    media: bool = False


_SERVICE = {"service": _one_of(*SERVICES)}
_SECONDS = {"seconds": _number(0, 120)}
_SIGNAL = {"of": _one_of("whip", "whep")}
_OF_WHEP = {"of": "whep"}
_AT = {"at": _one_of("connect", "publish")}
_AT_ALL = {"at": _one_of("handshake", "connect", "publish")}
_FLV = {"at": _one_of("header", "tag")}
_MEDIA = {"of": _one_of("whep", "hls", "ll-hls", "http-flv")}  # absent: all
_EDGE = {"edge": _one_of(*EDGES), "of": _one_of("hls", "ll-hls")}  # absent: both
_ONE_EDGE = {"edge": _one_of(*EDGES)}
_REGION = {"region": _one_of(*REGIONS)}
_COMMON: dict[str, Check] = {
    **{"times": _number(1, 1e6), "for": _number(0, 3600), "after": _number(0, 3600)},
    **{"room": _text, "by": _text},
}

TABLE: dict[str, Row] = {
    # any service
    "delay": Row("the service waits `seconds` before it answers", _SERVICE | _SECONDS),
    "hang": Row("the service never answers", _SERVICE),
    "refuse": Row("the service answers `status` with a `body` of json or html",
                  _SERVICE | {"status": _status, "body": _one_of("json", "html")}, {"status": 503, "body": "json"}),
    "redirect": Row("the service answers 307 to the origin `to` (default: this host under another name)",
                    _SERVICE | {"to": _origin}, {"to": ""}),
    "endless": Row("the service (hls, ll-hls: an edge's `what`) answers 200 with a 10 GB body",
                   _SERVICE | {"what": _one_of("playlist", "segment", "part")}),
    "killed": Row("the server process dies, at once or at the next request of `on`, and is back after `down` seconds",
                  {"down": _number(0, 60), "on": _one_of(*SERVICES)}, {"down": 1.0}),
    "down": Row("the service's connections are closed without an answer, and its sockets with them", _SERVICE),
    # regions and edges
    "edge_down": Row("an edge's connections are closed without an answer; its viewers are soon sent to the other", _ONE_EDGE),
    "region_isolated": Row("viewers of a region reach nothing: neither their edge nor the platform, and no media comes", _REGION),
    "region_moved": Row("a region's edge is drained: sessions end, its viewers are sent, and redirected, to the other", _REGION),
    # weaknesses, which show once something else has broken
    "not_back": Row("since the server's next restart the service answers `status`",
                    _SERVICE | {"status": _status}, {"status": 503}),
    "stale_after_down": Row("an edge that was down goes on with the playlists it had", _ONE_EDGE),
    "rejoin_refused": Row("whoever returns to a room from which viewers were put out is answered 403"),
    "steering_stuck": Row("viewers are sent to an edge although it is down"),
    "sham": Row("faults planted from now on are accepted and listed, and never act"),
    "brief": Row("faults planted from now on end after `seconds`", {"seconds": _number(0, 120)}),
    # product services
    "expired_token": Row("login gives out tokens that have already expired"),
    "tokens_revoked": Row("tokens given out before are refused as expired; all sessions and sockets end"),
    "payment_twice": Row("a payment stands in the ledger twice"),
    "payment_lost": Row("a payment is accepted and not booked"),
    "gift_twice": Row("a gift stands in the ledger twice"),
    "gift_lost": Row("a gift is accepted and not booked"),
    "gift_unseen": Row("a gift is booked and not shown to the room"),
    "chat_lost": Row("a chat message reaches nobody"),
    "flag_ignored": Row("a flag is accepted and never acted on"),
    # answers of WHIP and WHEP
    "sdp_html": Row("201 with a page of HTML instead of SDP", _SIGNAL, _OF_WHEP),
    "sdp_garbage": Row("201 with bytes that are no SDP", _SIGNAL, _OF_WHEP),
    "sdp_no_video": Row("an answer without a video section", _SIGNAL, _OF_WHEP),
    "sdp_high_only": Row("an answer whose only H.264 is High profile", _SIGNAL, _OF_WHEP),
    "no_candidates": Row("an answer without candidates, and no checks from us", _SIGNAL, _OF_WHEP),
    "black_hole": Row("an answer whose candidate swallows everything", _SIGNAL, _OF_WHEP),
    "wrong_fingerprint": Row("an answer whose DTLS fingerprint is another certificate's", _SIGNAL, _OF_WHEP),
    "private_location": Row("the session URL names a link-local address", _SIGNAL, _OF_WHEP),
    # RTMP ingest
    "rtmp_refuses": Row("a publisher is refused at its connect or publish command", _AT, {"at": "publish"}),
    "rtmp_hangs": Row("a publisher's handshake, connect or publish command is never answered", _AT_ALL, {"at": "handshake"}),
    "rtmp_ends": Row("the server closes a publisher's connection after so many `seconds`", _SECONDS, {"seconds": 2.0}),
    # media
    "media_none": Row("no media at all", _MEDIA, media=True),
    "media_no_keyframe": Row("predicted pictures only; keyframe requests are ignored", _MEDIA, media=True),
    "media_black": Row("a black picture", _MEDIA, media=True),
    "media_frozen": Row("picture and code stand still", _MEDIA, media=True),
    "media_foreign": Row("someone else's stream", _MEDIA, media=True),
    "media_stale": Row("the stream, `seconds` late", _MEDIA | {"seconds": _number(0, 60)}, {"seconds": 3.0}, media=True),
    "media_garbage": Row("packets whose payload is noise", _MEDIA, media=True),
    "media_broken": Row("below the band the picture goes grey or is torn, the code in the band goes on",
                        _MEDIA | {"how": _one_of("grey", "torn")}, {"how": "grey"}, media=True),
    "media_silent": Row("pictures without sound", _MEDIA, media=True),
    "media_noise": Row("sound whose packets are noise", _MEDIA, media=True),
    "media_stalls": Row("nothing more, from `after` seconds into the session", _MEDIA, media=True),
    "media_ends": Row("the server closes the session `after` seconds into it", _MEDIA, media=True),
    "flv_garbage": Row("HTTP-FLV whose bytes are noise from the header or `at` the first tag on", _FLV, {"at": "tag"}),
    # HLS of both ways, as the edges serve it
    "playlist_stale": Row("the media playlist never advances again", _EDGE),
    "playlist_html": Row("a page of HTML instead of the media playlist", _EDGE),
    "playlist_huge": Row("a media playlist of a million lines", _EDGE),
    "playlist_private": Row("a media playlist whose segments lie on a link-local address", _EDGE),
    "edge_refuses": Row("one edge answers `status` to everything", _EDGE | {"status": _status},
                        {"edge": "edge-b", "status": 503}),
    "segment_slow": Row("a segment takes `seconds` to arrive", _EDGE | _SECONDS),
    "segment_truncated": Row("half a segment, of honest length or `cut` by the connection",
                             _EDGE | {"cut": _one_of(True, False)}, {"cut": False}),
    "segment_garbage": Row("noise instead of a segment", _EDGE),
    "segment_missing": Row("404 for every segment", _EDGE),
    # low-latency HLS
    "part_missing": Row("404 for every part", _ONE_EDGE),
    "part_hangs": Row("a request for a part is never answered", _ONE_EDGE),
    "hint_never_comes": Row("the preload hint names a part that never comes", _ONE_EDGE),
    "delta_lies": Row("a delta update says it left out three segments more than it did", _ONE_EDGE),
    # the second rendition
    "rendition_missing": Row("404 for the small rendition's playlist and all of its files", _EDGE),
    "rendition_half_rate": Row("the small rendition has half the pictures that the master playlist tells of"),
}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Fault:
    """One planted fault. Unix ns; `left` hits remain (None: no limit)."""

    id: str
    name: str
    params: dict[str, Any]
    starts: int
    ends: int | None
    left: int | None
    hits: int = 0
    sessions: list[str] = field(default_factory=list)  # those a limited media fault has chosen

    def __getitem__(self, name: str) -> Any:
        return self.params.get(name)

    def plain(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class Faults:
    """The planted ones, in order of planting."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._planted = [Fault(**row) for row in json.loads(store.get("faults") or "[]")]

    def plant(self, name: Any, params: Mapping[str, Any]) -> Fault:
        """Raises BadFault."""
        fault = self.made(name, params)
        self._planted.append(fault)
        self._save()
        return fault

    def made(self, name: Any, params: Mapping[str, Any]) -> Fault:
        """What would be planted. Raises BadFault."""
        row = TABLE.get(name) if isinstance(name, str) else None
        if row is None:
            raise BadFault(f"no fault {name!r}; there are {', '.join(TABLE)}")
        checks = _COMMON | dict(row.params)
        if unknown := [p for p in params if p not in checks]:
            raise BadFault(f"{name} takes {', '.join(checks)}, not {', '.join(unknown)}")
        values = dict(row.defaults) | {p: checks[p](v) for p, v in params.items()}
        optional = {"edge", "of", "on", "what"}
        if missing := [p for p in row.params if p not in values and p not in optional]:
            raise BadFault(f"{name} needs {', '.join(missing)}")
        if len(self.planted()) >= LIMIT:
            raise BadFault(f"{LIMIT} faults are planted already")
        now = self._clock.wall().unix_ns
        times = values.pop("times", None)
        lasts = values.pop("for", None)
        starts = now + (0 if row.media else int(values.pop("after", 0) * NS))
        ends = [starts + int(seconds * NS) for seconds in (lasts, self._brief()) if seconds is not None]
        return Fault(
            id=secrets.token_hex(4),
            name=name,
            params=values,
            starts=NEVER if self.acting("sham") else starts,
            ends=min(ends, default=None),
            left=None if times is None else int(times),
        )

    def _brief(self) -> float | None:
        brief = self.acting("brief")
        return None if brief is None else float(brief["seconds"])

    def heal(self, fault_id: str | None = None, by: str | None = None) -> int:
        """Take one away, or those of one who planted, or all; returns how many."""
        healed = [f for f in self._planted if fault_id in (None, f.id) and by in (None, f["by"])]
        kept = [f for f in self._planted if f not in healed]
        gone = len(self._planted) - len(kept)
        self._planted = kept
        self._save()
        return gone

    def planted(self) -> list[Fault]:
        """Those not yet over; the rest is forgotten."""
        now = self._clock.wall().unix_ns
        if any(self._over(f, now) for f in self._planted):
            self._planted = [f for f in self._planted if not self._over(f, now)]
            self._save()
        return list(self._planted)

    def hit(self, name: str, **match: str | None) -> Fault | None:
        """The first one of that name that acts on this request; counts the hit."""
        for fault in self._acting(name, match):
            if fault.left is not None:
                fault.left -= 1
            fault.hits += 1
            self._save()
            return fault
        return None

    def acting(self, name: str, **match: str | None) -> Fault | None:
        """As `hit`, but counts nothing."""
        return next(iter(self._acting(name, match)), None)

    def media(self, session: str, age: float, **match: str | None) -> Fault | None:
        """The first media fault that acts on `session`, whose first picture is `age` seconds old."""
        if not self._planted:
            return None
        for name, row in TABLE.items():
            if not row.media:
                continue
            for fault in self._acting(name, match, spent=True):
                if fault.left is not None and session not in fault.sessions:
                    if fault.left == 0:
                        continue
                    fault.left -= 1
                    fault.sessions.append(session)
                    self._save()
                if age >= (fault["after"] or 0.0):
                    fault.hits += 1
                    return fault
        return None

    def _acting(self, name: str, match: Mapping[str, str | None], spent: bool = False) -> list[Fault]:
        if not self._planted:
            return []
        now = self._clock.wall().unix_ns
        return [
            f
            for f in self._planted
            if f.name == name
            and f.starts <= now
            and (f.ends is None or now < f.ends)
            and (spent or f.left != 0)
            and all(f.params.get(key) in (None, value) for key, value in match.items())
        ]

    @staticmethod
    def _over(fault: Fault, now: int) -> bool:
        return (fault.ends is not None and now >= fault.ends) or (fault.left == 0 and not fault.sessions)

    def _save(self) -> None:
        self._store.set("faults", json.dumps([f.plain() for f in self._planted]))
