"""The serving end of one RTMP connection, without IO: what the embedded platform's ingest and our tests' servers stand on.

    server = Server(random=os.urandom(1528))
    for event in server.feed(data):
        match event:
            case Asked(what="connect" | "publish" | "play"): server.accept()     # or server.reject(code, text)
            case Media(tag): …                                                   # of a publisher
            case Left(): …
    sock.write(server.take())

One stream a connection, as every encoder and player of today has it. `app` and `name` come as they were sent, queries
included: they are the client's secrets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from probe.model.stage import Phase
from probe.wire.amf import Value
from probe.wire.flv_tags import Tag
from probe.wire.rtmp_peer import (
    PEER_BANDWIDTH,
    STREAM_BEGIN,
    STREAM_EOF,
    USER_CONTROL,
    Acknowledged,
    Command,
    Media,
    Peer,
    Shaken,
)

_WINDOW = 2_500_000
_STREAM = 1
_DYNAMIC = 2  # of Set Peer Bandwidth


@dataclass(frozen=True, slots=True)
class Asked:
    """The client asks to connect, publish or play; it waits for `accept` or `reject`."""

    what: str
    app: str = field(repr=False)
    name: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Left:
    """The client says goodbye to its stream."""


Event = Shaken | Asked | Media | Acknowledged | Left


class Server(Peer):
    """One connection. `app` and `name` are known once they were asked for."""

    def __init__(self, random: bytes) -> None:
        super().__init__(random, Phase.HANDSHAKE)
        self.app = self.name = ""
        self._asked = ""
        self._transaction = 0.0
        self._accepted = ""

    def feed(self, data: bytes) -> Iterator[Event]:
        """What `data` came to; go through it to the end before the next call. Raises Failure."""
        for heard in self._hear(data):
            match heard:
                case Shaken():
                    self.phase = Phase.SIGNAL
                    yield heard
                case Media():
                    if self._accepted == "publish":
                        yield heard
                case Acknowledged():
                    yield heard
                case Command():
                    yield from self._asks(heard)
                case _:
                    pass

    def accept(self) -> None:
        """Grant what was asked last."""
        what, self._asked = self._asked, ""
        if what == "connect":
            self.set_window(_WINDOW)
            self._control(PEER_BANDWIDTH, struct.pack(">IB", _WINDOW, _DYNAMIC))
            self._set_chunk_size()
            said = {**_status("NetConnection.Connect.Success", "Connection succeeded."), "objectEncoding": 0.0}
            self._command("_result", self._transaction, {"fmsVer": "FMS/3,0,1,123", "capabilities": 31.0}, said)
            return
        self._accepted = what
        self.phase = Phase.PLAYING
        self._control(USER_CONTROL, struct.pack(">HI", STREAM_BEGIN, _STREAM))
        if what == "publish":
            self._on_status("NetStream.Publish.Start", "Publishing.")
        elif what == "play":
            self._on_status("NetStream.Play.Reset", "Playing and resetting.")
            self._on_status("NetStream.Play.Start", "Started playing.")

    def reject(self, code: str, description: str) -> None:
        """Refuse what was asked last, for example with NetConnection.Connect.Rejected, NetStream.Publish.BadName or
        NetStream.Play.StreamNotFound; then close the connection."""
        what, self._asked = self._asked, ""
        if what == "connect":
            self._command("_error", self._transaction, None, _status(code, description, "error"))
        else:
            self._on_status(code, description, "error")

    def put(self, tag: Tag) -> None:
        """Media to a player."""
        self.send(tag, _STREAM)

    def end(self) -> None:
        """Tell a player that the stream is over."""
        self._on_status("NetStream.Play.UnpublishNotify", "The publisher left.")
        self._control(USER_CONTROL, struct.pack(">HI", STREAM_EOF, _STREAM))

    def _greet(self, theirs: bytes) -> None:
        self._hello()
        super()._greet(theirs)

    def _asks(self, command: Command) -> Iterator[Event]:
        self._transaction = command.transaction
        match command.name:
            case "connect":
                first = command.arguments[0] if command.arguments else None
                app = first.get("app") if isinstance(first, dict) else None
                self.app = app if isinstance(app, str) else ""
                yield self._ask("connect")
            case "createStream":
                self._command("_result", command.transaction, None, float(_STREAM))
            case "releaseStream" | "FCPublish" | "getStreamLength" | "_checkbw":
                self._command("_result", command.transaction, None, None)
            case "publish" | "play":
                self.name = command.text(1)
                yield self._ask(command.name)
            case "FCUnpublish" | "deleteStream" | "closeStream":
                if self._accepted:
                    self._accepted = ""
                    yield Left()
            case _:
                pass

    def _ask(self, what: str) -> Asked:
        self._asked = what
        return Asked(what, self.app, self.name)

    def _on_status(self, code: str, description: str, level: str = "status") -> None:
        self._command("onStatus", 0.0, None, _status(code, description, level), stream=_STREAM)


def _status(code: str, description: str, level: str = "status") -> dict[str, Value]:
    return {"level": level, "code": code, "description": description}
