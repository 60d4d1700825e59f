"""The one edge where aiohttp's, the socket's and OpenSSL's errors become ours; most specific first, always chained.

Where it happened matters as much as what: the connector says which step of opening a connection is under way, and
everything after it belongs to the phase the caller named. What this machine ran out of is not mapped: it propagates, for
it is nobody else's failure. Details are written here, from error codes; the text of a library's exception is never passed
on, because it may quote a URL or a header.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from aiohttp import http_exceptions
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from probe.errors import Failure
from probe.model.stage import Phase

_NO_REQUEST = aiohttp.RequestInfo(URL(), "", CIMultiDictProxy(CIMultiDict()), URL())
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_MISMATCH = frozenset({62, 63, 64})  # host name, email, IP address
_UNKNOWN_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL})
OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})  # the probe's own exhaustion blames nobody else
_RESET = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})


def of_resolving(error: Exception) -> Failure:
    if isinstance(error, TimeoutError):
        return Failure(Phase.RESOLVE, "timeout")
    if isinstance(error, socket.gaierror) and error.errno in _UNKNOWN_NAME:
        return Failure(Phase.RESOLVE, "not_found", "the name does not exist")
    return Failure(Phase.RESOLVE, "failed", (error.strerror or "") if isinstance(error, OSError) else "no such name can exist")


def of_connecting(error: Exception) -> Failure | None:
    """None for what is this machine's own fault."""
    code = error.errno if isinstance(error, OSError) else None
    if code in OURS:
        return None
    if isinstance(error, TimeoutError):
        return Failure(Phase.CONNECT, "timeout")
    if isinstance(error, ConnectionRefusedError) or code == errno.ECONNREFUSED:
        return Failure(Phase.CONNECT, "refused")
    if code in _RESET:
        return Failure(Phase.CONNECT, "reset")
    if code in _UNREACHABLE:
        return Failure(Phase.CONNECT, "unreachable")
    return Failure(Phase.CONNECT, "failed", errno.errorcode.get(code, "") if code else "every address failed differently")


def of_tls(error: Exception) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == _EXPIRED:
            return Failure(Phase.TLS, "expired", error.verify_message)
        if error.verify_code in _MISMATCH:
            return Failure(Phase.TLS, "wrong_host", "the certificate is for another host")
        return Failure(Phase.TLS, "untrusted", error.verify_message)
    if isinstance(error, TimeoutError):
        return Failure(Phase.TLS, "timeout")
    if isinstance(error, ssl.SSLError):
        return Failure(Phase.TLS, "failed", error.reason or "")
    return Failure(Phase.TLS, "failed", "the connection ended during the handshake")


def of_exchange(error: Exception, phase: Phase) -> Failure | None:
    """What went wrong on an open connection; None for an error that is not the network's, which must propagate."""
    if isinstance(error, Failure):
        return error
    chain = _chain(error)
    if any(isinstance(e, OSError) and e.errno in OURS for e in chain):
        return None
    if any(isinstance(e, http_exceptions.LineTooLong) for e in chain):
        return Failure(phase, "too_large", "a header line beyond all bounds")
    if any(isinstance(e, http_exceptions.BadHttpMessage) and "Too many headers" in str(e) for e in chain):
        return Failure(phase, "too_large", "too many headers")
    if any(isinstance(e, ssl.SSLError) for e in chain):
        return Failure(Phase.TLS, "failed", "the TLS connection broke")
    if isinstance(error, aiohttp.ServerTimeoutError | TimeoutError):
        return Failure(phase, "timeout")
    if any(isinstance(e, ConnectionError) or (isinstance(e, OSError) and e.errno in _RESET) for e in chain):
        return Failure(phase, "reset", "the connection was reset")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return Failure(phase, "closed", "the connection was closed before an answer")
    if isinstance(error, aiohttp.ClientPayloadError):
        if "ConnectionResetError" in str(error):  # all that aiohttp keeps of what ended the connection is its repr
            return Failure(phase, "reset", "the connection was reset in the middle of the body")
        if any(isinstance(e, http_exceptions.ContentLengthError | http_exceptions.TransferEncodingError) for e in chain):
            return Failure(phase, "closed", "the connection was closed in the middle of the body")
        return Failure(phase, "protocol", "the body is not what its headers say")
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return Failure(phase, "malformed", "not an http URL")
    if isinstance(error, aiohttp.ClientConnectionError):
        return Failure(phase, "closed", "the connection was closed")
    if isinstance(error, aiohttp.ClientError | http_exceptions.HttpProcessingError):
        return Failure(phase, "protocol", "the answer is not HTTP")
    if isinstance(error, OSError):
        return Failure(phase, "reset", errno.errorcode.get(error.errno, "") if error.errno else "")
    return None


@contextmanager
def mapped(phase: Phase) -> Iterator[None]:
    """Within, an error of an open connection becomes a Failure of `phase`; bugs propagate."""
    try:
        yield
    except Exception as error:
        failure = of_exchange(error, phase)
        if failure is None or failure is error:
            raise
        raise failure from scrubbed(error)


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what caused it, at most a handful."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(found) < 8:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def scrubbed(error: Exception) -> Exception:
    """The error without the request it quotes: aiohttp's keep URL and headers, and tracebacks print them."""
    for link in _chain(error):
        if isinstance(link, aiohttp.ClientResponseError):
            link.request_info = _NO_REQUEST
            link.history = ()
            link.headers = None
    return error
