"""What a negotiated codec says of itself: H.264 parameter sets sent in the SDP instead of the stream."""

from __future__ import annotations

import base64
import binascii

from aiortc.rtcrtpparameters import RTCRtpCodecParameters

LIMIT = 4096


def parameter_sets(codec: RTCRtpCodecParameters) -> bytes:
    """`sprop-parameter-sets` (RFC 6184 section 8.1) as Annex B; empty where there are none or they are not base64."""
    value = str(codec.parameters.get("sprop-parameter-sets") or "")
    if not value or len(value) > LIMIT:
        return b""
    try:
        return b"".join(b"\0\0\0\1" + base64.b64decode(part, validate=True) for part in value.split(",") if part)
    except (binascii.Error, ValueError):
        return b""
