"""A secret that lies across the place where a quoted text is cut: what is left of it is taken out, wherever it then stands."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable

import pytest
from aiohttp import web

from probe.drivers.hls_ladder import describe
from probe.errors import Failure, Unsupported
from probe.export.spans import from_plain
from probe.model.text import CUT, beginning, quoted
from probe.net.edges import attribute
from probe.net.redact import Redactor
from probe.rtc.answer import read_answer
from probe.wire import mpd, playlist, playlist_values
from probe.wire.flv import FlvReader
from probe.wire.playlist_facts import Variant
from probe.wire.rtmp import Client, Target
from tests.net.servers import client, serving
from tests.net.test_client import failing as asked
from tests.tools import ROOT

SECRET = 'canary/x7Q9zW+Kp3v=äß"-tail-of-it'
LETTERS = "canary-x7Q9zW-Kp3v-tail-of-it"  # where a grammar takes nothing else
LEFT = 3  # characters nobody can know it by


def left(text: str, secret: str) -> str:
    """What of the secret's beginning is to be read in `text`, longest first."""
    return next((secret[:n] for n in range(len(secret), LEFT, -1) if secret[:n] in text), "")


FORMS: dict[str, Callable[[str], str]] = {
    "alone": lambda said: said,
    "within a sentence": lambda said: f"auth/refused: {said}, and 3 more; the last answer: http_403",
    "within JSON": lambda said: json.dumps({"message": f"a note: {said}", "run_id": "r", "region": "eu"}),
    "within a log line": lambda said: json.dumps({"message": f"a note: {said}", "region": "eu"}, ensure_ascii=False),
    "quoted": lambda said: f"its root is {said!r} and not MPD",
    "cut again": lambda said: quoted(f"no way: {said}", 40) + " at last",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", [SECRET, LETTERS, "https://cdn.example.com/live/key-of-mine"])
def test_wherever_a_text_was_cut_no_part_of_a_secret_stays(secret: str, form: str) -> None:
    redactor = Redactor(secret)
    for before in range(70):
        shown = redactor.redact(FORMS[form](quoted("x" * before + secret + "y" * 40, 60)))
        kept = left(shown, secret if "://" not in secret else secret[24:])
        assert not kept, (before, shown)


def test_what_begins_otherwise_is_left_as_it_is() -> None:
    redactor = Redactor(LETTERS, "https://cdn.example.com/live/key-of-mine")
    for text in ("can…", "canals are…", "the canary sings, and… stops", "https://cdn.example.com…", "…", "a … b"):
        assert redactor.redact(text) == text


def test_a_quoted_text_is_no_longer_than_it_may_be() -> None:
    assert quoted("abc", 3) == "abc" and quoted("abcd", 3) == "ab" + CUT


# --- whoever quotes a server


def failing(call: Callable[[], object]) -> str:
    with pytest.raises((Failure, Unsupported)) as info:
        call()
    return str(info.value)


def refused(text: str) -> str:
    rtmp = Client(Target.of("rtmp://h/live", "another-key"), publish=True, random=bytes(1536))
    return rtmp._said(text)


def sdp(setup: str) -> bytes:
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "a=rtpmap:96 H264/90000",
        f"a=setup:{setup}",
    ]
    return "\r\n".join([*lines, "a=recvonly", ""]).encode()


def list_of(tag: str) -> str:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n{tag}\n#EXTINF:2,\na.ts\n"


def manifest(inside: str) -> bytes:
    return f'<MPD type="dynamic" availabilityStartTime="2024-01-01T00:00:00Z"><Period>{inside}</Period></MPD>'.encode()


def span(text: str) -> str:
    plain = {
        "trace_id": "t",
        "span_id": "00000000000000aa",
        "start_unix_ns": 1,
        "end_unix_ns": 2,
        "name": text,
        "attributes": {text: text},
    }
    (made,) = from_plain([plain], "t")
    return f"{made.name} {made.attributes}"


QUOTING: dict[str, Callable[[str], str]] = {
    "a playlist's encryption": lambda x: failing(
        lambda: playlist.parse(list_of(f'#EXT-X-KEY:METHOD={x},URI="k"').encode(), "http://h/")
    ),
    "an address's scheme": lambda x: failing(lambda: playlist_values.absolute("http://h/", f"{x}:z")),
    "a manifest's root": lambda x: failing(lambda: mpd.parse(f"<{x}/>".encode(), "http://h/")),
    "a manifest's essential property": lambda x: failing(
        lambda: mpd.parse(
            manifest(f'<AdaptationSet mimeType="video/mp4"><EssentialProperty schemeIdUri="{x}"/></AdaptationSet>'), "http://h/"
        )
    ),
    "a variant's codecs": lambda x: describe(Variant(uri="u", bandwidth=1, codecs=(x,), resolution=None, frame_rate=None)),
    "an RTMP server's refusal": refused,
    "an answer's type": lambda x: failing(
        lambda: read_answer(b"\xff", "", sending=True, refusal=lambda ip: None, content_type=x)
    ),
    "an answer's role": lambda x: failing(
        lambda: read_answer(sdp(x), sdp("actpass").decode(), sending=True, refusal=lambda ip: None)
    ),
    "an edge's name": lambda x: attribute({"X-Amz-Cf-Pop": x, "Via": f"1.1 {x}"})[0],
    "a platform's span": span,
}


@pytest.mark.parametrize("who", QUOTING)
def test_what_is_quoted_of_a_server_keeps_no_part_of_a_secret(who: str) -> None:
    secret = "can" + LETTERS[3:].lower() if who == "an answer's type" else LETTERS
    if who == "an address's scheme":
        secret = secret.lower()
    redactor = Redactor(secret)
    for before in [*range(8, 108), *range(120, 170), *range(180, 210), *range(280, 310)]:
        shown = redactor.redact(f"playlist: {QUOTING[who]('x' * before + secret + 'z' * 600)} was said")
        assert not left(shown, secret), (before, shown)


def test_bytes_of_a_secret_are_not_told_in_digits() -> None:
    for before in range(8):
        data = b"x" * before + LETTERS.encode()
        with pytest.raises(Failure) as info:
            list(FlvReader().feed(data))
        for text in (beginning(data), str(info.value)):
            shown = Redactor(LETTERS).redact(f"{text} was there")
            assert LETTERS[:3].encode().hex() not in shown, shown


@pytest.mark.parametrize("limit", [160, 8192])
async def test_an_error_body_keeps_no_part_of_a_secret(limit: int) -> None:
    """Of the body 8 KiB are read, and 160 characters of it quoted; spaces in between count for one."""
    offsets = range(limit - len(SECRET.encode()) - 2, limit + 2)
    at = 0

    async def refuse(request: web.Request) -> web.Response:
        pad = "x" * at if limit == 160 else " " * at
        return web.Response(status=403, text=pad + SECRET + "y" * 9000)

    async with serving({"/": refuse}) as url, client() as me:
        for at in offsets:
            shown = Redactor(SECRET).redact(f"{await asked(me, url)} (viewer 3)")
            assert not left(shown, SECRET), (at, shown)


# --- and nobody cuts by himself


def called(call: ast.Call) -> str:
    return getattr(call.func, "attr", "") or getattr(call.func, "id", "")


def cuts(tree: ast.AST) -> list[int]:
    """Lines where text that is told (a Failure's, a note, a fact) is sliced: `"…"[:60]`; lists that are joined are none."""
    whole = {
        id(call.args[0])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and call.args and called(call) in ("join", "beginning")
    }
    whole |= {id(part.iter) for part in ast.walk(tree) if isinstance(part, ast.comprehension)}
    told: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else node.func.id
                if isinstance(node.func, ast.Name)
                else ""
            )
            if name in ("Failure", "Unsupported", "note", "_note", "malformed"):
                told += node.args
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            base = node.targets[0].value
            if isinstance(base, ast.Attribute) and base.attr == "facts":
                told.append(node.value)
    return sorted(
        {
            part.lineno
            for one in told
            for part in ast.walk(one)
            if isinstance(part, ast.Subscript)
            and isinstance(part.slice, ast.Slice)
            and part.slice.upper is not None
            and id(part) not in whole
        }
    )


def test_who_looks_for_cuts_finds_them() -> None:
    found = cuts(
        ast.parse("Failure(P, 'r', f'it said {x[:60]!r}')\nio.facts['server'] = y[:60]\nio.note('; '.join(z[:8]))\nw[:60]\n")
    )
    assert found == [1, 2]


def test_whatever_is_told_of_a_server_is_cut_in_one_place() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}": path.read_text().splitlines()[line - 1].strip()
        for path in sorted((ROOT / "probe").rglob("*.py"))
        for line in cuts(ast.parse(path.read_text()))
    }
    assert found == {}, "cut it with model/text.quoted"
