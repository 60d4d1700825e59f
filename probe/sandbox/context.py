"""What the services share: the configuration, the state, and the rooms that are open now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from probe.model.clock import Clock
from probe.sandbox.faults import Faults
from probe.sandbox.live import Live
from probe.sandbox.store import Store
from probe.sandbox.telemetry import Telemetry, log_exception
from probe.sandbox.tokens import Tokens

MAX_ROOMS = 200
MAX_SOCKETS = 1000
MAX_SESSIONS = 200
MAX_BODY = 64 * 1024


@dataclass(frozen=True, slots=True)
class Config:
    """What the supervisor hands over; `ports` of main, admin and each edge. Never logged: it holds passwords."""

    host: str
    ports: Mapping[str, int]
    state: str
    ephemeral: bool  # remove `state` when the supervisor is gone
    admin_token: str = field(repr=False)
    passwords: Mapping[str, str] = field(repr=False)
    token_seconds: int = 300

    def url(self, port: str) -> str:
        return f"http://{self.host}:{self.ports[port]}"


class Socket(Protocol):
    """A room's listener: `put` never waits, and drops the socket when it is too far behind."""

    user: str

    def put(self, message: Mapping[str, Any]) -> None: ...
    def drop(self) -> None: ...


@dataclass(slots=True)
class Room:
    """An open room. `live` is what is on air in it."""

    id: str
    owner: str
    tag: str
    unlisted: bool
    synthetic: bool
    live: Live
    sockets: set[Socket] = field(default_factory=set)

    def broadcast(self, message: Mapping[str, Any]) -> None:
        for socket in list(self.sockets):
            socket.put(message)

    def plain(self) -> dict[str, Any]:
        return {"id": self.id, "tag": self.tag, "unlisted": self.unlisted, "synthetic": self.synthetic, "live": self.live.on_air}


class Platform:
    """One per server process."""

    def __init__(
        self, config: Config, clock: Clock, store: Store, tasks: asyncio.TaskGroup, restart: Callable[[float], None]
    ) -> None:
        self.config = config
        self.clock = clock
        self.store = store
        self.tokens = Tokens(store, clock, config.token_seconds)
        self.faults = Faults(store, clock)
        self.telemetry = Telemetry(clock)
        self.restart = restart
        self.stopping = asyncio.Event()
        self.began = clock.wall().unix_ns
        self.fallen: dict[str, int] = {}  # edge → when it was down last, Unix ns
        self._tasks = tasks
        # Which edge the next viewer of each way gets. The ways begin at different edges: of two rooms, each watched once by
        # each way, no edge has just one room or just one way.
        self.next_viewer = {"hls": 0, "ll-hls": 1}
        self.rooms: dict[str, Room] = {}
        for row in store.rows("select * from rooms"):
            self.open_room(row).live.put_out = True

    def user_of(self, token: str) -> str:
        """Whose token this is. Raises BadToken."""
        revoked = self.faults.acting("tokens_revoked")
        return self.tokens.user(token, since=0 if revoked is None else revoked.starts)

    def open_room(self, row: Mapping[str, Any]) -> Room:
        """Bring a stored room to life."""
        room = Room(row["id"], row["owner"], row["tag"], bool(row["unlisted"]), bool(row["synthetic"]), Live(row["id"], self))
        self.rooms[room.id] = room
        return room

    def spawn(self, work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        """Run beside the requests; a mistake in it is logged and ends it alone."""

        async def guarded() -> None:
            try:
                await work
            except Exception:
                log_exception(f"{what} broke", service="sandbox")

        return self._tasks.create_task(guarded(), name=what)

    async def end_sessions(self) -> None:
        """End everybody's media sessions and sockets; rooms stay."""
        async with asyncio.TaskGroup() as endings:
            for room in list(self.rooms.values()):
                for socket in list(room.sockets):
                    socket.drop()
                endings.create_task(room.live.end())

    def sessions(self) -> int:
        return sum(len(room.live.sessions()) for room in self.rooms.values())

    def sockets(self) -> int:
        return sum(len(room.sockets) for room in self.rooms.values())


PLATFORM = web.AppKey("platform", Platform)
