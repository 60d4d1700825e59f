"""One kind of media of a DASH viewer as it is fetched: a segment at a time, whole or chunk by chunk, each handed on as it comes.

A chunk may be of no use alone (sound before the first picture of a shared file, pictures before the first keyframe): it is
held and handed on together with what follows. A segment cut off in the middle is asked for again, and what was handed on
already is passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

from probe.drivers.dash_source import Source
from probe.drivers.hls_source import Piece
from probe.errors import Failure
from probe.wire.mpd_follow import Due, Follower

Sink = Callable[[Piece, Due, bool], Awaitable[None]]
_MOST_HELD = 200  # pieces; each that comes has all of them looked at again
_ALONE = frozenset({"none", "empty"})  # what a chunk is of no use for without others


class Track:
    """`sink(piece, due, anew)` takes what was fetched. `due`: the segment under way, of which `shown` chunks were handed on;
    `last`: the monotonic instant the last piece arrived. `news` is set where the manifest may have changed what is next."""

    def __init__(self, kind: str, source: Source, sink: Sink, buffered: Callable[[], float | None]) -> None:
        self.kind = kind
        self.follower = Follower(lambda period: source.choose(period, kind))
        self.news = asyncio.Event()
        self.due: Due | None = None
        self.shown = 0
        self.last: int | None = None
        self._source, self._sink, self._buffered = source, sink, buffered
        self._under_way: AsyncGenerator[tuple[Piece, int], None] | None = None
        self._held: tuple[Piece, int, Failure] | None = None
        self._useless = 0  # pieces in a row that were of no use yet

    def begin(self, due: Due) -> None:
        """`due` is fetched next."""
        self.due, self.shown = due, 0

    async def go_on(self) -> bool:
        """Fetch one more piece of `due` and hand it on; False once it is whole, and `due` is None. After a Failure it begins
        with what was not handed on yet."""
        if self._under_way is None:
            assert self.due is not None
            self._held, self._useless = None, 0
            self._under_way = self._pieces(self.due)
        try:
            piece, count = await anext(self._under_way)
        except StopAsyncIteration:
            self._under_way = None
            if self._held is not None and not self.shown:  # else the sound that trails a shared file's last picture
                raise self._held[2] from None
            self.due = None
            return False
        except BaseException:
            await self.leave()
            raise
        await self._hand_on(piece, count)
        return True

    async def leave(self) -> None:
        """Let go of what is under way."""
        if self._under_way is not None:
            await self._under_way.aclose()
            self._under_way = None

    async def _pieces(self, due: Due) -> AsyncGenerator[tuple[Piece, int], None]:
        """(piece, how many chunks)."""
        if not due.representation.template.chunked:
            yield await self._source.fetch(due, buffered=self._buffered()), 1
            return
        async with aclosing(self._source.chunks(due, self.shown, buffered=self._buffered())) as pieces:
            async for piece in pieces:
                yield piece

    async def _hand_on(self, piece: Piece, count: int) -> None:
        assert self.due is not None
        if self._held is not None:
            held, before, _ = self._held
            piece = replace(piece, data=held.data + piece.data, init=held.init or piece.init, wall=held.wall)
            count += before
        try:
            await self._sink(piece, self.due, self.due.anew and not self.shown)
        except Failure as failure:
            self._useless += 1
            if self.due.representation.template.chunked and failure.reason in _ALONE and self._useless <= _MOST_HELD:
                self._held = piece, count, failure
                return
            await self.leave()
            raise
        except BaseException:
            await self.leave()
            raise
        self._held, self._useless = None, 0
        self.shown += count
        self.last = piece.arrived
