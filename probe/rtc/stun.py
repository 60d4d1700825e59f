"""An ICE socket that tells STUN from everything else by the first byte (RFC 7983), and survives what is neither.

aioice 0.13 tries to read each datagram as STUN, media too, and what only begins like it may raise in the socket's callback.
"""

from __future__ import annotations

import struct
from typing import Any

from aioice.ice import StunProtocol
from aioice.stun import parse_message

_LAST_STUN = 3


class Socket(StunProtocol):
    """A host candidate's, or (`turn.Relay`) the far end of an allocation."""

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        assert isinstance(data, bytes)
        if data and data[0] > _LAST_STUN:
            self.receiver.data_received(data, self.local_candidate.component)
            return
        try:
            parse_message(data)
        except (ValueError, struct.error):
            return
        super().datagram_received(data, addr)
