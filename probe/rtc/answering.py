"""The other side of offer and answer: what a server does with an offer (RFC 8829 section 5.3). The sandbox's, not a driver's."""

from __future__ import annotations

from aiortc import RTCSessionDescription
from aiortc.exceptions import InvalidAccessError, InvalidStateError, OperationError

from probe.errors import Unsupported
from probe.rtc.peer import Peer


async def answer(peer: Peer, offer: str) -> str:
    """Our answer with its candidates in it; connecting begins when this returns.

    Raises Unsupported where no codec is common, ValueError for an offer that cannot be read."""
    try:
        await peer.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        await peer.setLocalDescription(await peer.createAnswer())
    except OperationError as error:
        raise Unsupported(str(error)) from error
    except (ValueError, KeyError, IndexError, AssertionError, InvalidAccessError, InvalidStateError) as error:
        raise ValueError("not an offer") from error
    return peer.localDescription.sdp
