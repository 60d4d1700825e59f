"""SDP answers as real and hostile servers write them (RFC 8866, 8829, 9725), read before aiortc sees them.

aiortc's parser trusts what it reads. Here sizes and counts are bounded, what is wrong gets its own reason (not SDP, no
video, rejected) and what we merely cannot take is Unsupported, with what was offered and what was answered. Then the
answer is put into the one form upstream copes with: candidates in every bundled section with an end (upstream takes
those of the last section, servers write them into the first), rejected sections filled in, absent mids taken from the
offer. Candidates are literal UDP addresses the policy allows: names would let a server make us resolve, mDNS even ask
the neighbours.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from aiortc.rtcpeerconnection import find_common_codecs
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.sdp import SessionDescription

from probe.errors import Failure, Unsupported
from probe.model.stage import Phase
from probe.model.text import quoted

MAX_BYTES = 64 * 1024
MAX_LINES = 2000
MAX_SECTIONS = 16
MAX_CANDIDATES = 64

_CANDIDATE = re.compile(
    r"a=candidate:(\S{1,64}) (\d{1,3}) (\S{3,8}) (\d{1,10}) (\S{1,255}) (\d{1,5}) typ (host|srflx|prflx|relay)\b.*", re.I
)


@dataclass(slots=True)
class Section:
    """One m= section: its lines, the m= line first."""

    lines: list[str]

    @property
    def words(self) -> list[str]:
        return self.lines[0][2:].split()

    @property
    def kind(self) -> str:
        return self.words[0]

    @property
    def port(self) -> str:
        return self.words[1]

    @property
    def formats(self) -> list[str]:
        return self.words[3:]

    def value(self, name: str) -> str | None:
        """Value of the first `a=name:`, '' for a flag, None when absent."""
        for line in self.lines[1:]:
            if line == f"a={name}":
                return ""
            if line.startswith(f"a={name}:"):
                return line[len(name) + 3 :].strip()
        return None

    @property
    def direction(self) -> str:
        for name in ("sendonly", "recvonly", "inactive", "sendrecv"):
            if self.value(name) is not None:
                return name
        return "sendrecv"


@dataclass(slots=True)
class Sdp:
    """A session description in lines."""

    session: Section
    sections: list[Section] = field(default_factory=list)

    @staticmethod
    def parse(text: str) -> Sdp:
        """ValueError for what is not SDP or out of bounds."""
        lines = [line.strip() for line in text.splitlines()]
        lines = [line for line in lines if line]
        if not lines or lines[0] != "v=0" or len(lines) > MAX_LINES:
            raise ValueError("not a session description")
        sdp = Sdp(Section([]))
        for line in lines:
            if len(line) < 2 or line[1] != "=":
                raise ValueError("a line without a type")
            if line.startswith("m="):
                if len(line.split()) < 4 or len(sdp.sections) == MAX_SECTIONS:
                    raise ValueError("a media section that cannot be")
                sdp.sections.append(Section([line]))
            else:
                (sdp.sections[-1] if sdp.sections else sdp.session).lines.append(line)
        return sdp

    def first(self, kind: str) -> Section | None:
        return next((s for s in self.sections if s.kind == kind), None)

    def __str__(self) -> str:
        lines = list(self.session.lines)
        for section in self.sections:
            lines += section.lines
        return "\r\n".join(lines) + "\r\n"


@dataclass(frozen=True, slots=True)
class Accepted:
    """An answer as aiortc may have it, and what a person should know of it."""

    sdp: str
    codec: str
    audio: bool
    notes: list[str]


def read_answer(
    body: bytes, offer: str, *, sending: bool, refusal: Callable[[str], str | None], content_type: str = ""
) -> Accepted:
    """Judge an answer to our `offer`. `sending`: we publish. `refusal` says why an address may not be used, or None.

    Raises Failure(SIGNAL: not_sdp, no_video, sdp_rejected; ICE: no_candidates, address_refused) or Unsupported."""
    answer = _parse(body, content_type)
    ours = Sdp.parse(offer)
    video = answer.first("video")
    if video is None:
        raise Failure(Phase.SIGNAL, "no_video", "the answer has no video section")
    _check_video(video, ours, sending)
    if [s.kind for s in answer.sections] != [s.kind for s in ours.sections]:
        kinds = ", ".join(s.kind for s in answer.sections)
        raise Failure(Phase.SIGNAL, "sdp_rejected", f"the answer's sections ({kinds}) are not those of the offer")
    notes: list[str] = []
    live = [s for s in answer.sections if s.port != "0" or s is video]
    for section in live:
        _check_transport(section, answer.session)
    candidates = usable_candidates(answer, refusal, notes)
    for section, offered in zip(answer.sections, ours.sections, strict=True):
        _settle(section, offered, video, answer.session, candidates)
    text = str(answer)
    codec = _negotiated(text, ours)
    audio = answer.first("audio")
    wanted = "recvonly" if sending else "sendonly"
    has_audio = audio is not None and audio in live and audio.direction in (wanted, "sendrecv")
    return Accepted(text, codec, has_audio, notes)


def _parse(body: bytes, content_type: str) -> Sdp:
    kind = quoted(content_type.partition(";")[0].strip().lower(), 60) or "no content type"
    try:
        if len(body) > MAX_BYTES:
            raise ValueError("too long")
        return Sdp.parse(body.decode("utf-8").lstrip("\ufeff"))
    except ValueError as error:
        raise Failure(Phase.SIGNAL, "not_sdp", f"{len(body)} bytes of {kind}: {error}") from error


def _check_video(video: Section, ours: Sdp, sending: bool) -> None:
    mine = ours.first("video")
    offered, known = _codecs(mine), set(mine.formats if mine is not None else ())
    answered = _codecs(video)
    if not answered and (not video.formats or not known & set(video.formats)):
        raise Unsupported(f"offered {', '.join(offered)}; the answer's video section has no codec")
    if video.port == "0" or video.direction in ("inactive", "sendonly" if sending else "recvonly"):
        what = "takes no video" if sending else "sends no video"
        raise Failure(
            Phase.SIGNAL, "no_video", f"the server {what}: port {quoted(video.port, 20)}, {quoted(video.direction, 20)}"
        )


def _check_transport(section: Section, session: Section) -> None:
    """What every live section needs (RFC 8829 section 5.8); session level counts for all."""

    def value(name: str) -> str | None:
        own = section.value(name)
        return own if own is not None else session.value(name)

    setup = value("setup")
    if setup not in ("active", "passive"):
        said = quoted(setup or "absent", 60)
        raise Failure(Phase.SIGNAL, "sdp_rejected", f"setup:{said} in an answer; RFC 5763 wants active or passive")
    if not value("ice-ufrag") or not value("ice-pwd"):
        raise Failure(Phase.SIGNAL, "sdp_rejected", "the answer has no ICE credentials")
    if section.value("rtcp-mux") is None:
        raise Failure(Phase.SIGNAL, "sdp_rejected", "the answer has no rtcp-mux")
    fingerprint = value("fingerprint")
    if not fingerprint or len(fingerprint.split()) != 2:
        raise Failure(Phase.SIGNAL, "sdp_rejected", "the answer has no certificate fingerprint")
    algorithms = {
        line.split(":", 1)[1].split()[0].lower()
        for line in section.lines + session.lines
        if line.startswith("a=fingerprint:") and line.split(":", 1)[1].split()
    }
    if not algorithms & {"sha-256", "sha-384", "sha-512"}:
        raise Unsupported(f"certificate fingerprints by {quoted(', '.join(sorted(algorithms)), 60)} only")


def usable_candidates(sdp: Sdp, refusal: Callable[[str], str | None], notes: list[str]) -> list[str]:
    """The candidate lines we may use, deduplicated. Failure(ICE) when none is left."""
    lines = [line for part in (sdp.session, *sdp.sections) for line in part.lines if line.startswith("a=candidate:")]
    lines = list(dict.fromkeys(lines))
    if len(lines) > MAX_CANDIDATES:
        notes.append(f"{len(lines)} ICE candidates, of which the first {MAX_CANDIDATES} count")
    usable: list[str] = []
    refused: list[str] = []
    for line in lines[:MAX_CANDIDATES]:
        match = _CANDIDATE.fullmatch(line)
        if match is None or match[2] != "1" or match[3].lower() != "udp" or not 0 < int(match[6]) < 65536:
            continue
        try:
            ip = str(ipaddress.ip_address(match[5]))
        except ValueError:
            continue
        why = refusal(ip)
        if why is None:
            usable.append(line)
        else:
            refused.append(why)
    if not usable and refused:
        raise Failure(Phase.ICE, "address_refused", refused[0])
    if not usable:
        raise Failure(Phase.ICE, "no_candidates", f"{len(lines)} candidates in the answer, none a literal UDP address")
    return usable


def _settle(section: Section, offered: Section, video: Section, session: Section, candidates: list[str]) -> None:
    """Make one section what upstream copes with, in place."""
    dropped = ("a=candidate:", "a=end-of-candidates", "a=remote-candidates:")
    section.lines = [line for line in section.lines if not line.startswith(dropped)]
    if section.port == "0":
        words = ["m=" + offered.kind, "9", *offered.words[2:]]
        keep = ("a=rtpmap:", "a=fmtp:", "a=rtcp-fb:")
        section.lines = [" ".join(words), "a=inactive", "a=rtcp-mux", *(x for x in offered.lines if x.startswith(keep))]
        for name in ("setup", "ice-ufrag", "ice-pwd", "fingerprint"):
            value = video.value(name)
            if value is not None:
                section.lines.append(f"a={name}:{value}")
    if section.value("mid") is None and offered.value("mid") is not None:
        section.lines.append(f"a=mid:{offered.value('mid')}")
    section.lines += [*candidates, "a=end-of-candidates"]
    session.lines = [line for line in session.lines if not line.startswith(dropped)]


def _negotiated(text: str, ours: Sdp) -> str:
    """Name of the video codec both sides have; upstream's parser is tried on the text here, whatever it throws."""
    try:
        theirs = SessionDescription.parse(text)
        mine = SessionDescription.parse(str(ours))
    except Exception as error:  # a parser that asserts and indexes: each of its errors means that it cannot be read
        raise Failure(Phase.SIGNAL, "sdp_rejected", f"the answer cannot be read: {type(error).__name__}") from error
    for index, media in enumerate(theirs.media):
        common = find_common_codecs(mine.media[index].rtp.codecs, media.rtp.codecs)
        if not common:
            offered, answered = (", ".join(map(_named, m.rtp.codecs)) or "nothing" for m in (mine.media[index], media))
            raise Unsupported(quoted(f"{media.kind}: offered {offered}; answered {answered}", 300))
    at = next(i for i, media in enumerate(theirs.media) if media.kind == "video")
    return find_common_codecs(mine.media[at].rtp.codecs, theirs.media[at].rtp.codecs)[0].name.lower()


def _codecs(section: Section | None) -> list[str]:
    return [quoted(line.split(" ", 1)[-1], 40) for line in (section.lines if section else []) if line.startswith("a=rtpmap:")]


def _named(codec: RTCRtpCodecParameters) -> str:
    profile = codec.parameters.get("profile-level-id")
    return f"{codec.name} {profile}" if profile else codec.name
