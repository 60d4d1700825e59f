"""The guard on aiortc and aioice: silent on what we were written against, clear about what has moved."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import aioice.ice
import aiortc.rtcrtpreceiver
import pytest

from probe.rtc import upstream
from probe.rtc.peer import new_peer


@pytest.fixture(autouse=True)
def _forget() -> None:
    upstream.check.cache_clear()


def test_what_is_installed_is_what_rtc_was_written_against() -> None:
    assert upstream.moved() == [], "read upstream.py: how to move to a new version"


def test_a_file_that_changed_elsewhere_has_moved_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert upstream.digests() == (upstream.RELIED, upstream.FILES)
    monkeypatch.setattr(upstream, "FILES", dict.fromkeys(upstream.FILES, "another"))
    assert upstream.moved() == []


def test_one_of_its_own_names_in_anothers_place_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice.Connection, "connect", aioice.ice.Connection.close)
    assert upstream.moved() == ["aioice.ice.Connection.connect has changed (relied on by ice.py)"]


def test_every_file_it_names_is_there() -> None:
    folder = Path(upstream.__file__).parent
    assert all((folder / name).is_file() for name in upstream.RELIED)


def test_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.17.0" if name == "aiortc" else real(name))
    with pytest.raises(upstream.Moved, match="aiortc is 1.17.0, not 1.16.0"):
        upstream.check()


def test_a_changed_method_is_named_with_the_file_that_relies_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(self: object) -> None:
        """Another way to connect."""

    monkeypatch.setattr(aioice.ice.Connection, "connect", connect)
    with pytest.raises(upstream.Moved) as caught:
        upstream.check()
    assert caught.value.moved == ["aioice.ice.Connection.connect has changed (relied on by ice.py)"]


def test_a_private_method_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("aiortc.rtcpeerconnection.RTCPeerConnection._RTCPeerConnection__connect")
    assert upstream.moved() == ["aiortc.rtcpeerconnection.RTCPeerConnection.__connect is gone (relied on by peer.py)"]


async def test_no_peer_is_made_on_an_upstream_that_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiortc.rtcrtpreceiver, "RTCRtpReceiver", type("RTCRtpReceiver", (), {}))
    with pytest.raises(upstream.Moved):
        new_peer(loopback=True)
