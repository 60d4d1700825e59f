"""Why a listener refuses: the numbers it puts where a handshake's type stands.

The draft's own begin at 1000 (section 4.3.1). Those an application chooses (its access control: 1400 and on, as HTTP's) are
sent with another 1000 by libsrt and without by others; both are read.
"""

from __future__ import annotations

from probe.errors import Failure
from probe.model.stage import Phase
from probe.wire.srt.packets import REJECTED

_NAMES = {
    0: "unknown", 1: "system", 2: "by the peer", 3: "no resources", 4: "rogue", 5: "backlog full", 6: "internal error",
    7: "closing", 8: "version too old", 9: "cookie", 10: "wrong passphrase", 11: "encryption on one side only",
    12: "message API", 13: "congestion control", 14: "packet filter", 15: "group", 16: "timeout", 17: "cipher",
    400: "bad request", 401: "unauthorised", 402: "overloaded", 403: "forbidden", 404: "not found", 405: "bad mode",
    406: "unacceptable", 407: "conflict", 409: "conflict", 415: "media not supported", 423: "locked", 424: "failed dependency",
    500: "internal server error", 501: "not implemented", 502: "bad gateway", 503: "down", 505: "version", 507: "no room",
}  # fmt: skip
_SECRET = frozenset({10, 11, 401, 403})


def refusal(number: int) -> Failure:
    """A refusing handshake type as a failure: of auth where a secret or a right was wanting, else of the handshake."""
    code = number - REJECTED
    if 1400 <= code < 2000:
        code -= 1000
    what = f"rejected ({number}): {_NAMES.get(code, 'a reason of its own')}"
    if code in _SECRET:
        return Failure(Phase.AUTH, "refused", what)
    return Failure(Phase.HANDSHAKE, "refused", what)
