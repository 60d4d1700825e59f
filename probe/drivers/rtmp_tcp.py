"""What TCP itself knows of our bytes: how many the peer's TCP has acknowledged (RFC 4898 tcpEStatsAppHCThruOctetsAcked, Linux
`tcpi_bytes_acked`) and how many it has not (`SIOCOUTQ`).

It says that they reached the server's machine, not that the server read them; that is why whoever uses it says so. Counts are
compared with their own past only, so TLS and the handshake need no accounting. Linux only; elsewhere it knows nothing.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios

_BYTES_ACKED = 120  # offset in struct tcp_info, since Linux 4.1
_SIZE = 192


class TcpAcks:
    """One socket's. `covers` first marks what is under way, and from then on answers whether all of that has arrived."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._mark: int | None = None

    def acknowledged(self) -> int:
        """Bytes of the connection so far; 0 where that is not known."""
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
        except (OSError, ValueError):
            return 0
        if len(info) < _BYTES_ACKED + 8:
            return 0
        (acked,) = struct.unpack_from("=Q", info, _BYTES_ACKED)
        return int(acked)

    def covers(self, unsent: int) -> bool:
        """Whether what had been handed to the socket at the first call without `unsent` bytes has arrived."""
        if self._mark is None:
            if not unsent and (acked := self.acknowledged()):
                self._mark = acked + self._under_way()
            return False
        return self.acknowledged() >= self._mark

    def _under_way(self) -> int:
        try:
            (count,) = struct.unpack("i", fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, bytes(4)))
        except OSError:
            return 1 << 62  # closed: nothing arrives any more
        return int(count)
