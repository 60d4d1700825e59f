"""A secret beside a media address goes to its own origin or nowhere, and the message says what to do, whoever looks first."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from probe.cli.files import vocabulary
from probe.errors import ConfigError
from probe.model.outcome import Aborted
from probe.scenario.load import loads
from tests.hostile.engine import Run, run
from tests.net.servers import serving

PASSPHRASE = "canary-passphrase-1"


async def srt(url: str, tmp_path: Path) -> Run:
    async def room(_: web.Request) -> web.Response:
        return web.json_response({"at": url})

    async with serving({"/room": room}) as server:
        return await run(
            "  - room: {http: GET /room, service: room, keep: {at: at}}\n"
            "  - view: {view: {via: srt, url: '${at}', passphrase: '${secret.srt}', start: 1s, verify: moving}}\n",
            server,
            tmp_path,
            platform=f"  secrets: {{srt: {{env: SRT, for: '{server}'}}}}",
        )


@pytest.mark.parametrize("url", ["srt://127.0.0.1:9", "gopher://a/b", "srt://h:99999", "http://[::1", "x"])
async def test_a_passphrase_is_not_sent_where_a_server_says(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRT", PASSPHRASE)
    outcome = (await srt(url, tmp_path)).outcome("view")
    said = repr(outcome)
    assert isinstance(outcome, Aborted) or url == "x", said
    assert "secret srt" in said or url == "x"
    assert "Error" not in said and PASSPHRASE not in said


@pytest.mark.parametrize(
    ("step", "remedy"),
    [
        ("publish: rtmp, url: /live", "6:29 p.url: rtmp has addresses of its own; write rtmp://host/app"),
        ("publish: srt, url: 'https://h/a'", "6:28 p.url: srt has addresses of its own; write srt://host:port"),
        ("publish: whip, url: 'rtmps://h/a'", "6:29 p.url: whip is spoken over http; write a path"),
        ("view: {via: dash, url: 'srt://h:1'}", "6:32 p.view.url: dash is spoken over http"),
        ("view: [{via: hls, url: /a}, {via: rtmp, url: '//h/a'}]", "6:54 p.view[1].url: rtmp has addresses"),
    ],
)
def test_an_address_of_another_protocol_is_told_with_place_and_remedy(step: str, remedy: str) -> None:
    text = "scenario: x\nowner: t\nplatform:\n  url: http://127.0.0.1:1\njourney:\n  - p: {%s}\n"
    with pytest.raises(ConfigError) as caught:
        loads(text % step, env={}, words=vocabulary())
    assert remedy in str(caught.value)
    loads(text % "publish: rtmp, url: '${env.X:-rtmp://h/a}'", env={}, words=vocabulary())
