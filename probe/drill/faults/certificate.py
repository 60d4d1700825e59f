"""A server's certificate replaced: an expired one, one for another name, one that nobody trusts, or one of yours.

What was there is kept beside it under our name before anything is replaced, file by file by rename, so that at every instant the
server finds a whole file; put back by rename again. Who renewed it meanwhile keeps theirs. Whether it is served is asked of the
server, by a handshake: a file in place before its reload is not injected. Without `issuer` what is made is untrusted as well,
since only the real issuer could sign it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID
from pydantic import Field, model_validator

from probe.decide.command import run_command
from probe.drill.faults.base import (
    Command,
    FaultIO,
    Klass,
    NotUndone,
    Observed,
    Params,
    Prepared,
    Preparing,
    Record,
    Refused,
    State,
)
from probe.errors import ProbeError
from probe.model.clock import NS, Clock

_HANDSHAKE = 2.0  # s
_LOOKS = 3  # handshakes: workers of before a reload may still answer beside those of after it
_RELOAD = 10.0
_MOST = 256 * 1024  # bytes of a file
_AGO = timedelta(days=1)


class Files(Params):
    """PEM files."""

    certificate: Path
    key: Path


class Certificate(Params):
    """`certificate` and `key`: the server's files. `reload`: what makes it read them again; no shell. `verify`: where it serves,
    host:port. `make`: what takes their place, signed by `issuer` where that is given; or `use`: files of yours."""

    certificate: Path
    key: Path
    reload: tuple[str, ...] = Field(min_length=1)
    verify: str = Field(pattern=r"^[^:\s]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$")
    name: str = Field(default="", description="server name asked for; default: the host of verify")
    make: Literal["expired", "other_name", "untrusted"] | None = None
    issuer: Files | None = None
    use: Files | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.make is None) == (self.use is None):
            raise ValueError("says neither or both of make and use; one of them takes the certificate's place")
        return self


class CertificateFault:
    """Row `certificate`."""

    about: ClassVar[str] = "a server's TLS certificate replaced by an expired, foreign or untrusted one"
    params: ClassVar[type[Params]] = Certificate

    async def prepare(self, params: Certificate, given: Preparing) -> Prepared:
        raw = {which: _contents(getattr(params, which), which) for which in ("certificate", "key")}
        try:
            own = x509.load_pem_x509_certificate(raw["certificate"])
        except ValueError:
            raise Refused(f"{params.certificate} holds no certificate", "certificate") from None
        for path in (params.certificate, params.key):
            if not os.access(path.parent, os.W_OK):
                raise Refused(f"{path.parent} cannot be written to by this user", "certificate")
        for which, files in (("use", params.use), ("issuer", params.issuer)):
            if files is not None:
                _pair(files, which)
        print_ = _fingerprint(own)
        record: dict[str, Any] = params.model_dump(mode="json") | {"fingerprint": print_, "token": given.token}
        record |= {"inject_within": int((_RELOAD + 2) * NS), "seen_within": int(_RELOAD * NS)}  # its workers change over
        try:
            served = await _served(record)
        except _NotSeen as error:
            raise Refused(str(error), "verify") from None
        if _fingerprint(served) != print_:
            raise Refused(f"{params.verify} serves another certificate than {params.certificate}", "verify")
        instead = params.make or str(params.use and params.use.certificate)
        reload = " ".join(params.reload)
        return Prepared(
            klass=Klass.REVERSIBLE,
            targets=(f"certificate:{params.certificate}",),
            of=1,
            record=record,
            commands=tuple(
                Command(do=f"replace {path} ({instead}); {reload}", undo=f"mv {_kept(path, given.token)} {path}; {reload}")
                for path in (params.certificate, params.key)
            ),
        )

    async def inject(self, record: Record, io: FaultIO) -> None:
        made = await asyncio.to_thread(_made, record, io.clock)
        for which in ("key", "certificate"):
            await asyncio.to_thread(_replace, Path(record[which]), io.token, made[which])
        await _reload(record, ProbeError)

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        try:
            seen = [await _served(record) for _ in range(_LOOKS)]
        except _NotSeen as error:
            return Observed(State.UNKNOWN, str(error))
        ours = [_ours(served, record) for served in seen]
        if all(ours):
            return Observed(State.INJECTED, f"serves one that ends {seen[0].not_valid_after_utc:%Y-%m-%d}")
        if any(ours):
            return Observed(State.UNKNOWN, "some of its workers serve the one, some the other")
        if all(_fingerprint(served) == record["fingerprint"] for served in seen):
            return Observed(State.RESTORED, "its own certificate is served")
        return Observed(State.RESTORED, "a certificate is served that is neither: it was renewed meanwhile")

    async def restore(self, record: Record, io: FaultIO) -> None:
        try:
            for which in ("certificate", "key"):
                await asyncio.to_thread(_put_back, Path(record[which]), io.token)
        except OSError as error:
            raise NotUndone(f"{record['certificate']} cannot be put back: {error.strerror}") from None
        await _reload(record, NotUndone)


class _NotSeen(Exception):
    """The server could not be asked which certificate it has."""


async def _served(record: Record) -> x509.Certificate:
    """What is presented to a client. Raises _NotSeen."""
    host, _, port = record["verify"].rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a wrong one is what we come to see
    try:
        async with asyncio.timeout(_HANDSHAKE):
            name = record["name"] or host.strip("[]")
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context, server_hostname=name)
            try:
                der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            finally:
                writer.transport.abort()
        return x509.load_der_x509_certificate(der)
    except TimeoutError:
        raise _NotSeen(f"{record['verify']} did not shake hands within {_HANDSHAKE:g} s") from None
    except (OSError, ValueError, TypeError) as error:
        raise _NotSeen(f"{record['verify']} did not shake hands: {type(error).__name__}") from None


def _made(record: Record, clock: Clock) -> dict[str, bytes]:
    """What takes the place of each file."""
    if record["use"] is not None:
        return {which: _contents(Path(record["use"][which]), "use") for which in ("certificate", "key")}
    own = x509.load_pem_x509_certificate(_contents(Path(record["certificate"]), "certificate"))
    now = datetime.fromtimestamp(clock.wall().unix_ns / 1e9, UTC)
    ends = now - _AGO if record["make"] == "expired" else now + _AGO
    key = ec.generate_private_key(ec.SECP256R1())
    signer: CertificateIssuerPrivateKeyTypes = key
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"sp-{record['token']}")])
    issuer = subject
    if record["issuer"] is not None:
        certificate, signer = _pair(Files.model_validate(record["issuer"]), "issuer")
        issuer = certificate.subject
    names = [x509.DNSName("wrong.invalid")] if record["make"] == "other_name" else _names(own)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, ends) - 30 * _AGO)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"certificate": builder.sign(signer, hashes.SHA256()).public_bytes(pem), "key": private}


def _names(certificate: x509.Certificate) -> Sequence[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return [x509.DNSName("wrong.invalid")]


def _ours(certificate: x509.Certificate, record: Record) -> bool:
    if record["use"] is not None:
        return _fingerprint(certificate) == _fingerprint(_pair(Files.model_validate(record["use"]), "use")[0])
    named = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return any(one.value == f"sp-{record['token']}" for one in named)


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _pair(files: Files, where: str) -> tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes]:
    """Raises Refused."""
    try:
        certificate = x509.load_pem_x509_certificate(_contents(files.certificate, where))
        key = serialization.load_pem_private_key(_contents(files.key, where), None)
    except (ValueError, TypeError):
        raise Refused("is no certificate with its key, in PEM and without a password", where) from None
    return certificate, key  # type: ignore[return-value]  # which keys can sign is for signing to say


def _contents(path: Path, where: str) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST + 1)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}", where) from None
    if len(raw) > _MOST:
        raise Refused(f"{path} is longer than {_MOST // 1024} KiB", where)
    return raw


def _kept(path: Path, token: str) -> Path:
    """Where what was there is kept."""
    return path.with_name(f"{path.name}.sp-{token}")


def _mark(path: Path, token: str) -> Path:
    """Holds the digest of what we put there."""
    return path.with_name(f"{path.name}.sp-{token}.ours")


def _replace(path: Path, token: str, instead: bytes) -> None:
    """Kept, marked, replaced, in this order and each on disk before the next."""
    kept, mark, new = _kept(path, token), _mark(path, token), path.with_name(f"{path.name}.sp-{token}.new")
    was = path.stat()
    os.link(path, kept, follow_symlinks=False)
    for file, contents in ((mark, hashlib.sha256(instead).hexdigest().encode()), (new, instead)):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, contents)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    os.chmod(new, was.st_mode & 0o777)
    with contextlib.suppress(PermissionError):
        os.chown(new, was.st_uid, was.st_gid)
    _settled(path.parent)
    new.replace(path)
    _settled(path.parent)


def _put_back(path: Path, token: str) -> None:
    """Where what is there is ours still; idempotent, and harmless where nothing was replaced."""
    kept, mark = _kept(path, token), _mark(path, token)
    if os.path.lexists(kept):
        ours = mark.read_text() if mark.exists() else ""
        if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == ours:
            kept.replace(path)
        else:
            kept.unlink()
    for left in (mark, path.with_name(f"{path.name}.sp-{token}.new")):
        left.unlink(missing_ok=True)
    _settled(path.parent)


def _settled(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _reload(record: Record, error: type[ProbeError]) -> None:
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    well, said = await run_command(record["reload"], environment, _RELOAD)
    if not well:
        raise error(f"the reload {said[:120]}")
