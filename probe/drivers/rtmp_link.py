"""An RTMP session on a socket: the sans-IO client of wire/ between a connection and its stages.

Stages: resolve, connect, tls (net/dial), handshake until S2 is whole, signal until the connect command is answered, join until
publish or play is. Some servers answer connect in several small writes and leave Nagle's algorithm on: then signal and join
hold the 40 ms and more for which every player's system delays its TCP acknowledgements. That is what their users get, so it is
not optimised away here. A spec's credential is not used: RTMP has no place for a bearer token, secrets stand in the key or a
query.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from probe.drivers.base import SessionIO, Spec
from probe.drivers.streamed import fitted
from probe.errors import Failure
from probe.model.stage import Phase, Stage
from probe.net import errors
from probe.net.dial import close_stream, open_stream
from probe.wire.rtmp import Client, Connected, Ended, Event, Joined, Target
from probe.wire.rtmp_peer import SIGNATURE, Shaken

_CHUNK = 64 << 10
_OWED = 1 << 20  # bytes of answers to a server that asks and does not read


class Link:
    """A joined session. `events` go on after the join; `flush` sends what the session has to say."""

    def __init__(self, session: Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, io: SessionIO) -> None:
        self.session = session
        self.writer = writer
        self._reader = reader
        self._io = io
        self.events = self._events()

    def flush(self) -> None:
        data = self.session.take()
        if data and not self.writer.is_closing():
            self.writer.write(data)

    @property
    def unsent(self) -> int:
        """Bytes that wait in this process for the socket to take them."""
        return self.writer.transport.get_write_buffer_size()

    async def _events(self) -> AsyncGenerator[tuple[Event, int], None]:
        """(event, when its bytes came). Never ends but by raising Failure or Unsupported."""
        session = self.session
        while True:
            data = await self._read()
            arrived = self._io.clock.now()
            for event in session.feed(data):
                if isinstance(event, Ended):
                    raise fitted(Failure(Phase.PLAYING, "ended", event.code), session.phase)
                yield event, arrived
            self.flush()
            if self.unsent > _OWED:
                await self._drained()

    async def _read(self) -> bytes:
        try:
            data = await self._reader.read(_CHUNK)
        except (OSError, RuntimeError) as error:  # uvloop raises RuntimeError on a transport that is closing
            raise self._broken(error) from error
        if not data:
            raise fitted(Failure(Phase.JOIN, "closed", "the server closed the connection"), self.session.phase)
        return data

    async def _drained(self) -> None:
        try:
            await self.writer.drain()
        except (OSError, RuntimeError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> Exception:
        failure = errors.of_exchange(error, Phase.JOIN)
        return error if failure is None else fitted(failure, self.session.phase)


@asynccontextmanager
async def joined(spec: Spec, io: SessionIO, *, publish: bool) -> AsyncIterator[Link]:
    """Publishing or playing was accepted. Says goodbye at the end, within a second. Raises Failure, Unsupported."""
    target = Target.of(spec.url, spec.key)
    dial = io.path.dial if io.path else None
    reader, writer = await open_stream(io.http, target.host, target.port, tls=target.secure, stages=io.stages, dial=dial)
    try:
        link = Link(Client(target, publish=publish, random=os.urandom(SIGNATURE - 8)), reader, writer, io)
        async with aclosing(link.events):
            io.stages.enter(Stage.HANDSHAKE, io.clock.now())
            link.flush()
            await _join(link, io, Stage.PROBE if publish else Stage.FIRST_PACKET)
            try:
                yield link
            finally:
                link.session.leave()
                link.flush()
    finally:
        await close_stream(writer)


async def _join(link: Link, io: SessionIO, then: Stage) -> None:
    async for event, arrived in link.events:
        match event:
            case Shaken():
                io.stages.enter(Stage.SIGNAL, arrived)
            case Connected():
                io.stages.enter(Stage.JOIN, arrived)
                if event.server:
                    io.facts["server"] = event.server
            case Joined():
                io.stages.enter(then, arrived)
                return
            case _:
                pass
