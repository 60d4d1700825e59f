"""How an attempt ended, and the closed list of (phase, reason) pairs a failure may carry.

The list is closed because each pair is a metric label, a row in a runbook and a line an engineer learns to read; an
unknown pair is a bug of ours and is refused where it is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from probe.model.stage import Phase

_STATUSES = (
    *(300, 301, 302, 303, 304, 307, 308),
    *(
        400,
        401,
        402,
        403,
        404,
        405,
        406,
        408,
        409,
        410,
        411,
        412,
        413,
        415,
        416,
        418,
        421,
        422,
        423,
        425,
        426,
        428,
        429,
        431,
        451,
    ),
    *(500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 521, 522, 523, 524, 525, 526, 530),
)
_NAMED_STATUSES = frozenset(_STATUSES)
_HTTP = frozenset({f"http_{s}" for s in _STATUSES} | {"http_other"})

# What any exchange over HTTP can come to, whatever it was for.
_EXCHANGE = _HTTP | {
    "timeout", "reset", "closed", "protocol", "too_large", "redirect_loop", "redirect_refused", "address_refused", "malformed",
}  # fmt: skip
_SERVICE = _EXCHANGE | {"unexpected", "missing_field", "not_seen"}
_PICTURE = frozenset({"undecodable", "foreign", "stale", "black", "broken"})
_MEDIA_FETCH = _EXCHANGE | {"empty", "stale", "undecodable"}

REASONS: dict[Phase, frozenset[str]] = {
    Phase.RESOLVE: frozenset({"not_found", "timeout", "failed"}),
    Phase.CONNECT: frozenset({"refused", "timeout", "reset", "unreachable", "address_refused", "failed"}),
    Phase.TLS: frozenset({"untrusted", "expired", "wrong_host", "timeout", "failed"}),
    Phase.HANDSHAKE: frozenset({"refused", "timeout", "closed", "reset", "malformed", "unsupported", "address_refused"}),
    Phase.AUTH: _SERVICE | {"token_expired", "refused"},
    Phase.JOIN: _EXCHANGE | {"refused", "not_found"},
    Phase.SIGNAL: _EXCHANGE | {"refused", "not_sdp", "no_video", "sdp_rejected", "unsupported"},
    Phase.ICE: frozenset({"timeout", "failed", "address_refused", "no_candidates"}),
    Phase.DTLS: frozenset({"timeout", "failed"}),
    Phase.PLAYLIST: _MEDIA_FETCH | {"not_a_playlist", "too_many_lines", "no_variant", "no_video", "unsupported"},
    Phase.INIT: _MEDIA_FETCH,
    Phase.SEGMENT: _MEDIA_FETCH,
    Phase.PART: _MEDIA_FETCH,
    Phase.FIRST_PACKET: _EXCHANGE | {"silence", "no_video"},
    Phase.KEYFRAME: frozenset({"none", "closed", "reset", "malformed", "too_large", "no_video"}),
    Phase.FIRST_FRAME: _PICTURE | {"uncoded", "still", "none", "unsupported"},
    Phase.ACK: frozenset({"none", "closed", "reset", "refused", "malformed"}),
    Phase.PROBE: frozenset({"timeout", "crashed"}),
    Phase.PLAYING: _PICTURE | {"frozen", "ended", "reset", "malformed", "too_large"},
    Phase.RECONNECTING: _EXCHANGE | {"refused", "frozen"},
    Phase.ROOM: _SERVICE,
    Phase.CHAT: _SERVICE,
    Phase.GIFT: _SERVICE | {"counted_twice", "not_counted"},
    Phase.PAYMENT: _SERVICE | {"charged_twice", "not_charged"},
    Phase.MODERATION: _SERVICE | {"not_acted"},
    Phase.ENDING: _SERVICE | {"left_behind"},
}


def http_reason(status: int) -> str:
    """The reason of an unwanted HTTP status: `http_404`, or `http_other` for one nobody has named."""
    return f"http_{status}" if status in _NAMED_STATUSES else "http_other"


@dataclass(frozen=True, slots=True)
class Done:
    """It did what it set out to do."""

    kind = "done"


@dataclass(frozen=True, slots=True)
class Failed:
    """The platform failed it. `detail` is for people: one line, no secret, never a label."""

    phase: Phase
    reason: str
    detail: str = ""
    kind = "failed"

    def __post_init__(self) -> None:
        if self.reason not in REASONS[self.phase]:
            raise ValueError(f"({self.phase}, {self.reason}) is not a known failure")


@dataclass(frozen=True, slots=True)
class Skipped:
    """It was never the platform's turn: unsupported by us, or what it needed did not come to be."""

    reason: str
    detail: str = ""
    kind = "skipped"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Someone ended the run before it could end by itself."""

    kind = "cancelled"


@dataclass(frozen=True, slots=True)
class Aborted:
    """The probe itself broke. Never counted against the platform."""

    detail: str = ""
    kind = "aborted"


Outcome = Done | Failed | Skipped | Cancelled | Aborted
