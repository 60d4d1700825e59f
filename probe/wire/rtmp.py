"""An RTMP client, without IO: a publisher as OBS is one, or a player as FFmpeg is one (Adobe RTMP specification 1.0,
section 7.2; enough of FMLE's releaseStream, FCPublish and FCUnpublish that servers which wait for them go on).

    client = Client(target, publish=True, random=os.urandom(1528))
    write(client.take())                                   # C0, C1
    for event in client.feed(data): …; write(client.take())

Handshake, connect, createStream and publish or play follow each other by themselves; events tell how far it got. Every
refusal is a Failure with its reason. What a server says in its own words is quoted only without the stream's name, key and
query, for they are secrets. Its redirects (ex.redirect) and challenges (authmod) are told, not followed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from probe.errors import Failure, Unsupported
from probe.model.stage import Phase
from probe.model.text import quoted
from probe.wire.amf import Value
from probe.wire.flv_tags import Tag
from probe.wire.rtmp_peer import (
    BUFFER_LENGTH,
    STREAM_EOF,
    USER_CONTROL,
    Acknowledged,
    Command,
    Media,
    Peer,
    Shaken,
    UserControl,
)

PORTS = {"rtmp": 1935, "rtmps": 443}
_WINDOW = 2500  # bytes between acknowledgements of what a publisher sends: soon at first,
_STEADY_WINDOW = 32 << 10  # and later often enough to see that it goes on
_PLAYER_BUFFER_MS = 500
_SHORTEST_SECRET = 4
_QUOTED = 160
_CONNECT, _RELEASE, _FCPUBLISH, _CREATE, _JOIN = 1, 2, 3, 4, 5
_PLACE = re.compile(r"(?:\[([0-9a-fA-F:.%]+)\]|([^\s:/\[\]]+))(?::([0-9]{1,5}))?")
_DENIED = ("authmod", "unauthor", "not authorized", "authentication", "denied", "forbidden", "code=403")
_OVER = frozenset(
    {
        "NetStream.Play.UnpublishNotify",
        "NetStream.Play.Complete",
        "NetStream.Play.Stop",
        "NetStream.Unpublish.Success",
        "NetConnection.Connect.Closed",
    }
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a stream is. `app` and `name` may carry a query and are secrets; so is `tc_url`."""

    host: str
    port: int
    secure: bool
    app: str = field(repr=False)
    name: str = field(repr=False)
    tc_url: str = field(repr=False)

    @classmethod
    def of(cls, url: str, key: str = "") -> Target:
        """From `rtmp[s]://host[:port]/app[/…][?query]` and a stream key, as OBS takes them: with a key the whole path is the
        app; without one its last segment is the stream's name, and a query belongs to it. Raises Failure(resolve, failed)."""
        scheme, _, rest = url.partition("://")
        scheme = scheme.lower()
        if scheme not in PORTS:
            raise Failure(Phase.RESOLVE, "failed", "the address is none of rtmp:// or rtmps://")
        place, _, path = rest.partition("/")
        host, port = _host(place.rpartition("@")[2], PORTS[scheme])
        path, mark, query = path.partition("?")
        path = path.strip("/")
        app, _, name = (path, "", key) if key or "/" not in path else path.rpartition("/")
        if mark and key:
            app += mark + query
        elif mark:
            name += mark + query
        shown = f"[{host}]" if ":" in host else host
        authority = shown if port == PORTS[scheme] else f"{shown}:{port}"
        return cls(host, port, scheme == "rtmps", app, name, f"{scheme}://{authority}/{app}")


def _host(place: str, default: int) -> tuple[str, int]:
    found = _PLACE.fullmatch(place)
    port = int(found[3]) if found and found[3] else default
    if not found or not 0 < port < 65536:
        raise Failure(Phase.RESOLVE, "failed", "what should be an rtmp URL is none")
    return found[1] or found[2], port


@dataclass(frozen=True, slots=True)
class Connected:
    """The connect command was accepted; `server` is what it calls itself."""

    server: str


@dataclass(frozen=True, slots=True)
class Joined:
    """Publishing, or playing, was accepted."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The server says that the stream is over, by this status code."""

    code: str


Event = Shaken | Connected | Joined | Media | Acknowledged | Ended


class Client(Peer):
    """One connection for one stream."""

    def __init__(self, target: Target, *, publish: bool, random: bytes) -> None:
        super().__init__(random, Phase.HANDSHAKE)
        self._target = target
        self._publish = publish
        self._stream = 0
        self._joined = False
        self._hello()

    def feed(self, data: bytes) -> Iterator[Event]:
        """What `data` came to; go through it to the end before the next call. Raises Failure, Unsupported."""
        for heard in self._hear(data):
            match heard:
                case Shaken():
                    yield heard
                    self.phase = Phase.SIGNAL
                    self._connect()
                case Media():
                    if not self._publish:
                        if not self._joined:  # some servers send media and no word before it
                            yield self._join()
                        yield heard
                case Acknowledged():
                    yield heard
                case Command():
                    yield from self._answer(heard)
                case UserControl(kind=kind) if kind == STREAM_EOF and self._joined and not self._publish:
                    yield Ended("StreamEOF")
                case _:
                    pass

    def put(self, tag: Tag) -> None:
        """Media to publish, once joined."""
        self.send(tag, self._stream)

    def steady(self) -> None:
        """The first picture is acknowledged: from now on fewer acknowledgements will do."""
        self.set_window(_STEADY_WINDOW)

    def leave(self) -> None:
        """The goodbye, as far as there is something to leave."""
        if not self._stream:
            return
        if self._publish:
            self._command("FCUnpublish", 6, None, self._target.name)
        self._command("deleteStream", 7, None, float(self._stream))

    # -- commands

    def _connect(self) -> None:
        about: dict[str, Value] = {"app": self._target.app}
        if self._publish:
            about |= {"type": "nonprivate", "flashVer": "FMLE/3.0 (compatible; stream-probe)"}
        else:
            about |= {"flashVer": "LNX 9,0,124,2", "fpad": False, "capabilities": 15.0, "audioCodecs": 4071.0}
            # Enhanced RTMP: without Opus in this list servers leave the sound of a WHIP broadcast out.
            about |= {"videoCodecs": 252.0, "videoFunction": 1.0, "fourCcList": ["avc1", "vp08", "mp4a", "Opus"]}
        about |= {"tcUrl": self._target.tc_url, "objectEncoding": 0.0}
        self._command("connect", _CONNECT, about)

    def _answer(self, command: Command) -> Iterator[Event]:
        match command.name:
            case "_result":
                yield from self._accepted(command)
            case "_error":
                if command.transaction == _CONNECT or self.phase is Phase.SIGNAL:
                    self._refuse(command.info(), Phase.SIGNAL)
                if command.transaction in (_CREATE, _JOIN):
                    self._refuse(command.info(), Phase.JOIN)
            case "onStatus":
                yield from self._status(command.info())
            case "close":
                yield Ended("close")
            case _:
                pass  # onBWDone, onFCPublish and the like ask for nothing

    def _accepted(self, command: Command) -> Iterator[Event]:
        if command.transaction == _CONNECT and self.phase is Phase.SIGNAL:
            first = command.arguments[0] if command.arguments else None
            server = first.get("fmsVer") if isinstance(first, dict) else None
            self.phase = Phase.JOIN
            yield Connected(quoted(server, 60) if isinstance(server, str) and server.isprintable() else "")
            if self._publish:
                self._set_chunk_size()
                self.set_window(_WINDOW)
                self._command("releaseStream", _RELEASE, None, self._target.name)
                self._command("FCPublish", _FCPUBLISH, None, self._target.name)
            self._command("createStream", _CREATE, None)
        elif command.transaction == _CREATE and not self._stream:
            number = command.arguments[1] if len(command.arguments) > 1 else None
            if not isinstance(number, float) or not 0 < number < 1 << 31:
                raise Failure(Phase.JOIN, "malformed", "createStream was answered without a stream")
            self._stream = int(number)
            if self._publish:
                self._command("publish", _JOIN, None, self._target.name, "live", stream=self._stream)
            else:
                self._control(USER_CONTROL, struct.pack(">HII", BUFFER_LENGTH, self._stream, _PLAYER_BUFFER_MS))
                self._command("play", _JOIN, None, self._target.name, -2000.0, stream=self._stream)

    def _status(self, info: dict[str, Value]) -> Iterator[Event]:
        code = info.get("code")
        code = code if isinstance(code, str) else ""
        bad = info.get("level") == "error"
        if self.phase is Phase.SIGNAL and (bad or code.endswith((".Rejected", ".Failed", ".InvalidApp"))):
            self._refuse(info, Phase.SIGNAL)
        if not self._joined and code == ("NetStream.Publish.Start" if self._publish else "NetStream.Play.Start"):
            yield self._join()
        elif self._joined and (code in _OVER or bad):
            yield Ended(self._said(code))
        elif self.phase is Phase.JOIN and not self._joined and (code in _OVER or bad):
            self._refuse(info, Phase.JOIN)

    def _join(self) -> Joined:
        self._joined = True
        self.phase = Phase.ACK if self._publish else Phase.FIRST_PACKET
        return Joined()

    def _refuse(self, info: dict[str, Value], phase: Phase) -> NoReturn:
        """The reason of a refusal, from its code and its words (there is no list of codes that servers keep to)."""
        code, description = (v if isinstance(v := info.get(k), str) else "" for k in ("code", "description"))
        said = self._said(f"{code}: {description}" if description else code)
        words = f"{code} {description}".lower()
        more = info.get("ex")
        if isinstance(more, dict) and more.get("redirect"):
            raise Failure(Phase.SIGNAL, "redirect_refused", f"{said}; redirects are not followed")
        if any(word in words for word in _DENIED):
            raise Failure(Phase.AUTH, "refused", said)
        if phase is Phase.JOIN and ("notfound" in words or "not found" in words):
            raise Failure(phase, "not_found", said)
        if "unsupported" in words and "codec" in words:
            raise Unsupported(said)
        raise Failure(phase, "refused", said)

    def _said(self, text: str) -> str:
        """One line of a server's words, without our secrets."""
        secrets = [self._target.name]
        for part in (self._target.app.partition("?")[2], *self._target.name.partition("?")[::2]):
            secrets += [part, *re.split("[&=]", part)[1:]]
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "…")
        return quoted("".join(c if c.isprintable() else " " for c in text), _QUOTED).strip()
