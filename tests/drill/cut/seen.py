"""What really happened, seen apart from what the probe makes of it: every picture as its decoder read it, every packet as the
kernel stamped it.

Pictures are copied where a session takes them from its decoder, before verification, stalls and cuts are judged: the code's
stamp, when its bytes arrived, when it was shown. What a decoder made up of what it lacked (the code is there, the picture below
it is not the programme's) is no picture, and what comes to a connection that was given up is shown to nobody.

Packets are read off our end of the cable (packet(7)); a cut begins with the last that passed and
ends with the first.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from probe.media.feed import Feed
from probe.model.clock import MS, Clock
from probe.model.frames import FrameRecord, Record
from probe.run import stay

_TIMESTAMPNS, _RCVBUFFORCE, _OUTGOING, _ETH_P_IP = 35, 33, 4, 0x0800
_TCP, _UDP = 6, 17


@dataclass(frozen=True, slots=True)
class Picture:
    stamp: int  # ns, the publisher's clock turned into the monotonic one
    arrived: int  # monotonic ns
    shown: int


@dataclass(frozen=True, slots=True)
class Packet:
    at: int  # monotonic ns
    theirs: int  # the platform's port
    ours: int
    down: bool
    datagram: bool
    size: int


@contextmanager
def pictures(clock: Clock) -> Iterator[dict[str, list[Picture]]]:
    """Of every session, as it takes them."""
    found: dict[str, list[Picture]] = defaultdict(list)
    offset = clock.wall().unix_ns - clock.now()

    class Tapped(Feed):
        def __init__(self, clock, limit: int = 512) -> None:
            super().__init__(clock, limit)
            task = asyncio.current_task()
            assert task is not None
            self._of = found[task.get_name().rpartition(" ")[2]]  # `attempt N of SESSION`

        async def get(self) -> Record | None:
            record = await super().get()
            if isinstance(record, FrameRecord) and record.code is not None and record.intact is not False:
                self._of.append(Picture(record.code.stamp_ms * MS - offset, record.arrived, record.shown))
            return record

    vars(stay)["Feed"] = Tapped
    try:
        yield found
    finally:
        vars(stay)["Feed"] = Feed


@dataclass
class Wire:
    """Packets between us and the platform, in a thread; the kernel's time, turned into the monotonic one."""

    device: str
    packets: list[Packet] = field(default_factory=list)
    dropped: int = 0

    def __enter__(self) -> Wire:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
        self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 16 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
        self._socket.bind((self.device, _ETH_P_IP))
        self._socket.settimeout(0.1)
        self._offset = time.time_ns() - time.monotonic_ns()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        _, self.dropped = struct.unpack("II", self._socket.getsockopt(263, 6, 8))  # SOL_PACKET, PACKET_STATISTICS
        self._socket.close()

    def _read(self) -> None:
        while not self._over.is_set():
            try:
                data, more, _, address = self._socket.recvmsg(64, 64)
            except TimeoutError:
                continue
            seconds, ns = struct.unpack("qq", more[0][2])
            down = address[2] != _OUTGOING
            length, protocol, at = int.from_bytes(data[2:4], "big"), data[9], (data[0] & 15) * 4
            if protocol not in (_TCP, _UDP):
                continue
            ports = struct.unpack("!HH", data[at : at + 4])
            theirs, ours = ports if down else ports[::-1]
            header = 8 if protocol == _UDP else (data[at + 12] >> 4) * 4
            moment = seconds * 10**9 + ns - self._offset
            self.packets.append(Packet(moment, theirs, ours, down, protocol == _UDP, length - at - header))

    def passed(self, ports: Collection[int], begin: int, end: int) -> list[Packet]:
        """Those to us, of these ports of the platform, in that time."""
        return [p for p in self.packets if p.down and begin <= p.at <= end and p.theirs in ports]


@dataclass(frozen=True, slots=True)
class Truth:
    """Of one viewer in one cut, ns. `outage`: the longest time without a newer picture that touches the cut. `reconnect`: from
    the return of the path to the first newer picture whose bytes arrived after it. None: none came."""

    outage: int | None
    reconnect: int | None


def truth(seen: list[Picture], began: int, restored: int, until: int, oldest: int, counted: int | None = None) -> Truth:
    """By the frame codes alone. A picture older than `oldest` when it is shown is not what is live. `counted`: where the return
    was seen later, the instant from which a reconnect counts."""
    newest, last, worst = 0, began, 0
    for picture in sorted(seen, key=lambda p: p.shown):
        if picture.shown > until:
            break
        if picture.stamp <= newest or picture.shown - picture.stamp > oldest:
            continue
        newest = picture.stamp
        if picture.shown > began:
            worst = max(worst, picture.shown - last)
            if picture.arrived > restored:
                return Truth(worst, max(0, picture.shown - (restored if counted is None else counted)))
        last = picture.shown
    return Truth(None, None)
