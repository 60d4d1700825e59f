"""A secret beside a media address goes to its own origin or nowhere, and the message says what to do, whoever looks first."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from probe.model.outcome import Aborted
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
