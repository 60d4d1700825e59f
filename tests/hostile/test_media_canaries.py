"""A canary for every secret that media needs, said back by servers wherever they can: over no protocol does one come out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from probe.drivers.base import Spec
from probe.drivers.srt_link import Target as SrtTarget
from probe.model.observation import Role
from probe.plan import IceServer
from probe.rtc.turn import TurnServer
from probe.wire.amf import Value
from probe.wire.rtmp import Target
from tests.drivers.rtmp_platform import Guest, guests
from tests.drivers.srt_platform import platform as srt_platform
from tests.e2e.support import containing, smoke
from tests.net.servers import Handler, serving

NAMES = ("key", "app", "play", "pass", "streamid", "query", "path", "sig", "turn")
CANARY = {name: f"canary-{name}-x7Q9zW-{name}-Kp3v" for name in NAMES}

JOURNEY = """
scenario: media-canaries
owner: tests
platform:
  url: "${{env.PLATFORM_URL}}"
  ice_servers: [{{url: "{turn}", username: me, credential: "${{secret.turn}}"}}]
  secrets:
    key: {{env: KEY, for: "{rtmp}"}}
    srt: {{env: PASS, for: "{srt}"}}
    streamid: {{env: STREAMID, for: "{srt}"}}
    whole: {{env: WHOLE, for: "${{platform.url}}"}}
    turn: {{env: TURN, for: "{turn_origin}"}}
deadlines: {{run: 30s, reconnect: 1s}}
journey:
  - login: {{http: POST /login, service: auth, keep: {{app_token: app, play_token: play, query_token: query}}}}
  - rtmp: {{publish: rtmp, url: "{rtmp}/live?token=${{app_token}}", key: "room?sign=${{secret.key}}", optional: true, within: 2s}}
  - srt:
      {{publish: srt, url: "{srt}", streamid: "publish:${{secret.streamid}}", passphrase: "${{secret.srt}}", optional: true,
      within: 2s}}
  - whip: {{publish: whip, url: "/deny?k=${{query_token}}", optional: true, within: 2s}}
  - view:
      - {{via: rtmp, url: "{rtmp}/live/${{play_token}}", start: 1s, optional: true, verify: moving}}
      - {{via: srt, url: "{srt}", streamid: "read:${{secret.streamid}}", passphrase: "${{secret.srt}}", start: 1s,
         optional: true, verify: moving}}
      - {{via: whep, url: "/deny?k=${{query_token}}", ice: relay, start: 1s, optional: true, verify: moving}}
      - {{via: http-flv, url: "/deny?k=${{query_token}}", start: 1s, optional: true, verify: moving}}
      - {{via: http-flv, url: "/flv?k=${{query_token}}", start: 1s, optional: true, verify: moving}}
      - {{via: ws-flv, url: "/deny?k=${{query_token}}", start: 1s, optional: true, verify: moving}}
      - {{via: http-ts, url: "/moved?k=${{query_token}}", start: 1s, optional: true, verify: moving}}
      - {{via: dash, url: "${{secret.whole}}", start: 1s, optional: true, verify: moving}}
      - {{via: dash, url: "/mpd?k=${{query_token}}", start: 1s, optional: true, verify: moving, edges: each}}
      - {{via: ll-hls, url: "/ll?k=${{query_token}}", start: 1s, optional: true, verify: moving}}
      - {{via: hls, url: "${{secret.whole}}", start: 1s, optional: true, verify: moving}}
"""


async def echoing(guest: Guest) -> None:
    """What it is asked for it names in its version, and in its refusal in every way of writing."""
    await guest.until("connect")
    secret = guest.session.app.partition("=")[2] or "none"
    info: dict[str, Value] = {"code": "NetConnection.Connect.Success", "level": "status", "description": secret}
    guest.session._command("_result", 1.0, {"fmsVer": "FMS/3 " + "x" * 30 + secret}, info)
    guest.flush()
    await guest.until("publish" if "token" in guest.session.app else "play")
    name = guest.session.name
    told = f"{name} {quote(name, safe='')} {name.upper()} {secret}"
    await guest.refuse(guest.asked[-1].what, f"NetStream.{name}.BadName", told)


async def login(_: web.Request) -> web.Response:
    return web.json_response(CANARY)


def said_back(request: web.Request) -> tuple[str, dict[str, str]]:
    secrets = [*request.query.values(), *request.path.split("/")[1:]]
    text = " ".join(secrets)
    return text, {"Server": "x" * 45 + text, "X-Cache": text, "Via": f"1.1 {text}", "CF-Ray": text, "X-Amz-Cf-Pop": text}


async def deny(request: web.Request) -> web.Response:
    text, headers = said_back(request)
    return web.Response(status=403 if "whep" in text else 404, text="y" * 100 + text, headers=headers, reason=text[:40])


async def moved(request: web.Request) -> web.Response:
    text, headers = said_back(request)
    return web.Response(status=302, headers={**headers, "Location": f"file:///{text}"})


async def flv(request: web.Request) -> web.Response:
    text, headers = said_back(request)
    return web.Response(text="FLV" + text, headers=headers)


async def mpd(request: web.Request) -> web.Response:
    text, headers = said_back(request)
    name = text.split()[-1]
    body = (
        f'<MPD type="dynamic" availabilityStartTime="2024-01-01T00:00:00Z"><UTCTiming schemeIdUri="{name}"/><Period>'
        f'<AdaptationSet mimeType="video/mp4"><EssentialProperty schemeIdUri="{"x" * 80}{name}"/></AdaptationSet></Period></MPD>'
    )
    return web.Response(text=body, headers=headers, content_type="application/dash+xml")


async def odd_root(request: web.Request) -> web.Response:
    text, headers = said_back(request)
    return web.Response(text=f"<MPD/><a>{text}</a>" if "mpd" in text else f"<{'z' * 25}{CANARY['sig']}/>", headers=headers)


async def low_latency(request: web.Request) -> web.Response:
    text, headers = said_back(request)
    method = text.split()[0]
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", f'#EXT-X-KEY:METHOD={method},URI="{text}"', "#EXTINF:2,", "a"]
    return web.Response(text="\n".join(lines), headers=headers, content_type="application/vnd.apple.mpegurl")


@asynccontextmanager
async def everything() -> AsyncIterator[tuple[str, str, str]]:
    """(http, rtmp, srt) origins."""
    routes: dict[str, Handler] = {
        "/login": login,
        "/deny": deny,
        "/moved": moved,
        "/flv": flv,
        "/mpd": mpd,
        "/ll": low_latency,
        "/{path:.*}": odd_root,
    }
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(routes))
        rtmp = await stack.enter_async_context(guests(echoing))
        srt = await stack.enter_async_context(srt_platform())
        yield url, f"rtmp://127.0.0.1:{rtmp.port}", srt.url().partition("?")[0]


async def test_no_secret_of_media_comes_out_anywhere(tmp_path: Path) -> None:
    out, scenario = tmp_path / "out", tmp_path / "canaries.yaml"
    async with everything() as (url, rtmp, srt):
        turn = "turn:127.0.0.1:9?transport=tcp"
        text = JOURNEY.format(turn=turn, turn_origin="turn://127.0.0.1:9", rtmp=rtmp, srt=srt)
        scenario.write_text(text)
        env = {name.upper(): value for name, value in CANARY.items()}
        env |= {"PLATFORM_URL": url, "WHOLE": f"{url}/{CANARY['path']}/x.mpd?sig={CANARY['sig']}"}
        ran = await smoke(out, scenario, "-v", env=env)
    assert out.exists(), ran.stderr[-3000:]
    for name, said in (("stdout", ran.stdout), ("stderr", ran.stderr)):
        (out / name).write_text(said)
    (run,) = ran.verdict["runs"]
    assert len(run["sessions"]) == 14 and "not for" not in ran.stderr + ran.stdout, ran.stderr[-3000:]
    assert {name: containing(out, value) for name, value in CANARY.items() if containing(out, value)} == {}
    parts = {name: value[: len(value) // 2 + 3] for name, value in CANARY.items()}  # what was cut off is no less a secret
    assert {name: containing(out, part) for name, part in parts.items() if containing(out, part)} == {}


def test_what_holds_a_secret_does_not_show_it() -> None:
    spec = Spec(
        role=Role.VIEWER, protocol="srt", url=f"srt://h:9?passphrase={CANARY['query']}", key=CANARY["key"],
        streamid=CANARY["streamid"], passphrase=CANARY["pass"], ice_servers=(IceServer(url="turn:h", credential=CANARY["turn"]),),
    )  # fmt: skip
    shown = repr(spec) + repr(SrtTarget.of(spec)) + repr(Target.of(f"rtmp://h/live?token={CANARY['app']}", CANARY["key"]))
    shown += repr(TurnServer("h", "1.2.3.4", 9, "udp", "me", CANARY["turn"]))
    assert "canary" not in shown and "srt" in shown
