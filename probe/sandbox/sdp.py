"""Answers as text (SDP, RFC 8866): trimmed to the platform's own address, and spoiled the way broken servers spoil them."""

from __future__ import annotations

import re

LINE = "\r\n"


def spoil(answer: str, fault: str, black_hole: tuple[str, int] = ("", 0)) -> str:
    """The answer as `fault` (a row of faults.TABLE) would have it; unknown faults change nothing."""
    match fault:
        case "sdp_garbage":
            return "v=0" + LINE + "\x00\xff not SDP at all " * 20
        case "sdp_no_video":
            return _without_video(answer)
        case "sdp_high_only":
            return re.sub(r"profile-level-id=[0-9A-Fa-f]{6}", "profile-level-id=640c1f", answer)
        case "no_candidates":
            return _without(answer, "a=candidate:")
        case "black_hole":
            host, port = black_hole
            return re.sub(r"(a=candidate:\S+ \d+ \S+ \d+) \S+ \d+", rf"\1 {host} {port}", answer)
        case "wrong_fingerprint":
            return re.sub(r"(?<=a=fingerprint:)(\S+ )([0-9A-F:]+)", lambda m: m[1] + m[2][3:] + m[2][2:3] + m[2][:2], answer)
        case _:
            return answer


def only_from(answer: str, host: str) -> str:
    """The answer with candidates of `host` alone, where it has any: a platform names the address it is known by."""
    candidates = [line for line in answer.split(LINE) if line.startswith("a=candidate:")]
    others = {line for line in candidates if line.split()[4] != host}
    if len(others) == len(candidates):
        return answer
    return LINE.join(line for line in answer.split(LINE) if line not in others)


def _without(sdp: str, prefix: str) -> str:
    return LINE.join(line for line in sdp.split(LINE) if not line.startswith(prefix))


def _without_video(sdp: str) -> str:
    session, *sections = re.split(r"(?=^m=)", sdp, flags=re.MULTILINE)
    video = [s for s in sections if s.startswith("m=video")]
    for section in video:
        if mid := re.search(r"^a=mid:(\S+)", section, re.MULTILINE):
            session = re.sub(rf"(a=group:BUNDLE.*?) {re.escape(mid[1])}\b", r"\1", session)
    return session + "".join(s for s in sections if s not in video)
