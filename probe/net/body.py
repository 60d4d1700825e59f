"""Reading a body that may be endless, slow, or a bomb.

The probe asks for `identity`. A server that compresses all the same is read too, piece by piece. It is the decompressed size
that is limited, and how much larger it may be than what was sent, for some bodies have no end. Encodings we did not ask for and
cannot undo piecewise are a breach of RFC 9110 §12.5.3.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from probe.errors import Failure
from probe.model.stage import Phase

_PIECE = 64 * 1024
_MOST_TIMES = 100  # larger than what was sent: a bomb, once it is
_SMALL = 4 << 20  # no longer small


class Decoder:
    """Undoes `Content-Encoding` and counts against `limit` (bytes of content)."""

    def __init__(self, encoding: str, limit: int, phase: Phase) -> None:
        name = encoding.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise Failure(phase, "protocol", "a content encoding nobody asked for")
        self._inflate = None if name in ("", "identity") else zlib.decompressobj(47 if "gzip" in name else 15)
        self._limit = limit
        self._phase = phase
        self._sent = 0
        self.size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The content of `data`, in pieces. Raises Failure(phase, too_large | protocol)."""
        if self._inflate is None:
            yield self._counted(data)
            return
        self._sent += len(data)
        while data:
            try:
                piece = self._inflate.decompress(data, _PIECE)
            except zlib.error as error:
                raise Failure(self._phase, "protocol", "the body is not what its encoding says") from error
            data = self._inflate.unconsumed_tail
            if piece:
                yield self._counted(piece)
            elif not data or self._inflate.eof:
                return

    def end(self) -> None:
        """The body is over. Raises Failure(phase, closed) where its compressed form is not."""
        if self._inflate is not None and self.size and not self._inflate.eof:
            raise Failure(self._phase, "closed", "the compressed body has no end")

    def _counted(self, data: bytes) -> bytes:
        self.size += len(data)
        if self.size > self._limit:
            raise Failure(self._phase, "too_large", f"more than {self._limit} bytes")
        if self._inflate is not None and self.size > max(_SMALL, _MOST_TIMES * self._sent):
            raise Failure(self._phase, "too_large", f"more than {_MOST_TIMES} times what was sent")
        return data
