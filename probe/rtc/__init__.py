"""Everything that touches aiortc's and aioice's insides; drivers and the sandbox see what is named here.

Each file changes one part of them and says why at its top; `upstream` refuses to work on versions it does not know.
"""

from probe.rtc.assembly import AccessUnit, Counts
from probe.rtc.peer import Link, Peer, new_peer, prefer, warm
from probe.rtc.receiver import UnitReceiver, receive_units, request_keyframe
from probe.rtc.sender import Report, UnitSender, UnitTrack, on_keyframe_request, on_report

__all__ = [
    "AccessUnit",
    "Counts",
    "Link",
    "Peer",
    "Report",
    "UnitReceiver",
    "UnitSender",
    "UnitTrack",
    "new_peer",
    "on_keyframe_request",
    "on_report",
    "prefer",
    "receive_units",
    "request_keyframe",
    "warm",
]
